"""What a person writes about an account, brought into one form or refused.

A login answers a wrong password, an `@handle`, a trailing newline and an unknown handle all alike, so these are told
apart here, before any request.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from prefect_bluesky.errors import InvalidInput

# https://atproto.com/specs/handle and https://atproto.com/specs/did
_HANDLE = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_DID = re.compile(r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]")
_APP_PASSWORD = re.compile(r"[a-z2-7]{4}(-[a-z2-7]{4}){3}")
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*|[0-9a-f:.]+")
_SECRET_PREFIX = re.compile(r"[A-Za-z0-9/_+=.@-]{1,256}")


# What Prefect shows, and stores in a run's parameters, in place of a secret.
_MASK = re.compile(r"\*{4,}")


def normal_account(handle: str) -> str:
    """A handle in lower case without its `@`, or a DID as it is.

    Raises:
        InvalidInput: if it is neither.

    Example:
        >>> normal_account(" @Alice.bsky.social ")
        'alice.bsky.social'
    """
    # Copied from a profile page, a handle often brings invisible direction marks along.
    visible = "".join(character for character in handle if unicodedata.category(character) not in {"Cf", "Cc"})
    account = visible.strip().removeprefix("@").strip()
    if looks_like_app_password(account.lower()):
        raise InvalidInput("handle", "an app password stands here.", "Put it into app_password, and the handle here.")
    if account.startswith("did:"):
        if _DID.fullmatch(account) and len(account) <= 2048:
            return account
        raise InvalidInput("handle", f"{account!r} is not a DID.", "A DID looks like did:plc:ewvi7nxzyoun6zhxrhs64oiz.")
    account = account.lower()
    if _HANDLE.fullmatch(account) and len(account) <= 253:
        return account
    reason = f"{account!r} is not a handle" + ("." if "." in account else ": it has no domain.")
    raise InvalidInput("handle", reason, "Write it in full, such as alice.bsky.social, or give the account's DID.")


def normal_app_password(password: str) -> str:
    """The app password without surrounding spaces and line breaks.

    Raises:
        InvalidInput: if it is empty, Prefect's mask, or holds quotes or line breaks that cannot belong to it.
    """
    password = password.strip()
    if not password:
        raise InvalidInput("app_password", "it is empty.", "Create one in the Bluesky app and put it here.")
    if _MASK.fullmatch(password):
        raise InvalidInput(
            "app_password",
            f"{password!r} is the mask that Prefect stores in place of a secret, not the app password.",
            "Start the run from a saved block: pick it in the form, or pass a reference to it instead of an object.",
        )
    if password[0] in "\"'`" or password[-1] in "\"'`":
        raise InvalidInput("app_password", "it is wrapped in quotes.", "Give only what is between them.")
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs"} for character in password):
        raise InvalidInput(
            "app_password", "it holds a line break or another invisible character.", "Copy it again, in one line."
        )
    return password


def looks_like_app_password(password: str) -> bool:
    """Whether it has the shape that Bluesky gives to app passwords: `xxxx-xxxx-xxxx-xxxx`."""
    return _APP_PASSWORD.fullmatch(password) is not None


def normal_service_url(url: str, field: str = "service_url", example: str = "https://bsky.social") -> str:
    """The origin of a service, without a trailing slash or `/xrpc`.

    Args:
        url: what a person wrote.
        field: where they wrote it.
        example: what they might have meant.

    Raises:
        InvalidInput: if it is no URL of a server, or would send passwords unencrypted over a network.

    Example:
        >>> normal_service_url("https://Bsky.social/")
        'https://bsky.social'
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    remedy = f"Write it like {example}."
    if "@" in url or "?" in url:
        raise InvalidInput(field, "it holds more than a server, perhaps a password.", remedy)
    if parts.scheme not in {"http", "https"} or not host or any(character.isspace() for character in url.strip()):
        raise InvalidInput(field, f"{url!r} is not the URL of a server.", remedy)
    if not _HOST.fullmatch(host):
        raise InvalidInput(field, f"{host!r} is no host name.", "Write it in ASCII (xn--… where it has accents).")
    if parts.path.rstrip("/") not in {"", "/xrpc"} or parts.fragment:
        raise InvalidInput(field, f"{url!r} names a page, not a server.", remedy)
    if parts.scheme == "http" and not _is_loopback(host):
        raise InvalidInput(field, f"{url!r} would send secrets unencrypted.", "Use https (http only for loopback).")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + (f":{port}" if port is not None else "")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def normal_secret_prefix(prefix: str) -> str:
    """The prefix without slashes around it.

    Raises:
        InvalidInput: if AWS Secrets Manager does not allow it in a secret's name.
    """
    prefix = prefix.strip().strip("/")
    if not _SECRET_PREFIX.fullmatch(prefix):
        raise InvalidInput(
            "secret_prefix", f"{prefix!r} cannot begin a secret's name.", "Use letters, digits and any of /_+=.@- only."
        )
    return prefix


def explain_validation_error(unusable: ValidationError) -> str:
    """What is wrong with a model's fields, in a line: each with its name and the remedy."""
    return "; ".join(_explained(error) for error in unusable.errors(include_url=False, include_input=False))


def _explained(error: ErrorDetails) -> str:
    field = ".".join(str(part) for part in error["loc"])
    reason = error["msg"].removeprefix("Value error, ")
    return f"{field}: {reason}" if field else reason
