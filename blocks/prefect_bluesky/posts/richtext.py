"""Count a text as a PDS does, find its links, mentions and hashtags, and shorten its links for display."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import regex

# The lexicon's `uri` format, as the PDS checks it (packages/syntax/src/uri.ts). One bad link makes it refuse the post.
_URI = re.compile(r"[A-Za-z0-9_]+:(//)?[^\s\ufeff/][^\s\ufeff]*")
_HOST = re.compile(r"[a-z]+://[^\s/?#]", re.IGNORECASE)
_MAX_TAG_BYTES, MAX_TAG_GRAPHEMES = 640, 64  # lexicons/app/bsky/richtext/facet.json

# The Bluesky app's way to shorten links (bluesky-social/social-app, src/lib/strings/url-helpers.ts).
_LONGEST_PATH, _SHOWN_PATH = 15, 13

# Compiled here, because a look-up in regex's own cache takes longer than counting a post.
_GRAPHEME = regex.compile(r"\X")

Facet = dict[str, Any]
Kind = Literal["link", "mention", "tag"]


@dataclass(frozen=True)
class Entity:
    """A link, mention or hashtag: `text[start:end]`. Its value is the URL, the handle or the tag."""

    start: int
    end: int
    kind: Kind
    value: str


def count_graphemes(text: str) -> int:
    r"""Return how many characters a reader sees, as the PDS counts them (extended grapheme clusters, `\X`)."""
    return len(graphemes(text))


def graphemes(text: str) -> list[str]:
    """Return the characters that a reader sees."""
    return _GRAPHEME.findall(text)


def find_entities(text: str) -> list[Entity]:
    """Return the links, mentions and hashtags in a text, in order, as the Bluesky app finds them."""
    if not re.search(r"[@#＃$.:]", text):
        return []  # a plain text does without the SDK's import
    from atproto_client.utils.facet_detection import detect_facets, detect_mentions

    data = text.encode()

    def entity(start: int, end: int, kind: Kind, value: str) -> Entity:
        return Entity(len(data[:start].decode()), len(data[:end].decode()), kind, value)

    found = [entity(each.byte_start, each.byte_end, "mention", each.handle) for each in detect_mentions(text)]
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


def segments(text: str, entities: Iterable[Entity]) -> Iterator[tuple[str, Entity | None]]:
    """Yield the parts of a text in order: each entity, and the text before, between and after them with None."""
    last = 0
    for entity in entities:
        yield text[last : entity.start], None
        yield text[entity.start : entity.end], entity
        last = entity.end
    yield text[last:], None


def rich_text(
    text: str, resolve_handle: Callable[[str], str | None], *, shorten_links: bool = True
) -> tuple[str, list[Facet]]:
    """Return the text to show and its facets (lexicons/app/bsky/richtext/facet.json).

    A mention whose handle resolves to None stays text. A shortened link keeps its target.
    """
    counted = (SHOWN if shorten_links else WRITTEN).counted
    pieces: list[str] = []
    facets: list[Facet] = []
    size = 0
    for part, entity in segments(text, find_entities(text)):
        shown = counted(text, entity) if entity else part
        start, size = size, size + len(shown.encode())
        pieces.append(shown)
        if entity and (feature := _feature(entity, resolve_handle)):
            index = {"$type": "app.bsky.richtext.facet#byteSlice", "byteStart": start, "byteEnd": size}
            facets.append({"$type": "app.bsky.richtext.facet", "index": index, "features": [feature]})
    return "".join(pieces), facets


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
    try:
        parts = urlsplit(entity.value)
    except ValueError:
        return written  # a host that Python's standard library does not read
    path = ("" if parts.path == "/" else parts.path) + (parts.query and f"?{parts.query}")
    path += parts.fragment and f"#{parts.fragment}"
    characters = graphemes(path)
    if len(characters) > _LONGEST_PATH:
        path = "".join(characters[:_SHOWN_PATH]) + "..."
    host = parts.netloc.rpartition("@")[2]
    if host != parts.netloc:
        return host + path  # without a password, although a short one would fit
    return min(host + path, written, key=count_graphemes)


@dataclass(frozen=True)
class Measure:
    """A way to count a text, in which some entities count as another text than the written one.

    Args:
        find: returns the entities of a text, in order; an entity is never cut.
        counted: returns the text that an entity of a text counts as.
        length: returns how many characters a text has.
    """

    find: Callable[[str], list[Entity]]
    counted: Callable[[str, Entity], str]
    length: Callable[[str], int] = count_graphemes

    def of(self, text: str) -> str:
        """Return a text as it counts."""
        parts = segments(text, self.find(text))
        return "".join(self.counted(text, entity) if entity else part for part, entity in parts)


SHOWN = Measure(find_entities, _shortened)
"""Counts a text as the Bluesky app shows it, with short links."""

WRITTEN = Measure(find_entities, _written)
"""Counts a text as it is written."""

_INVISIBLE = regex.compile(r"[\p{Cc}--[\n\t]]", flags=regex.VERSION1)
_BLANK_LINES = regex.compile(r"\n\s*\n\s*")


def _with_line_feeds(text: str) -> str:
    """Return a text whose lines end as a PDS has them, those of word processors (U+000B) too."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\v", "\n")


def tidy(text: str) -> str:
    """Remove what no reader sees: control characters, and all but one of several blank lines."""
    text = _INVISIBLE.sub("", _with_line_feeds(text))
    return _BLANK_LINES.sub("\n\n", text).strip()


_EXCESS = regex.compile(r"\n(?:[\u00AD\u2060\u200D\u200C\u200B\s]*\n){2,}")
"""More than one empty line, as the app finds it (@atproto/api, src/rich-text/sanitization.ts)."""


def trimmed(text: str) -> str:
    r"""Return a text as the Bluesky app sends it: trimmed at both ends, and with at most one empty line between.

    A byte order mark at the beginning is no text: a PDS would serve the text without the mark, with facets that count
    it. A soft line break of a word processor (U+000B) is a line break.

    Example:
        >>> trimmed("\ufeffHello\n\n\n\nthere\n")
        'Hello\n\nthere'
    """
    return _EXCESS.sub("\n\n", _with_line_feeds(text)).strip(_TRIMMED)


_TRIMMED = "".join(chr(each) for each in range(0x10000) if chr(each).isspace()) + "\ufeff"


def is_short_tag(tag: str) -> bool:
    """Return True if a hashtag is not too long for a PDS."""
    return len(tag.encode()) <= _MAX_TAG_BYTES and count_graphemes(tag) <= MAX_TAG_GRAPHEMES


def _is_accepted(kind: str, value: str) -> bool:
    if kind == "tag":
        return is_short_tag(value)
    # A link without a host leads nowhere, although the app makes one of it.
    return _HOST.match(value) is not None and _URI.fullmatch(value) is not None
