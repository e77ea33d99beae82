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
"""Characters of the shortest sentence that says something by itself in a script without spaces."""

_DENSE = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
"""Scripts without spaces: Thai and Lao, Japanese, Chinese."""

_SHORTEST, _SHORTEST_HEADLINE = 40, 25
"""Characters of the shortest paragraph, and of the shortest headline without a full stop, that stand alone."""

_NEAR = 3
"""The number of paragraphs among which a page repeats its title."""

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
        stands_apart: whether the headline is no part of the passages.
        passages: the text, without the title.
        paragraphs: those that say something by themselves, without headings, lists and what begins with the headline.
    """

    headline: str
    stands_apart: bool
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
    # Some pages begin with a sentence that begins with the title.
    is_said = bool(passages) and _letters(passages[0].text).startswith(_letters(headline))
    others = blocks[1:] if is_said else blocks
    return Outline(headline, not is_said, passages, [each for each in others if _is_paragraph(each)])


def _without_headline(blocks: list[str], title: str) -> Iterator[str]:
    """Yield the blocks of a page without its title, which pages repeat above their text."""
    for number, block in enumerate(blocks):
        first, _, rest = block.partition("\n")
        if number < _NEAR and _is_same_headline(first, title):
            if rest.strip():
                yield rest.strip()
        elif number < _NEAR and (text := _without_first_sentence(block, title)):
            yield text
        else:
            yield block


def _is_same_headline(line: str, title: str) -> bool:
    # A title may have the site's name behind it.
    written, wanted = _letters(line), _letters(title)
    return bool(written) and (written == wanted or (len(written) >= 8 and wanted.startswith(written)))


def _without_first_sentence(block: str, title: str) -> str:
    """Return a paragraph without its first sentence if that is the title, or ""."""
    end = sentence_ends(block)[0]
    return block[end:].strip() if _letters(block[:end]) == _letters(title) else ""


def _letters(text: str) -> str:
    return "".join(_WORDS.findall(text.casefold()))


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
    if headings:
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


def _is_paragraph(block: str) -> bool:
    """Return whether a block says enough to stand alone."""
    is_long = count_graphemes(block) >= (2 * _FEW if _DENSE.search(block) else _SHORTEST)
    return is_long and _ENDS_TEXT.search(block) is not None and not _is_list(block) and not block.endswith((":", ","))


def says_something(text: str) -> bool:
    """Return whether a headline can stand alone: it is a sentence, or more than a few words."""
    words = len(_WORDS.findall(text))
    is_sentence = _ENDS_TEXT.search(text) is not None
    return (
        (is_sentence and words > 2)
        or count_graphemes(text) >= _SHORTEST_HEADLINE
        or (_DENSE.search(text) is not None and count_graphemes(text) >= _FEW)
    )
