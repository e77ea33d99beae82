"""Find where sentences end: not after a title, an abbreviation or the number of a list."""

from __future__ import annotations

from itertools import pairwise

import regex
import sentencex

from prefect_bluesky.posts.richtext import find_entities

PARAGRAPHS = regex.compile(r"\n\s*\n")
"""The separator of two paragraphs."""

_LINES = regex.compile(r"\n+")

# A number of a list or of a day ends no sentence, nor does an initial; nor what goes on with a small letter.
_GOES_ON = regex.compile(r"(?:^|[\s(“\"'])(?:\p{N}{1,2}|\p{Lu}|[\p{L}]{1,3}(?:\.\s?[\p{L}]{1,3})+)\.\s*$")
_SMALL = regex.compile(r"\s*\p{Ll}")
# As in “Sect. 4”, and in 「はい。」と言った.
_SHORT, _NUMBER = regex.compile(r"(?:^|\s)\p{Lu}\p{L}{1,3}\.\s*$"), regex.compile(r"\s*\d")
_QUOTED, _PARTICLE = regex.compile(r"[」』]\s*$"), regex.compile(r"[とっもはがをにでの]")


_LOOK_BACK = 30
"""Characters that are looked at before a sentence's end: the longest dotted abbreviation."""


def sentence_ends(text: str, language: str = "") -> list[int]:
    """Return where sentences and lines end in a text, each behind the white space that follows; the last is the text's.

    Args:
        text: the text.
        language: its code, such as `de`, if it is known: each language has other abbreviations.

    Example:
        >>> sentence_ends("Dr. Smith joins us. He is great.")
        [20, 32]
    """
    ends: list[int] = []
    start = 0
    for line in _lines(text):
        ends += [start + end for end in _ends_in_line(line, language)]
        start += len(line)
    return ends


def sentences(text: str, language: str = "") -> list[str]:
    """Return the sentences and lines of a text, without the white space around them.

    Example:
        >>> sentences("The U.S. team won. 1. First do this.")
        ['The U.S. team won.', '1. First do this.']
    """
    bounds = [0, *sentence_ends(text, language)]
    return [sentence for start, end in pairwise(bounds) if (sentence := text[start:end].strip())]


def _lines(text: str) -> list[str]:
    ends = [found.end() for found in _LINES.finditer(text)]
    bounds = sorted({0, *ends, len(text)})
    return [text[start:end] for start, end in pairwise(bounds)]


def _ends_in_line(line: str, language: str) -> list[int]:
    inside = [(entity.start, entity.end) for entity in find_entities(line)]
    ends: list[int] = []
    end = 0
    parts = list(sentencex.segment(language.partition("-")[0] or "en", line))
    for number, part in enumerate(parts):
        end += len(part)
        following = parts[number + 1] if number + 1 < len(parts) else ""
        if following and (
            _is_open(line[max(0, end - _LOOK_BACK) : end], following)
            or any(start < end < stop for start, stop in inside)
        ):
            continue
        ends.append(end)
    return ends or [len(line)]


def _is_open(tail: str, following: str) -> bool:
    """Return whether a sentence goes on, although it seems to end."""
    pairs = ((_SHORT, _NUMBER), (_QUOTED, _PARTICLE))
    if any(before.search(tail) and after.match(following) for before, after in pairs):
        return True
    return tail.rstrip().endswith(".") and bool(_SMALL.match(following) or _GOES_ON.search(tail))
