"""Make drafts without a model: cut the idea's own words for each purpose."""

from __future__ import annotations

from collections.abc import Iterator

from prefect_bluesky.channels import Draft, Kind, Rules
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.posts import PARAGRAPHS, SENTENCES


class TemplateGenerator:
    """Makes drafts from an idea's own words, without adding any.

    The drafts, in order: a hook with the headline; a post that leads to the link; a thread of the whole idea; a summary
    with as much of the beginning as fits; a hook for each further paragraph. If the idea is too short for a draft, that
    draft is left out.
    """

    def generate(self, idea: Idea, rules: Rules, count: int) -> list[Draft]:
        """Return at most `count` drafts that fit a channel."""
        drafts: list[Draft] = []
        for kind, posts, link in _ways(idea, rules):
            if all(posts) and not any(posts == draft.posts and link == draft.link for draft in drafts):
                drafts.append(idea.draft(kind, posts, link, rules))
        return drafts[:count]


def _ways(idea: Idea, rules: Rules) -> Iterator[tuple[Kind, tuple[str, ...], str | None]]:
    paragraphs = [paragraph.strip() for paragraph in PARAGRAPHS.split(idea.text) if paragraph.strip()]
    sentences = [sentence.strip() for sentence in SENTENCES.split(idea.text) if sentence.strip()]
    headline = idea.title or sentences[0]
    yield "hook", (rules.shortened(headline),), None
    if idea.link:
        yield "link", (rules.shortened(headline, idea.link),), idea.link
    parts = paragraphs if len(paragraphs) > 1 else sentences
    if idea.title:
        parts = [headline, *parts]
    if rules.max_posts > 1 and len(parts) > 1:
        yield "thread", tuple(parts), idea.link
    yield "summary", (rules.shortened(" ".join(sentences), idea.link),), idea.link
    for paragraph in paragraphs[1:]:
        yield "hook", (rules.shortened(paragraph),), None
