"""Normalise or refuse a person's input, in plain words.

A login gives the same answer to a wrong password, an `@handle`, a trailing newline and an unknown handle. So this
module distinguishes them before any request.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Any, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from prefect_bluesky.errors import InvalidInput

# https://atproto.com/specs/handle and https://atproto.com/specs/did
_HANDLE = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_DID = re.compile(r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]")
_APP_PASSWORD = re.compile(r"[a-z2-7]{4}(-[a-z2-7]{4}){3}")
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*|[0-9a-f:.]+")
_SECRET_PREFIX = re.compile(r"[A-Za-z0-9/_+=.@-]{1,256}")
# Prefect shows this in place of a secret, and stores it in a run's parameters.
_MASK = re.compile(r"\*{4,}")


def normal_account(handle: str) -> str:
    """Return a handle in lower case without its `@`, or a DID unchanged.

    Raises:
        InvalidInput: the text is neither.

    Example:
        >>> normal_account(" @Alice.bsky.social ")
        'alice.bsky.social'
    """
    # A handle copied from a profile page often contains invisible direction marks.
    visible = "".join(character for character in handle if unicodedata.category(character) not in {"Cf", "Cc"})
    account = visible.strip().removeprefix("@").strip()
    if looks_like_app_password(account.lower()):
        raise InvalidInput("handle", "this is an app password.", "Put it into app_password, and the handle here.")
    if account.startswith("did:"):
        if _DID.fullmatch(account) and len(account) <= 2048:
            return account
        raise InvalidInput("handle", f"{account!r} is not a DID.", "A DID looks like did:plc:ewvi7nxzyoun6zhxrhs64oiz.")
    account = account.lower()
    if _HANDLE.fullmatch(account) and len(account) <= 253:
        return account
    reason = f"{account!r} is not a handle" + ("." if "." in account else ": it has no domain.")
    raise InvalidInput("handle", reason, "Write it in full, such as alice.bsky.social, or use the account's DID.")


def normal_app_password(password: str) -> str:
    """Return the app password without surrounding spaces and line breaks.

    Raises:
        InvalidInput: the password is empty, is Prefect's mask, is quoted, or contains an invisible character.
    """
    password = password.strip()
    if not password:
        raise InvalidInput(
            "app_password", "the app password is empty.", "Create one in the Bluesky app and put it here."
        )
    if _MASK.fullmatch(password):
        raise InvalidInput(
            "app_password",
            f"{password!r} is the mask that Prefect stores in place of a secret, not the app password.",
            "Start the run from a saved block: select it in the form, or pass a reference to it instead of an object.",
        )
    if password[0] in "\"'`" or password[-1] in "\"'`":
        raise InvalidInput("app_password", "the app password is quoted.", "Give only the text between them.")
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs"} for character in password):
        reason = "the app password contains a line break or another invisible character."
        raise InvalidInput("app_password", reason, "Copy it again, in one line.")
    return password


def looks_like_app_password(password: str) -> bool:
    """Return whether a text has the form of Bluesky's app passwords: `xxxx-xxxx-xxxx-xxxx`."""
    return _APP_PASSWORD.fullmatch(password) is not None


def normal_service_url(url: str, field: str = "service_url", example: str = "https://bsky.social") -> str:
    """Return the origin of a service, without a trailing slash or `/xrpc`. Errors name `field` and `example`.

    Raises:
        InvalidInput: the text is not the URL of a server, or passwords would be sent unencrypted over a network.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    remedy = f"Write it like {example}."
    if "@" in url or "?" in url:
        raise InvalidInput(field, "the URL contains more than a server, perhaps a password.", remedy)
    if parts.scheme not in {"http", "https"} or not host or any(character.isspace() for character in url.strip()):
        raise InvalidInput(field, f"{url!r} is not the URL of a server.", remedy)
    if not _HOST.fullmatch(host):
        raise InvalidInput(field, f"{host!r} is not a host name.", "Write it in ASCII (xn--… for a name with accents).")
    if parts.path.rstrip("/") not in {"", "/xrpc"} or parts.fragment:
        raise InvalidInput(field, f"{url!r} names a page, not a server.", remedy)
    if parts.scheme == "http" and not _is_loopback_host(host):
        raise InvalidInput(field, f"{url!r} would send secrets unencrypted.", "Use https (http only for loopback).")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + (f":{port}" if port is not None else "")


def is_loopback(url: str) -> bool:
    """Return whether a URL names this machine."""
    return _is_loopback_host(urlsplit(url).hostname or "")


def _is_loopback_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def normal_secret_prefix(prefix: str) -> str:
    """Return the prefix without surrounding slashes.

    Raises:
        InvalidInput: AWS Secrets Manager does not allow the prefix in a secret's name.
    """
    prefix = prefix.strip().strip("/")
    if not _SECRET_PREFIX.fullmatch(prefix):
        reason = f"a secret's name cannot start with {prefix!r}."
        raise InvalidInput("secret_prefix", reason, "Use letters, digits and any of /_+=.@- only.")
    return prefix


def in_plain_words(unusable: ValidationError, model: type[BaseModel]) -> InvalidInput:
    """Return pydantic's error about a model as one of this package."""
    text = explain_validation_error(unusable, model)
    field, colon, reason = text.partition(": ")
    return InvalidInput(field, reason, "") if colon else InvalidInput(model.__name__, text, "")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that a person may have meant, or None.

    Example:
        >>> nearest("txt", ["text", "thread"])
        'text'
    """
    return next(iter(get_close_matches(name, names, n=1)), None)


def explain_validation_error(unusable: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return a line with each invalid field of a model, its error and its remedy.

    Args:
        unusable: pydantic's error.
        model: the model, if for an unknown field the nearest known one is to be named.
    """
    return "; ".join(_explained(error, model) for error in unusable.errors(include_url=False, include_input=False))


_PLAIN_WORDS = {
    "missing": "it is missing.",
    "extra_forbidden": "there is no such field. Check its name.",
    "string_type": "it is not a text. Write one, in quotes.",
    "tuple_type": "it is not a list. Write one, such as [a, b].",
    "list_type": "it is not a list. Write one, such as [a, b].",
    "model_type": "it is not a list of fields with values.",
    "dict_type": "it is not a list of fields with values.",
    "bool_parsing": "it is neither true nor false.",
    "bool_type": "it is neither true nor false.",
    "literal_error": "it is none of those that are known. Write {expected}.",
    "too_long": "there are {actual_length}, and the limit is {max_length}. Leave some out.",
    "string_too_long": "it has more than {max_length:,} characters. Shorten it.",
    "string_too_short": "it is empty. Write it.",
}
"""What is said in place of pydantic's words, by the type of its error."""


def _explained(error: ErrorDetails, model: type[BaseModel] | None) -> str:
    field = ".".join(str(part) for part in error["loc"])
    plain = _PLAIN_WORDS.get(error["type"])
    reason = plain.format(**error.get("ctx", {})) if plain else error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden" and (near := nearest(str(error["loc"][-1]), _fields_at(error["loc"], model))):
        reason = f"there is no such field. Did you mean {near}?"
    return f"{field}: {reason}" if field else reason


def _fields_at(place: tuple[str | int, ...], model: Any) -> list[str]:
    """Return the fields of the model that has an unknown field at a place, such as thread, 0, txt."""
    for part in place[:-1]:
        if model and isinstance(part, str):
            field = model.model_fields.get(part)
            model = field and next(_models_in(field.annotation), None)
    return list(model.model_fields) if model else []


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
