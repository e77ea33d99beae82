"""Drafts by rule, without a model: what an idea says, cut for each purpose."""

from __future__ import annotations

from collections.abc import Iterator

from prefect_bluesky.channels import Draft, Kind, Rules
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.posts import PARAGRAPHS, SENTENCES


class TemplateGenerator:
    """Makes drafts of an idea's own words: nothing is added to them.

    In this order: a hook, which is its headline; a post that leads to its link; a thread of all of it; a summary, which
    is as much of its beginning as fits; then a hook of each further paragraph. What an idea is too short for is left
    out.

    Example:
        >>> idea = Idea(text="Release 2.0 is out. It is twice as fast.", link="https://example.com/2.0")
        >>> [draft.kind for draft in TemplateGenerator().generate(idea, Rules("a pager", 60, max_posts=5), 3)]
        ['hook', 'link', 'thread']
    """

    def generate(self, idea: Idea, rules: Rules, count: int) -> list[Draft]:
        """Drafts that fit a channel.

        Args:
            idea: what to tell.
            rules: what the channel takes.
            count: how many drafts at most.
        """
        paragraphs = [paragraph.strip() for paragraph in PARAGRAPHS.split(idea.text) if paragraph.strip()]
        sentences = [sentence.strip() for sentence in SENTENCES.split(idea.text) if sentence.strip()]
        headline = idea.title or sentences[0]
        drafts: list[Draft] = []
        for kind, posts, link in self._ways(idea, rules, headline, sentences, paragraphs):
            if not posts or not all(posts) or any(posts == draft.posts and link == draft.link for draft in drafts):
                continue
            # A post shows a card or images, and without a card a link takes its place in the text.
            shows_card = link and rules.has_cards and kind != "thread"
            drafts.append(
                Draft(
                    kind=kind,
                    posts=posts,
                    link=link,
                    images=() if shows_card else idea.images[: rules.max_images],
                    languages=idea.languages,
                )
            )
        return drafts[:count]

    @staticmethod
    def _ways(
        idea: Idea, rules: Rules, headline: str, sentences: list[str], paragraphs: list[str]
    ) -> Iterator[tuple[Kind, tuple[str, ...], str | None]]:
        yield "hook", (rules.shortened(headline),), None
        if idea.link:
            yield "link", (rules.shortened(headline, idea.link),), idea.link
        told = paragraphs if len(paragraphs) > 1 else sentences
        if idea.title:
            told = [headline, *told]
        if rules.max_posts > 1 and len(told) > 1:
            yield "thread", tuple(told), idea.link
        yield "summary", (rules.shortened(" ".join(sentences), idea.link),), idea.link
        for paragraph in paragraphs[1:]:
            yield "hook", (rules.shortened(paragraph),), None
