"""Take an idea apart for drafts by rule: its headline, and its text as passages that belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.posts import PARAGRAPHS, count_graphemes, sentence_ends, sentences

_LONGEST_HEADING = 80
"""Characters. A longer line is a paragraph without a full stop."""

_FEW = 8
"""Characters of the shortest sentence without spaces, as in Japanese, that says something by itself."""

_BULLET = re.compile(r"^\s*(?:[-*•‣◦]|\d{1,3}[.)])\s")
_ENDS_TEXT = re.compile(r"[.!?…:;,。！？।\u06d4؟]['\"”’)\]」』]*$")
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True)
class Passage:
    """A part of a text that stays together: a sentence, a list, or a heading with what it is about.

    Attributes:
        text: the passage.
        begins_paragraph: whether an empty line stands before it.
        joint: what stands between it and the passage before, if both are in one paragraph.
    """

    text: str
    begins_paragraph: bool
    joint: str = " "


@dataclass(frozen=True)
class Outline:
    """An idea for drafts by rule.

    Attributes:
        headline: the title, or else the first sentence.
        has_title: whether the headline is no part of the passages.
        passages: the text, without the title.
        paragraphs: the paragraphs that say something by themselves, without headings and lists.
    """

    headline: str
    has_title: bool
    passages: list[Passage]
    paragraphs: list[str]


def outline(idea: Idea) -> Outline:
    """Take an idea apart."""
    language = next(iter(idea.languages), "")
    blocks = [block.strip() for block in PARAGRAPHS.split(idea.text) if block.strip()]
    if idea.title:
        blocks = list(_without_headline(blocks, idea.title))
    passages = list(_passages(blocks, language))
    headline = idea.title or next(iter(sentences(idea.text, language)), "")
    paragraphs = [each for each in blocks if not _is_heading(each) and not _is_list(each) and says_something(each)]
    return Outline(headline, bool(idea.title), passages, paragraphs)


def _without_headline(blocks: list[str], title: str) -> Iterator[str]:
    """Yield the blocks of a page without its title, which pages repeat above their text."""
    for number, block in enumerate(blocks):
        first, _, rest = block.partition("\n")
        if number < 3 and _is_same_headline(first, title):
            if rest.strip():
                yield rest.strip()
        else:
            yield block


def _is_same_headline(line: str, title: str) -> bool:
    # A title may have the site's name behind it.
    written, wanted = ("".join(_WORDS.findall(text.casefold())) for text in (line, title))
    return bool(written) and (written == wanted or (len(written) >= 8 and wanted.startswith(written)))


def _passages(blocks: list[str], language: str) -> Iterator[Passage]:
    headings: list[str] = []
    for block in blocks:
        if _is_heading(block):
            headings.append(block)
            continue
        above, headings = "\n".join(headings), []
        for number, (text, joint) in enumerate(_parts(block, language)):
            if number == 0:
                yield Passage(f"{above}\n{text}" if above else text, begins_paragraph=True)
            else:
                yield Passage(text, begins_paragraph=False, joint=joint)
    if headings and len(headings) == len(blocks):
        yield Passage("\n".join(headings), begins_paragraph=True)


def _parts(block: str, language: str) -> Iterator[tuple[str, str]]:
    """Yield the sentences of a block, or its lists, each with what stands before it."""
    if _is_list(block):
        yield block, ""
        return
    bounds = [0, *sentence_ends(block, language)]
    joint = ""
    for start, end in pairwise(bounds):
        written = block[start:end]
        if text := written.strip():
            yield text, joint
            joint = "\n" if "\n" in written[len(written.rstrip()) :] else written[len(written.rstrip()) :]


def _is_heading(block: str) -> bool:
    is_line = "\n" not in block and count_graphemes(block) <= _LONGEST_HEADING
    return is_line and not _ENDS_TEXT.search(block) and not _BULLET.match(block) and "://" not in block


def _is_list(block: str) -> bool:
    lines = block.splitlines()
    return len(lines) > 1 and sum(bool(_BULLET.match(line)) for line in lines) >= len(lines) - 1


def says_something(text: str) -> bool:
    """Return whether a text is more than a few words."""
    return len(_WORDS.findall(text)) > 2 or (not text.isascii() and count_graphemes(text) >= _FEW)
