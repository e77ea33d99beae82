"""What a granted scope allows (https://atproto.com/specs/permission), and what a PDS does not understand."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

from prefect_bluesky.sandbox.lexicon import has_form, is_did
from prefect_bluesky.sandbox.refusal import Refusal

POSTING = (
    "atproto repo?collection=app.bsky.feed.post&collection=app.bsky.feed.threadgate"
    "&collection=app.bsky.feed.postgate&action=create blob:image/*"
)
"""The scope of an account that posts, and does nothing else."""

_STATIC = {"atproto", "transition:email", "transition:generic", "transition:chat.bsky"}
_ACTIONS = ("create", "update", "delete")
_ACCEPT = re.compile(r"\*/\*|[^/\s*]+/([^/\s*]+|[^/\s]*\*)")
# What `encodeURIComponent` leaves as it is, and what a PDS makes plain again.
_PLAIN = "-_.!~*'():/+,@%"


@dataclass(frozen=True)
class _Parameter:
    is_valid: Callable[[str], bool]
    multiple: bool = False
    required: bool = True


def _is_nsid(value: str) -> bool:
    return has_form(value, "nsid")


def _any_or_nsid(value: str) -> bool:
    return value == "*" or _is_nsid(value)


def _service(value: str) -> bool:
    did, hash_, service = value.partition("#")
    return bool(hash_ and service) and is_did(did)


_KINDS: dict[str, dict[str, _Parameter]] = {
    "repo": {
        "collection": _Parameter(_any_or_nsid, multiple=True),
        "action": _Parameter(_ACTIONS.__contains__, multiple=True, required=False),
    },
    "blob": {"accept": _Parameter(lambda value: bool(_ACCEPT.fullmatch(value)), multiple=True)},
    "rpc": {
        "lxm": _Parameter(_any_or_nsid, multiple=True),
        "aud": _Parameter(lambda value: value == "*" or _service(value)),
    },
    "account": {
        "attr": _Parameter({"email", "repo", "status"}.__contains__),
        "action": _Parameter({"read", "manage"}.__contains__, multiple=True, required=False),
    },
    "identity": {"attr": _Parameter({"handle", "*"}.__contains__)},
    "include": {"nsid": _Parameter(_is_nsid), "aud": _Parameter(_service, required=False)},
}
"""The parameters of each kind of scope. What stands after the colon is the first one."""


@dataclass(frozen=True)
class _Scope:
    kind: str
    values: dict[str, list[str]]

    def names(self, parameter: str, value: str) -> bool:
        return not {value, "*"}.isdisjoint(self.values.get(parameter, []))


def _parsed(text: str) -> _Scope | None:
    head, _, query = text.partition("?")
    kind, colon, first = head.partition(":")
    parameters = _KINDS.get(kind, {})
    values = parse_qs(query, keep_blank_values=True)
    if colon and parameters:
        name = next(iter(parameters))
        if name in values:
            return None
        values[name] = [unquote(first)]
    if not parameters or not values.keys() <= parameters.keys():
        return None
    for name, parameter in parameters.items():
        found = values.get(name, [])
        if (not found and parameter.required) or (len(found) > 1 and not parameter.multiple):
            return None
        if not all(map(parameter.is_valid, found)):
            return None
    if kind == "rpc" and values["aud"] == ["*"] and "*" in values["lxm"]:
        return None
    return _Scope(kind, values)


def understood(scope: str) -> str:
    """Return a scope without what a PDS does not understand.

    Example:
        >>> understood("atproto foo:bar repo:nodots blob:image/*")
        'atproto blob:image/*'
    """
    known = (each for each in dict.fromkeys(scope.split(" ")) if each in _STATIC or _parsed(each))
    return " ".join(known)


def included(scope: str) -> list[str]:
    """Return the names of the permission sets in a scope."""
    parsed = map(_parsed, scope.split(" "))
    return [found.values["nsid"][0] for found in parsed if found and found.kind == "include"]


class Permissions:
    """What a granted scope allows. `transition:generic` allows what an app password does.

    Example:
        >>> Permissions("atproto repo:app.bsky.feed.post?action=create").needs_record("app.bsky.feed.post", "delete")
        Traceback (most recent call last):
        ...
        prefect_bluesky.sandbox.refusal.Refusal: 403 ScopeMissingError: Missing required scope "repo:app.bsky.feed.post?action=delete"
    """  # noqa: E501

    def __init__(self, scope: str) -> None:
        self._texts = set(scope.split(" "))
        self._scopes = [parsed for parsed in map(_parsed, scope.split(" ")) if parsed]

    @property
    def reads_email(self) -> bool:
        """Whether the scope allows to read the account's address."""
        return "transition:email" in self._texts or any(each.names("attr", "email") for each in self._of("account"))

    def needs_record(self, collection: str, action: str) -> None:
        """Refuse what is not allowed.

        Raises:
            Refusal: 403. It names the scope that is missing.
        """
        allowed = (
            each.names("collection", collection) and action in each.values.get("action", _ACTIONS)
            for each in self._of("repo")
        )
        if not (self._is_generic or any(allowed)):
            raise _missing(f"repo:{_quoted(collection)}?action={action}")

    def needs_blob(self, content_type: str) -> None:
        """As `needs_record`, for an upload of this type."""
        patterns = (pattern for each in self._of("blob") for pattern in each.values["accept"])
        is_type = "*" not in content_type
        if not (self._is_generic or (is_type and any(_accepts(pattern, content_type) for pattern in patterns))):
            raise _missing(f"blob:{_quoted(content_type)}")

    def needs_call(self, method: str, audience: str) -> None:
        """As `needs_record`, for a method of another service, which `audience` names."""
        chat = method.startswith("chat.bsky.")
        allowed = (each.names("lxm", method) and each.names("aud", audience) for each in self._of("rpc"))
        in_transition = "transition:chat.bsky" in self._texts if chat else self._is_generic
        if not (in_transition or any(allowed)):
            raise _missing(f"rpc:{_quoted(method)}?aud={_quoted(audience)}")

    @property
    def _is_generic(self) -> bool:
        return "transition:generic" in self._texts

    def _of(self, kind: str) -> Iterator[_Scope]:
        return (each for each in self._scopes if each.kind == kind)


def _accepts(pattern: str, content_type: str) -> bool:
    if pattern == "*/*":
        return True
    return content_type.startswith(pattern[:-1]) if pattern.endswith("/*") else content_type == pattern


def _quoted(value: str) -> str:
    return quote(value, safe=_PLAIN)


def _missing(scope: str) -> Refusal:
    return Refusal(403, "ScopeMissingError", f'Missing required scope "{scope}"')
