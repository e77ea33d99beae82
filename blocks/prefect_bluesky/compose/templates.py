"""Make drafts without a model: cut the idea's own words for each purpose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

from prefect_bluesky.channels import Draft, Kind, Rules
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.compose.outline import Outline, Passage, outline, says_something

_FULL = 2 / 3
"""How full a post of a thread is, if there is a choice: a reader takes in two or three sentences at a glance."""

_LEAST = 1 / 5
"""How full a post of a thread is at the least, if there is a choice."""

_UNEVEN = 1.15
"""How much longer than another piece of a sentence a piece may be, so that it can end with a word."""


class TemplateGenerator:
    """Makes drafts from an idea's own words, without adding any.

    The drafts, in order: a hook with the headline; the headline with the beginning of the text; a thread of the whole
    idea; a summary with as much of the text as fits; a hook for each further paragraph. Each leads to the idea's link.
    If the idea is too short for a draft, that draft is left out.
    """

    def generate(self, idea: Idea, rules: Rules, count: int) -> list[Draft]:
        """Return at most `count` drafts that fit a channel."""
        drafts: list[Draft] = []
        for kind, posts in _ways(outline(idea), rules, idea.link):
            if all(posts) and not any(posts == draft.posts for draft in drafts):
                drafts.append(idea.draft(kind, posts, idea.link, rules))
        return drafts[:count]


def _ways(idea: Outline, rules: Rules, link: str | None) -> Iterator[tuple[Kind, tuple[str, ...]]]:
    thread = packed(_with_headline(idea), rules, link)
    body = _written(idea.passages)
    beginning = rules.shortened(thread[0] if thread else idea.headline, link)
    yield "hook", (rules.shortened(idea.headline, link) if says_something(idea.headline) else beginning,)
    if link:
        yield "link", (beginning,)
    if rules.max_posts > 1 and len(thread) > 1:
        yield "thread", tuple(thread)
    if body:
        yield "summary", (rules.shortened(body, link),)
    for paragraph in idea.paragraphs:
        yield "hook", (rules.shortened(paragraph, link),)


def _with_headline(idea: Outline) -> list[Passage]:
    """Return the passages below the headline, which is no post by itself."""
    if not idea.stands_apart:
        return idea.passages
    first, *others = idea.passages or [Passage("", begins_paragraph=True)]
    return [Passage(f"{idea.headline}\n\n{first.text}".strip(), begins_paragraph=True), *others]


def packed(passages: Sequence[Passage], rules: Rules, link: str | None = None) -> list[str]:
    """Return the posts of a thread: passages together, as far as a post is about two thirds full.

    The last post has room for the link.
    """
    full, least = rules.max_length * _FULL, rules.max_length * _LEAST
    posts: list[list[Passage]] = []
    for passage in _pieces(passages, rules, link):
        together = [*posts[-1], passage] if posts else []
        written = _written(together)
        has_room = rules.length(written) <= full or rules.length(_written(posts[-1] if posts else [])) < least
        if together and has_room and not rules.excess(written):
            posts[-1] = together
        else:
            posts.append([passage])
    for number in reversed(range(1, len(posts))):
        together = [*posts[number - 1], *posts[number]]
        if rules.length(_written(posts[number])) < least and not rules.excess(_written(together)):
            posts[number - 1 : number + 1] = [together]
    if posts and len(posts[-1]) > 1 and rules.excess(rules.with_link(_written(posts[-1]), link)):
        posts[-1:] = [posts[-1][:-1], posts[-1][-1:]]
    if len(posts) > 1:
        _fill(posts, rules, least, link)
    return [_written(post) for post in posts]


def _pieces(passages: Sequence[Passage], rules: Rules, link: str | None) -> Iterator[Passage]:
    for passage in passages:
        room = rules.beside(link) if passage is passages[-1] else rules
        if not room.excess(passage.text):
            yield passage
            continue
        for number, text in enumerate(_even(passage.text, room)):
            yield Passage(text, begins_paragraph=passage.begins_paragraph and number == 0)


def _even(text: str, rules: Rules) -> list[str]:
    """Return the pieces of a text that is too long for a post, of which the last one is no scrap."""
    pieces = rules.split(text)
    if len(pieces) < 2 or rules.length(pieces[-1]) >= rules.max_length * _LEAST:
        return pieces
    share = ceil(rules.length(text) / len(pieces) * _UNEVEN)
    return replace(rules, max_length=min(rules.max_length, share)).split(text)


def _fill(posts: list[list[Passage]], rules: Rules, least: float, link: str | None) -> None:
    """Let the last post be no scrap: put it to the one before, or take a passage from there."""
    if rules.length(_written(posts[-1])) >= least:
        return
    together = [*posts[-2], *posts[-1]]
    if not rules.excess(rules.with_link(_written(together), link)):
        posts[-2:] = [together]
    elif len(posts[-2]) > 1:
        moved = [posts[-2][-1], *posts[-1]]
        if not rules.excess(rules.with_link(_written(moved), link)):
            posts[-2:] = [posts[-2][:-1], moved]


def _written(passages: Sequence[Passage]) -> str:
    """Return passages as they follow each other."""
    text = ""
    for passage in passages:
        text += ("\n\n" if passage.begins_paragraph else passage.joint) + passage.text if text else passage.text
    return text
