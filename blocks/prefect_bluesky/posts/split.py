"""A long text as the posts of a thread: cut where a reader would pause, never inside a link, mention or hashtag."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import regex

from prefect_bluesky.posts.richtext import Measure, graphemes

PARAGRAPHS = regex.compile(r"\n\s*\n")
"""What stands between two."""

# With a few closing quotes and brackets: a longer look behind takes quadratic time.
SENTENCES = regex.compile(r"""(?<=[.!?…]["'”’)\]]{0,3})\s+|(?<=[。！？][”’」』）]{0,3})(?![。！？”’」』）])|\n""")
"""What stands between two."""

_PAUSES = (PARAGRAPHS, SENTENCES, regex.compile(r"\s+"))
"""Where a text may be cut, the best first."""

_BEGINS_ENTITY = regex.compile(r"[@#＃$]|https?:")
"""What would become a mention, hashtag or link at the beginning of a post, and was none within a word."""

_FULL_ENOUGH = 3
"""A post that is cut after a paragraph or a sentence is at least this part of a post full: a third."""


def split_text(text: str, *, max_length: int, max_bytes: float, measure: Measure) -> list[str]:
    """A text in pieces that each fit into a post, cut after a paragraph, else a sentence, else a word.

    Nothing but white space at the cuts is lost. A word that is longer than a post is cut between two characters.

    Args:
        text: the text.
        max_length: how many characters a piece may have.
        max_bytes: how many bytes of UTF-8 it may take.
        measure: how it is counted.

    Example:
        >>> from prefect_bluesky.posts import SHOWN
        >>> split_text("One. Two.", max_length=5, max_bytes=100, measure=SHOWN)
        ['One.', 'Two.']
    """
    text = text.strip()
    if not text:
        return [""]
    ends, counts, sizes = _measured(text, measure)
    # Neither a character that a reader sees nor an entity is cut.
    whole = {0, *ends}
    pauses = [[found.start() for found in pattern.finditer(text) if found.start() in whole] for pattern in _PAUSES]
    pieces = []
    unit = 0
    while unit < len(ends):
        start = ends[unit - 1] if unit else 0
        full = min(
            bisect_right(counts, counts[unit] + max_length) - 1, bisect_right(sizes, sizes[unit] + max_bytes) - 1
        )
        # What is too long even alone, as a link that is not shortened, is for the caller to refuse.
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


def _measured(text: str, measure: Measure) -> tuple[list[int], list[int], list[int]]:
    """Where each unit that must not be cut ends, and the characters and bytes before each unit and in all."""
    units: list[tuple[str, str]] = []  # as written, as counted
    last = 0
    for entity in measure.find(text):
        units += [(each, each) for each in graphemes(text[last : entity.start])]
        units.append((text[entity.start : entity.end], measure.counted(text, entity)))
        last = entity.end
    units += [(each, each) for each in graphemes(text[last:])]
    ends = list(accumulate(len(written) for written, _ in units))
    counts = list(accumulate((measure.length(counted) for _, counted in units), initial=0))
    sizes = list(accumulate((len(counted.encode()) for _, counted in units), initial=0))
    return ends, counts, sizes


def _pause(start: int, end: int, pauses: list[list[int]]) -> int | None:
    """The best place to cut in what fits."""
    # A pause that begins just after what fits fits too: white space at the cut is dropped.
    for rank, places in enumerate(pauses):
        place = places[bisect_right(places, end) - 1] if places and places[0] <= end else 0
        least = (end - start) // _FULL_ENOUGH if rank < len(pauses) - 1 else 0
        if place > start + least:
            return place
    return None
