"""What a grant allows: the scopes to ask for, and what a granted scope means (https://atproto.com/specs/permission)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from urllib.parse import parse_qs, unquote

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.protocol.records import POST_COLLECTION, POSTGATE_COLLECTION, THREADGATE_COLLECTION
from prefect_bluesky.validation import nearest

_ALL_OF_A_POST = "&".join(f"collection={c}" for c in (POST_COLLECTION, THREADGATE_COLLECTION, POSTGATE_COLLECTION))

_BY_NAME = {
    "create": (f"repo?{_ALL_OF_A_POST}&action=create", "blob:image/*"),
    "delete": (f"repo?{_ALL_OF_A_POST}&action=delete",),
    # The video service is given a token for one call to the account's own PDS, whose DID the client does not know.
    "video": ("blob?accept=video/*&accept=text/vtt", "rpc:com.atproto.repo.uploadBlob?aud=*"),
}
"""The rights by the names under which a person asks for them."""


_SCOPE = re.compile(r"[!#-[\]-~]+")
"""The characters of a scope (RFC 6749, section 3.3)."""


def scope_of(rights: Iterable[str] = ("create",)) -> str:
    """Return the scope to ask for.

    Args:
        rights: `create`, `delete` or `video`; or scopes of the AT Protocol, such as
            `include:app.bsky.authCreatePosts`.

    Raises:
        InvalidInput: there is no such right.

    Example:
        >>> scope_of(["video"])
        'atproto blob?accept=video/*&accept=text/vtt rpc:com.atproto.repo.uploadBlob?aud=*'
    """
    scopes = ["atproto"]
    for right in rights:
        if not _SCOPE.fullmatch(right):
            # Not shown: the text may be the key, which was pasted into the wrong field.
            what = "one of them has a character that no scope has."
            raise InvalidInput("rights", what, f"Write any of {', '.join(_BY_NAME)}, or a scope.")
        if right not in _BY_NAME and ":" not in right and "?" not in right:
            near = nearest(right, _BY_NAME)
            remedy = f"Did you mean {near}?" if near else f"Write any of {', '.join(_BY_NAME)}, or a scope."
            raise InvalidInput("rights", f"there is no right {right!r}.", remedy)
        scopes += _BY_NAME.get(right, (right,))
    return " ".join(dict.fromkeys(scopes))


def allows_record(scope: str, collection: str, action: str) -> bool:
    """Return whether a granted scope allows to create, update or delete records of a collection.

    Example:
        >>> allows_record(scope_of(), "app.bsky.feed.post", "delete")
        False
    """
    return _is_old_style(scope) or any(
        _names(found, "collection", collection) and action in found.get("action", [action])
        for found in _granted(scope, "repo", "collection")
    )


def allows_blob(scope: str, content_type: str) -> bool:
    """Return whether a granted scope allows to upload a file of a type, such as image/png.

    Example:
        >>> allows_blob(scope_of(), "image/png"), allows_blob(scope_of(), "text/vtt")
        (True, False)
    """
    return _is_old_style(scope) or any(
        fnmatchcase(content_type, pattern)
        for found in _granted(scope, "blob", "accept")
        for pattern in found.get("accept", [])
    )


def allows_call(scope: str, method: str) -> bool:
    """Return whether a granted scope allows to let another server call a method in the account's name."""
    return _is_old_style(scope) or any(_names(found, "lxm", method) for found in _granted(scope, "rpc", "lxm"))


def _is_old_style(scope: str) -> bool:
    """Return whether a scope is that of an app password, or allows as much. Each grant has the scope `atproto`."""
    granted = scope.split()
    return "atproto" not in granted or "transition:generic" in granted


def _names(found: dict[str, list[str]], parameter: str, wanted: str) -> bool:
    return not {wanted, "*"}.isdisjoint(found.get(parameter, []))


def _granted(scope: str, kind: str, first: str) -> Iterator[dict[str, list[str]]]:
    """Yield the parameters of the scopes of a kind. What stands after the colon is the first one."""
    for each in scope.split():
        head, _, query = each.partition("?")
        found_kind, _, name = head.partition(":")
        if found_kind == kind:
            found = parse_qs(query)
            yield found | ({first: [unquote(name)]} if name else {})
