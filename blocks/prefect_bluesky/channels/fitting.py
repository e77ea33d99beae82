"""The last word on what goes out: every variant satisfies its channel's rules, or is refused with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.channels.draft import Draft, Kind
from prefect_bluesky.errors import DoesNotFit
from prefect_bluesky.posts import WRITTEN, Image, Measure, split_text, tidy
from prefect_bluesky.prefect_api import as_form


@dataclass(frozen=True)
class Rules:
    """What a channel takes.

    Args:
        channel: what a person calls it, for messages.
        max_length: how many characters a post may have, as `measure` counts them.
        max_bytes: how many bytes of UTF-8 it may take.
        max_posts: how many posts a thread may have; 1 where there are no threads.
        max_images: how many images a post may have.
        max_alt_length: how many characters the alt text of one may have.
        has_cards: whether a link is shown as a card; otherwise it stands at the end of the text.
        measure: how a text is counted.

    Example:
        >>> Rules(channel="a pager", max_length=20).excess("The server is on fire again")
        ['27 characters, 7 over the limit of 20']
    """

    channel: str
    max_length: int
    max_bytes: float = math.inf
    max_posts: int = 1
    max_images: int = 0
    max_alt_length: float = math.inf
    has_cards: bool = False
    measure: Measure = WRITTEN

    def length(self, text: str) -> int:
        """The characters of a text, as the channel counts them."""
        return self.measure.length(self.measure.of(text))

    def excess(self, text: str) -> list[str]:
        """What a text has too much of, with the limit; nothing if it fits."""
        counted = self.measure.of(text)
        measured = (
            (self.measure.length(counted), self.max_length, "characters"),
            (len(counted.encode()), self.max_bytes, "bytes"),
        )
        return [
            f"{count:,} {unit}, {count - limit:,} over the limit of {limit:,}"
            for count, limit, unit in measured
            if count > limit
        ]

    def with_link(self, text: str, link: str | None) -> str:
        """A text with the link below it, where the channel has no cards and the text does not hold it."""
        return text if self.has_cards else _below(text, link)

    def split(self, text: str) -> list[str]:
        """A text as the posts of a thread."""
        return split_text(text, max_length=self.max_length, max_bytes=self.max_bytes, measure=self.measure)

    def shortened(self, text: str, link: str | None = None) -> str:
        """As much of a text as fits into a post with its link, cut after a sentence, else a word.

        Example:
            >>> Rules(channel="a pager", max_length=20).shortened("The server is on fire again")
            'The server is on…'
        """
        text = text.strip()
        if not self.excess(self.with_link(text, link)):
            return text
        reserve = self.length(self.with_link("x", link)) - 1
        room = self.max_length - reserve - len("…")
        if room < 1:
            return ""
        narrower = replace(self, max_length=room, max_bytes=self.max_bytes - len("…".encode()) - reserve)
        kept = narrower.split(text)[0]
        short = kept if kept.endswith(_ENDS) else f"{kept.rstrip(_PAUSES)}…"
        # A link is never cut: where the text begins with one that is too long, nothing of it fits.
        return "" if self.excess(self.with_link(short, link)) else short


_ENDS = (".", "!", "?", "…", "。", "！", "？")
_PAUSES = " ,;:-"


class Variant(BaseModel):
    """A draft as it goes out on one channel.

    Args:
        kind: what it is for.
        posts: its texts, as they will appear: one, or those of a thread.
        link: the page of its card, where the channel has cards.
        images: what stands with the first post.
        languages: what it is written in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, json_schema_extra=as_form)

    kind: Kind = Field(title="Kind", description="What it is for.")
    posts: tuple[str, ...] = Field(title="Posts", description="Its texts, in order.", min_length=1)
    link: str | None = Field(default=None, title="Link", description="The page of the card below it.")
    images: tuple[Image, ...] = Field(default=(), title="Images", description="What stands with the first post.")
    languages: tuple[str, ...] = Field(default=(), title="Languages", description="What it is written in.")


def fit(draft: Draft, rules: Rules) -> Variant:
    r"""A draft as it goes out on a channel. The same draft under the same rules always becomes the same.

    What is long in a thread is split. No word of a text is ever dropped: what does not fit is refused.

    Args:
        draft: what to say.
        rules: what the channel takes.

    Raises:
        DoesNotFit: it cannot go out there; the message names each post, by how much it is over, and the remedy.

    Example:
        >>> fit(Draft(kind="hook", posts=["Hi there"], link="https://example.com"), Rules("a pager", 40)).posts
        ('Hi there\n\nhttps://example.com',)
    """
    texts = [tidy(text) for text in draft.posts]
    texts = [text for text in texts if text] or ([""] if draft.link or draft.images else [])
    posts = _cut(texts, draft, rules)
    # A post shows a card or images. A link stands where the reader has got to.
    has_card = rules.has_cards and not (draft.images and len(posts) == 1)
    if not has_card and texts:
        posts = _cut([*texts[:-1], _below(texts[-1], draft.link)], draft, rules)
    problems = list(_problems(posts, draft, rules))
    if problems:
        raise DoesNotFit(rules.channel, problems)
    return Variant(
        kind=draft.kind,
        posts=tuple(posts),
        link=draft.link if has_card else None,
        images=draft.images,
        languages=draft.languages,
    )


def _cut(texts: list[str], draft: Draft, rules: Rules) -> list[str]:
    if draft.kind != "thread":
        return texts
    return [piece for text in texts for piece in rules.split(text)]


def _below(text: str, link: str | None) -> str:
    if not link or link in text.split():
        return text
    return f"{text}\n\n{link}" if text else link


def _problems(texts: list[str], draft: Draft, rules: Rules) -> Iterator[str]:
    if not any(texts) and not draft.images and not draft.link:
        yield "posts: there is nothing in them. Write something."
    if len(texts) > rules.max_posts:
        remedy = "Say it in fewer words." if rules.max_posts > 1 else "It has no threads: say it in one post."
        yield f"posts: it takes {len(texts)} of them, and the limit is {rules.max_posts}. {remedy}"
    for number, text in enumerate(texts):
        for excess in rules.excess(text):
            yield f"posts[{number}]: it has {excess}. Shorten it."
    if len(draft.images) > rules.max_images:
        yield f"images: there are {len(draft.images)}, and the limit is {rules.max_images}. Leave some out."
    for number, image in enumerate(draft.images):
        if len(image.alt) > rules.max_alt_length:
            limit = f"and the limit is {rules.max_alt_length:,}. Shorten it."
            yield f"images[{number}].alt: it has {len(image.alt):,} characters, {limit}"
