"""Parse references to records that a post quotes or answers: at:// URIs and addresses in the Bluesky app."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from prefect_bluesky.protocol.records import LIST_COLLECTION, POST_COLLECTION

STARTER_PACK = "app.bsky.graph.starterpack"

KINDS = (POST_COLLECTION, "app.bsky.feed.generator", LIST_COLLECTION, STARTER_PACK)
"""The kinds of records that a post can quote (lexicons/app/bsky/embed/record.json)."""

_AUTHORITY = r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]|[a-zA-Z0-9.-]+\.[a-zA-Z][a-zA-Z0-9-]*"
_KEY = r"[a-zA-Z0-9_~.:-]{1,512}"
_AT_URI = re.compile(rf"at://({_AUTHORITY})/([a-zA-Z0-9.-]+)/({_KEY})")
_PATHS = (
    rf"profile/({_AUTHORITY})/post/({_KEY})",
    rf"profile/({_AUTHORITY})/feed/({_KEY})",
    rf"profile/({_AUTHORITY})/lists/({_KEY})",
    rf"(?:starter-pack|start)/({_AUTHORITY})/({_KEY})",
)
_ADDRESSES = [
    (re.compile(rf"https?://(?:www\.)?bsky\.app/{path}/?(?:[?#].*)?"), kind)
    for path, kind in zip(_PATHS, KINDS, strict=True)
]


_SHORT = re.compile(r"https?://go\.bsky\.app/[A-Za-z0-9]+/?")


@dataclass(frozen=True)
class Reference:
    """The place of a record. The authority is the DID or handle of its account."""

    authority: str
    collection: str
    rkey: str

    def __str__(self) -> str:
        return f"at://{self.authority}/{self.collection}/{self.rkey}"


@dataclass(frozen=True)
class StrongRef:
    """A version of a record (lexicons/com/atproto/repo/strongRef.json), and its value."""

    uri: str
    cid: str
    value: dict[str, Any]

    @property
    def json(self) -> dict[str, str]:
        """The reference as JSON, for a record."""
        return {"uri": self.uri, "cid": self.cid}


def is_short_address(text: str) -> bool:
    """Return whether a text is a short address that the app's share button gives for a starter pack.

    Only the service behind it knows what it leads to.
    """
    return _SHORT.fullmatch(text.strip()) is not None


def parse_reference(text: str) -> Reference:
    """Parse an at:// URI or an address in the Bluesky app; raise `ValueError` if the text is neither."""
    text = text.strip()
    if uri := _AT_URI.fullmatch(text):
        return Reference(*uri.groups())
    for pattern, kind in _ADDRESSES:
        if address := pattern.fullmatch(text):
            return Reference(address[1], kind, address[2])
    raise ValueError(
        f"{text!r} is neither an at:// URI nor the address of a post in the Bluesky app. Give one such as"
        " https://bsky.app/profile/bsky.app/post/3l6oveex3ii2l."
    )
