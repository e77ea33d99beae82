"""Split a long text into the posts of a thread: where a reader would pause, never in a link, mention or hashtag."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

import regex

from prefect_bluesky.posts.richtext import Measure, graphemes, segments
from prefect_bluesky.posts.sentences import PARAGRAPHS, sentence_ends

_LINES, _WORDS = regex.compile(r"\s*\n"), regex.compile(r"\s+")

_MARKER = regex.compile(r"(?:^|\n)\s*(?:\p{N}{1,3}[.)]|[-*•\u2013])$")
"""The number or the bullet of a list's item, which stays with the item."""

_LOOK_BACK = 30
"""Characters that are looked at before a word's end: the longest marker with its white space."""

# Text that is harmless within a word, but would become a mention, hashtag or link at the beginning of a post.
_BEGINS_ENTITY = regex.compile(r"[@#＃$]|https?:")

_FULL_ENOUGH = 3  # a cut after a paragraph or a sentence must fill at least a third of the post


def split_text(text: str, *, max_length: int, max_bytes: float, measure: Measure, language: str = "") -> list[str]:
    """Split a text into pieces of at most `max_length` characters, as measured, and `max_bytes` bytes of UTF-8.

    The text is cut after a paragraph, else after a line, else after a sentence, else after a word, else between two
    characters. Only white space at the cuts is dropped. `language` is the text's, if it is known.
    """
    text = text.strip()
    if not text:
        return [""]
    ends, counts, sizes = _measured(text, measure)
    # A cut is possible only between units: graphemes and entities stay whole.
    whole = {0, *ends}
    pauses = [[place for place in places if place in whole] for places in _pauses(text, language)]
    pieces, unit = [], 0
    while unit < len(ends):
        start = ends[unit - 1] if unit else 0
        full = min(bisect_right(counts, counts[unit] + max_length), bisect_right(sizes, sizes[unit] + max_bytes)) - 1
        # A unit that is too long even alone, such as an unshortened link, is left for the caller to refuse.
        last = max(full, unit + 1)
        end = ends[last - 1]
        if last < len(ends) and (pause := _pause(start, end, pauses)):
            end = pause
        elif last < len(ends):
            end = next((end for end in reversed(ends[unit + 1 : last]) if not _BEGINS_ENTITY.match(text, end)), end)
        pieces.append(text[start:end].strip())
        unit = bisect_right(ends, end)
        while unit < len(ends) and text[ends[unit - 1] : ends[unit]].isspace():
            unit += 1
    return pieces


def _pauses(text: str, language: str) -> Iterator[list[int]]:
    """Yield the places to cut at, the best kind first."""
    yield [found.start() for found in PARAGRAPHS.finditer(text)]
    yield [found.start() for found in _LINES.finditer(text)]
    yield [_without_space(text, end) for end in sentence_ends(text, language)[:-1]]
    words = (found.start() for found in _WORDS.finditer(text))
    yield [place for place in words if not _MARKER.search(text[max(0, place - _LOOK_BACK) : place])]


def _without_space(text: str, end: int) -> int:
    while end and text[end - 1].isspace():
        end -= 1
    return end


def _measured(text: str, measure: Measure) -> tuple[list[int], list[int], list[int]]:
    """Return where each uncuttable unit ends, and the characters and the bytes before each unit and in all."""
    units: list[tuple[str, str]] = []  # as written, as counted
    for part, entity in segments(text, measure.find(text)):
        units += [(part, measure.counted(text, entity))] if entity else [(each, each) for each in graphemes(part)]
    ends = list(accumulate(len(written) for written, _ in units))
    counts = list(accumulate((measure.length(counted) for _, counted in units), initial=0))
    sizes = list(accumulate((len(counted.encode()) for _, counted in units), initial=0))
    return ends, counts, sizes


def _pause(start: int, end: int, pauses: list[list[int]]) -> int | None:
    # A pause that begins just after the text that fits is usable too: white space at the cut is dropped.
    for rank, places in enumerate(pauses):
        place = places[bisect_right(places, end) - 1] if places and places[0] <= end else 0
        least = (end - start) // _FULL_ENOUGH if rank < len(pauses) - 1 else 0
        if place > start + least:
            return place
    return None
