"""Records that a post refers to: what it quotes and what it answers, by at:// URI or by address in the Bluesky app."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from prefect_bluesky.protocol.records import LIST_COLLECTION, POST_COLLECTION

KINDS = (POST_COLLECTION, "app.bsky.feed.generator", LIST_COLLECTION, "app.bsky.graph.starterpack")
"""What a post can show below itself (lexicons/app/bsky/embed/record.json)."""

_AUTHORITY = r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]|[a-zA-Z0-9.-]+\.[a-zA-Z][a-zA-Z0-9-]*"
_KEY = r"[a-zA-Z0-9_~.:-]{1,512}"
_AT_URI = re.compile(rf"at://({_AUTHORITY})/([a-zA-Z0-9.-]+)/({_KEY})")
_ADDRESSES = {
    re.compile(
        rf"https://bsky\.app/{path}/?(?:[?#].*)?".replace("AUTHORITY", f"({_AUTHORITY})").replace("KEY", f"({_KEY})")
    ): kind
    for path, kind in zip(
        (
            "profile/AUTHORITY/post/KEY",
            "profile/AUTHORITY/feed/KEY",
            "profile/AUTHORITY/lists/KEY",
            "starter-pack/AUTHORITY/KEY",
        ),
        KINDS,
        strict=True,
    )
}


@dataclass(frozen=True)
class Reference:
    """Where a record lies.

    Args:
        authority: the DID or handle of the account that it belongs to.
        collection: its kind.
        rkey: its record key.
    """

    authority: str
    collection: str
    rkey: str

    def __str__(self) -> str:
        return f"at://{self.authority}/{self.collection}/{self.rkey}"


@dataclass(frozen=True)
class StrongRef:
    """A version of a record (lexicons/com/atproto/repo/strongRef.json), and what it says."""

    uri: str
    cid: str
    value: dict[str, Any]

    @property
    def json(self) -> dict[str, str]:
        """As it stands in a record."""
        return {"uri": self.uri, "cid": self.cid}


def parse_reference(text: str) -> Reference:
    """Where a record lies.

    Args:
        text: an at:// URI, or an address such as `https://bsky.app/profile/alice.test/post/3l6oveex3ii2l`.

    Raises:
        ValueError: it is neither.

    Example:
        >>> str(parse_reference("https://bsky.app/profile/bsky.app/post/3l6oveex3ii2l"))
        'at://bsky.app/app.bsky.feed.post/3l6oveex3ii2l'
    """
    text = text.strip()
    if uri := _AT_URI.fullmatch(text):
        return Reference(*uri.groups())
    for pattern, kind in _ADDRESSES.items():
        if address := pattern.fullmatch(text):
            authority, rkey = address.groups()
            return Reference(authority, kind, rkey)
    raise ValueError(
        f"{text!r} is neither an at:// URI nor the address of a post in the Bluesky app, such as"
        " https://bsky.app/profile/bsky.app/post/3l6oveex3ii2l."
    )
