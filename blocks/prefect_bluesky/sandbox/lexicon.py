"""Check JSON against a lexicon schema, with the messages of a PDS.

A check is a function of a value and the value's path, and raises `Invalid` at the first fault. The functions below
build the schemas. The order of the lexicon's fields decides which fault is reported first.

Example:
    >>> check = fields({"text": string(max_bytes=3000), "langs?": array(string(), max_items=3)})
    >>> check({"text": "hi", "langs": None}, ("record",))
    Traceback (most recent call last):
    ...
    prefect_bluesky.sandbox.lexicon.Invalid: Expected array value type (got null) at $.record.langs
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import regex

from .identifiers import is_blob_link, is_cid, is_link

Path = tuple[str | int, ...]
Check = Callable[[Any, Path], None]

_MAX_INTEGER = 2**53 - 1
_DID = r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]"
_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_HANDLE = rf"({_LABEL}\.)+(?=[a-zA-Z]){_LABEL}"
_NSID = rf"(?=[a-zA-Z])({_LABEL}\.){{2,}}[a-zA-Z][a-zA-Z0-9]{{0,62}}"
_KEY = r"(?!\.\.?$)[a-zA-Z0-9_~.:-]{1,512}"
_POINTER = r"/([a-zA-Z0-9._~:@!$&'()*+,;=\[\]/-]|%[0-9a-fA-F]{2})*"
_LANGUAGE = (
    r"[a-z]{2,3}(-[A-Za-z]{3}){0,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|\d{3}))?(-([A-Za-z0-9]{5,8}|\d[A-Za-z0-9]{3}))*"
    r"(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?"
)
_OLD_LANGUAGE = (
    "en-GB-oed|sgn-(BE-FR|BE-NL|CH-DE)|i-(ami|bnn|default|enochian|hak|klingon|lux|mingo|navajo|pwn|tao|tay|tsu)"
)
# JavaScript's white space. Python has fewer characters in ASCII and more in Unicode.
_SPACE = r"\t-\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_PATTERNS = {
    "at-identifier": f"{_DID}|{_HANDLE}",
    "at-uri": f"at://({_DID}|{_HANDLE})(/{_NSID}(/{_KEY})?)?(#{_POINTER})?",
    # A PDS accepts the 30th of February, but no leap second.
    "datetime": r"(?=.{,64}$)\d{4}-(0[1-9]|1[012])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?"
    r"(Z|(?!-00:00)[+-]([01]\d|2[0-3]):[0-5]\d)",
    "did": _DID,
    "handle": _HANDLE,
    "language": f"{_LANGUAGE}|[xX](-[A-Za-z0-9]{{1,8}})+|{_OLD_LANGUAGE}",
    "nsid": _NSID,
    "record-key": _KEY,
    "tid": r"[234567a-j][234567a-z]{12}",
    "uri": rf"\w+:(?://)?[^{_SPACE}/][^{_SPACE}]*",
}
_FORMS = {name: re.compile(pattern, re.ASCII) for name, pattern in _PATTERNS.items()}
_FORM_NAMES = {
    "at-identifier": "AT identifier",
    "cid": "CID string",
    "did": "DID",
    "nsid": "NSID",
    "record-key": "record key",
    "tid": "TID string",
}


class Invalid(Exception):
    """A value that breaks its schema. `str()` is the PDS's message with the path, `.message` without the path."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(f"{message} at ${''.join(map(_step, path))}")
        self.message = message


def string(form: str | None = None, *, max_bytes: int | None = None, max_graphemes: int | None = None) -> Check:
    """Check a string of a form such as "did", with at most `max_bytes` of UTF-8 and `max_graphemes` characters."""

    def check(value: Any, path: Path) -> None:
        if not isinstance(value, str):
            raise _wrong_type("string", value, path)
        if max_bytes is not None and (size := len(value.encode())) > max_bytes:
            raise Invalid(f"string too big (maximum {max_bytes}, got {size})", path)
        if max_graphemes is not None and (count := len(regex.findall(r"\X", value))) > max_graphemes:
            raise Invalid(f"grapheme too big (maximum {max_graphemes}, got {count})", path)
        if form is not None and not has_form(value, form):
            raise Invalid(f"Invalid {_FORM_NAMES.get(form, form)} (got {_shown(value)})", path)

    return check


def integer(minimum: int | None = None, maximum: int | None = None) -> Check:
    """Check a whole number in the range of JavaScript."""

    def check(value: Any, path: Path) -> None:
        if not _is_integer(value):
            raise _wrong_type("integer", value, path)
        if minimum is not None and value < minimum:
            raise Invalid(f"integer too small (minimum {minimum}, got {value})", path)
        if maximum is not None and value > maximum:
            raise Invalid(f"integer too big (maximum {maximum}, got {value})", path)

    return check


def boolean(value: Any, path: Path) -> None:
    """Check a boolean."""
    if not isinstance(value, bool):
        raise _wrong_type("boolean", value, path)


def nullable(check: Check) -> Check:
    """Accept null, and everything that `check` accepts."""
    return lambda value, path: None if value is None else check(value, path)


def array(items: Check, max_items: int | None = None) -> Check:
    """Check a list of at most `max_items`."""

    def check(value: Any, path: Path) -> None:
        if not isinstance(value, list):
            raise _wrong_type("array", value, path)
        if max_items is not None and len(value) > max_items:
            raise Invalid(f"array too big (maximum {max_items}, got {len(value)})", path)
        for index, item in enumerate(value):
            items(item, (*path, index))

    return check


def fields(checks: Mapping[str, Check]) -> Check:
    """Check an object. A field with "?" may be missing (but not be null). Unlisted fields are accepted."""

    def check(value: Any, path: Path) -> None:
        if not _is_object(value):
            raise _wrong_type("object", value, path)
        for name, check_field in checks.items():
            key = name.removesuffix("?")
            if key in value:
                check_field(value[key], (*path, key))
            elif key == name:
                raise Invalid(f'Missing required key "{key}"', path)

    return check


def typed(kind: str, checks: Mapping[str, Check]) -> Check:
    """Check an object whose `$type` may be missing, but must not differ."""
    check_fields = fields(checks)

    def check(value: Any, path: Path) -> None:
        if _is_object(value) and value.get("$type", kind) != kind:
            raise Invalid(f"Expected {_shown(kind)} (got {_shown(value['$type'])})", (*path, "$type"))
        check_fields(value, path)

    return check


def union(members: Mapping[str, Check], *, closed: bool = False) -> Check:
    """Check an object by its `$type`. Unknown types are accepted unless `closed`."""

    def check(value: Any, path: Path) -> None:
        if not _is_object(value) or "$type" not in value:
            raise _wrong_type('an object which includes the "$type" property', value, path)
        kind = value["$type"]
        if isinstance(kind, str) and kind in members:
            members[kind](value, path)
        elif closed:
            raise Invalid(f"Expected {_one_of(members)} (got {_shown(kind)})", (*path, "$type"))
        elif not isinstance(kind, str):
            raise _wrong_type("string", kind, (*path, "$type"))

    return check


def blob(accept: str, max_bytes: int) -> Check:
    """Check a reference to an uploaded blob of a type such as "image/*"."""

    def check(value: Any, path: Path) -> None:
        if not is_blob_ref(value):
            raise _wrong_type("blob", value, path)
        if not (value["mimeType"] == accept or (accept.endswith("/*") and value["mimeType"].startswith(accept[:-1]))):
            raise Invalid(f"Expected {_shown(accept)} (got {_shown(value['mimeType'])})", (*path, "mimeType"))
        if value["size"] > max_bytes:
            raise Invalid(f"blob too big (maximum {max_bytes}, got {value['size']})", path)

    return check


def any_object(value: Any, path: Path) -> None:
    """Check an object of any values that a record may contain: all but floats."""
    if not _is_object(value):
        raise _wrong_type("object", value, path)
    _any_value(value, path)


def is_blob_ref(value: Any) -> bool:
    """Return True for a reference to a blob: `{"$type": "blob", "ref": ..., "mimeType": ..., "size": ...}`."""
    return (
        isinstance(value, dict)
        and value.get("$type") == "blob"
        and set(value) == {"$type", "ref", "mimeType", "size"}
        and isinstance(value["mimeType"], str)
        and "/" in value["mimeType"]
        and _is_integer(value["size"])
        and value["size"] >= 0
        and is_blob_link(value["ref"])
    )


def is_did(text: str) -> bool:
    """Return True if a text has the form of a DID, of any method."""
    return has_form(text, "did")


def has_form(value: str, form: str) -> bool:
    """Return True if a text has a form of the AT Protocol, such as "nsid"."""
    return is_cid(value) if form == "cid" else _FORMS[form].fullmatch(value) is not None


def _any_value(value: Any, path: Path) -> None:
    if _is_object(value):
        for key, item in value.items():
            _any_value(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _any_value(item, (*path, index))
    elif not (value is None or isinstance(value, bool | str) or _is_integer(value) or is_link(value)):
        raise _wrong_type("one of null, boolean, integer, string, cid, bytes, array or object", value, path)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INTEGER


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_link(value)


def _wrong_type(expected: str, value: Any, path: Path) -> Invalid:
    return Invalid(f"Expected {expected} value type (got {_shown(value)})", path)


def _one_of(names: Mapping[str, Check]) -> str:
    *first, last = (_shown(name) for name in names)
    return f"one of {', '.join(first)} or {last}" if first else last


def _shown(value: Any) -> str:
    if is_link(value):
        return "cid"
    if isinstance(value, dict):
        return "{" + _first_two([f"{json.dumps(key)}: ..." for key in value]) + "}"
    if isinstance(value, list):
        return "[" + _first_two([_shown(item) for item in value]) + "]"
    if isinstance(value, str) and len(units := value.encode("utf-16-le")) >= 2 * 256:
        value = units[: 2 * 255].decode("utf-16-le", "ignore") + "…"  # JavaScript counts in UTF-16
    return json.dumps(value, ensure_ascii=False)


def _step(step: str | int) -> str:
    is_name = isinstance(step, str) and re.fullmatch(r"[a-zA-Z_$][a-zA-Z0-9_]*", step)
    return f".{step}" if is_name else f"[{json.dumps(step, ensure_ascii=False)}]"


def _first_two(shown: Sequence[str]) -> str:
    return ", ".join(shown[:2]) + (", ..." if len(shown) > 2 else "")
