"""Text as a PDS counts it, and the links, mentions and hashtags in it as facets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import regex

# The lexicon's `uri` format, as the PDS checks it (packages/syntax/src/uri.ts): one bad link refuses the whole post.
_URI = re.compile(r"[A-Za-z0-9_]+:(//)?[^\s\ufeff/][^\s\ufeff]*")
_MAX_TAG_BYTES, _MAX_TAG_GRAPHEMES = 640, 64  # lexicons/app/bsky/richtext/facet.json

Facet = dict[str, Any]


def count_graphemes(text: str) -> int:
    r"""How many characters a reader sees, as the PDS counts them (extended grapheme clusters, `\X`).

    Example:
        >>> count_graphemes("👩‍👩‍👧‍👦 é")
        3
    """
    return len(regex.findall(r"\X", text))


def detect_facets(text: str, resolve_handle: Callable[[str], str | None]) -> list[Facet]:
    """The links, mentions and hashtags in a text, in order, with byte offsets, as the Bluesky app finds them.

    Args:
        text: the post's text.
        resolve_handle: the DID of a handle, or None if nobody has it: such a mention stays text.

    Returns:
        facets as JSON (https://docs.bsky.app/docs/advanced-guides/post-richtext).
    """
    if not re.search(r"[@#＃$.:]", text):  # noqa: RUF001 - Japanese keyboards give this number sign
        return []  # spares a plain text the SDK's import
    from atproto_client.utils.facet_detection import detect_facets as detect_in_text
    from atproto_client.utils.facet_detection import detect_mentions

    facets = [
        facet
        for facet in (found.model_dump(by_alias=True, exclude_none=True) for found in detect_in_text(text))
        if _is_accepted(facet["features"][0])
    ]
    for mention in detect_mentions(text):
        did = resolve_handle(mention.handle)
        if did is not None:
            facets.append(
                {
                    "$type": "app.bsky.richtext.facet",
                    "index": {
                        "$type": "app.bsky.richtext.facet#byteSlice",
                        "byteStart": mention.byte_start,
                        "byteEnd": mention.byte_end,
                    },
                    "features": [{"$type": "app.bsky.richtext.facet#mention", "did": did}],
                }
            )
    return sorted(facets, key=lambda facet: facet["index"]["byteStart"])


def _is_accepted(feature: dict[str, Any]) -> bool:
    if "uri" in feature:
        return _URI.fullmatch(feature["uri"]) is not None
    tag = feature["tag"]
    return len(tag.encode()) <= _MAX_TAG_BYTES and count_graphemes(tag) <= _MAX_TAG_GRAPHEMES
