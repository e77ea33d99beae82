"""Text as a PDS counts it, with its links, mentions and hashtags as facets and its links shortened for display."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import regex

# The lexicon's `uri` format, as the PDS checks it (packages/syntax/src/uri.ts): one bad link refuses the whole post.
_URI = re.compile(r"[A-Za-z0-9_]+:(//)?[^\s\ufeff/][^\s\ufeff]*")
_MAX_TAG_BYTES, MAX_TAG_GRAPHEMES = 640, 64  # lexicons/app/bsky/richtext/facet.json

# As the Bluesky app shortens links (bluesky-social/social-app, src/lib/strings/url-helpers.ts).
_LONGEST_PATH, _SHOWN_PATH = 15, 13

# Compiled here: looking it up in regex's own cache takes longer than counting a post.
_GRAPHEME = regex.compile(r"\X")

Facet = dict[str, Any]
Kind = Literal["link", "mention", "tag"]


@dataclass(frozen=True)
class Entity:
    """A link, mention or hashtag in a text.

    Args:
        start: the index of its first character.
        end: the index after its last character.
        kind: what it is.
        value: the URL, the handle or the tag.
    """

    start: int
    end: int
    kind: Kind
    value: str


def count_graphemes(text: str) -> int:
    r"""How many characters a reader sees, as the PDS counts them (extended grapheme clusters, `\X`).

    Example:
        >>> count_graphemes("👩‍👩‍👧‍👦 é")
        3
    """
    return len(graphemes(text))


def graphemes(text: str) -> list[str]:
    """The characters that a reader sees."""
    return _GRAPHEME.findall(text)


def find_entities(text: str) -> list[Entity]:
    """The links, mentions and hashtags in a text, in order, as the Bluesky app finds them."""
    if not re.search(r"[@#＃$.:]", text):
        return []  # spares a plain text the SDK's import
    from atproto_client.utils.facet_detection import detect_facets, detect_mentions

    data = text.encode()

    def entity(start: int, end: int, kind: Kind, value: str) -> Entity:
        return Entity(len(data[:start].decode()), len(data[:end].decode()), kind, value)

    found = [
        entity(mention.byte_start, mention.byte_end, "mention", mention.handle) for mention in detect_mentions(text)
    ]
    for facet in detect_facets(text):
        (feature,) = facet.features
        uri = getattr(feature, "uri", None)
        kind: Kind = "tag" if uri is None else "link"
        value = feature.tag if uri is None else uri
        if _is_accepted(kind, value):
            found.append(entity(facet.index.byte_start, facet.index.byte_end, kind, value))
    apart: list[Entity] = []
    for each in sorted(found, key=lambda each: each.start):
        if not apart or each.start >= apart[-1].end:
            apart.append(each)
    return apart


def rich_text(
    text: str, resolve_handle: Callable[[str], str | None], *, shorten_links: bool = True
) -> tuple[str, list[Facet]]:
    """A text as it is shown, and its facets, with byte offsets into it.

    Args:
        text: what the person wrote.
        resolve_handle: the DID of a handle, or None if nobody has it: such a mention stays text.
        shorten_links: whether long links are shortened for display; they lead where they led.

    Returns:
        the text, and facets as JSON (https://docs.bsky.app/docs/advanced-guides/post-richtext).

    Example:
        >>> rich_text("Read https://example.com/2026/11/a-long-story", lambda handle: None)[0]
        'Read example.com/2026/11/a-lo...'
    """
    counted = (SHOWN if shorten_links else WRITTEN).counted
    pieces: list[str] = []
    facets: list[Facet] = []
    last = size = 0
    for entity in find_entities(text):
        feature = _feature(entity, resolve_handle)
        before = text[last : entity.start]
        shown = counted(text, entity)
        start = size + len(before.encode())
        size = start + len(shown.encode())
        pieces += [before, shown]
        last = entity.end
        if feature:
            index = {"$type": "app.bsky.richtext.facet#byteSlice", "byteStart": start, "byteEnd": size}
            facets.append({"$type": "app.bsky.richtext.facet", "index": index, "features": [feature]})
    return "".join([*pieces, text[last:]]), facets


def _feature(entity: Entity, resolve_handle: Callable[[str], str | None]) -> dict[str, str] | None:
    if entity.kind == "mention":
        did = resolve_handle(entity.value)
        return {"$type": "app.bsky.richtext.facet#mention", "did": did} if did else None
    field = "uri" if entity.kind == "link" else "tag"
    return {"$type": f"app.bsky.richtext.facet#{entity.kind}", field: entity.value}


def _written(text: str, entity: Entity) -> str:
    return text[entity.start : entity.end]


def _shortened(text: str, entity: Entity) -> str:
    written = _written(text, entity)
    if entity.kind != "link":
        return written
    parts = urlsplit(entity.value)
    path = ("" if parts.path == "/" else parts.path) + (parts.query and f"?{parts.query}")
    path += parts.fragment and f"#{parts.fragment}"
    characters = graphemes(path)
    if len(characters) > _LONGEST_PATH:
        path = "".join(characters[:_SHOWN_PATH]) + "..."
    return min(parts.netloc + path, written, key=count_graphemes)


@dataclass(frozen=True)
class Measure:
    """How a text is counted: what in it counts otherwise than it is written.

    Args:
        find: what in a text is counted as one, and never cut, in order.
        counted: what each of it counts as, given the text.
        length: how many characters the text that counts has.

    Example:
        >>> SHOWN.of("Read https://example.com/2026/11/a-long-story")
        'Read example.com/2026/11/a-lo...'
    """

    find: Callable[[str], list[Entity]]
    counted: Callable[[str, Entity], str]
    length: Callable[[str], int] = count_graphemes

    def of(self, text: str) -> str:
        """A text as it counts."""
        pieces, last = [], 0
        for entity in self.find(text):
            pieces += [text[last : entity.start], self.counted(text, entity)]
            last = entity.end
        return "".join([*pieces, text[last:]])


SHOWN = Measure(find_entities, _shortened)
"""As the Bluesky app shows it: links shortened."""

WRITTEN = Measure(find_entities, _written)
"""As it is written."""


_INVISIBLE = regex.compile(r"[\p{Cc}--[\n\t]]", flags=regex.VERSION1)
_BLANK_LINES = regex.compile(r"\n\s*\n\s*")


def tidy(text: str) -> str:
    """A text without what nobody sees: controls, blank lines beyond one."""
    text = _INVISIBLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _BLANK_LINES.sub("\n\n", text).strip()


def is_short_tag(tag: str) -> bool:
    """Whether a hashtag is no longer than a PDS takes."""
    return len(tag.encode()) <= _MAX_TAG_BYTES and count_graphemes(tag) <= MAX_TAG_GRAPHEMES


def _is_accepted(kind: str, value: str) -> bool:
    if kind == "tag":
        return is_short_tag(value)
    try:
        host = urlsplit(value).hostname
    except ValueError:
        return False  # such as a host in brackets that is no address
    return bool(host) and _URI.fullmatch(value) is not None
