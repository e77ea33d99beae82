"""Fit drafts to channels: every variant satisfies its channel's rules, or is refused with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.channels.draft import Draft, Kind
from prefect_bluesky.errors import DoesNotFit
from prefect_bluesky.posts import WRITTEN, Image, Measure, split_text, tidy
from prefect_bluesky.prefect_api import as_form

_ENDS = (".", "!", "?", "…", "。", "！", "？")
_PAUSES = " ,;:-"


@dataclass(frozen=True)
class Rules:
    """The limits of a channel.

    Args:
        channel: the channel's name in messages.
        max_length: the largest number of characters of a post, as `measure` counts.
        max_bytes: the largest number of UTF-8 bytes of a post.
        max_posts: the largest number of posts of a thread; 1 if the channel has no threads.
        max_images: the largest number of images of a post.
        max_alt_length: the largest number of characters of an image's alt text.
        has_cards: whether a link is shown as a card; if not, the link is put at the end of the text.
        measure: how to count a text.

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
        """Return the length of a text in characters, as the channel counts."""
        return self.measure.length(self.measure.of(text))

    def excess(self, text: str) -> list[str]:
        """Return each limit that a text exceeds, and by how much; empty if the text fits."""
        counted = self.measure.of(text)
        length, size = self.measure.length(counted), len(counted.encode())
        measured = ((length, self.max_length, "characters"), (size, self.max_bytes, "bytes"))
        over = ((count, limit, unit) for count, limit, unit in measured if count > limit)
        return [f"{count:,} {unit}, {count - limit:,} over the limit of {limit:,}" for count, limit, unit in over]

    def with_link(self, text: str, link: str | None) -> str:
        """Return the text with the link below, if the channel has no cards and the text does not contain the link."""
        return text if self.has_cards else _below(text, link)

    def beside(self, link: str | None) -> Rules:
        """Return the limits of a text that has a link below."""
        reserve = self.length(self.with_link("x", link)) - 1
        return replace(self, max_length=self.max_length - reserve, max_bytes=self.max_bytes - reserve)

    def split(self, text: str) -> list[str]:
        """Split a text into the posts of a thread."""
        return split_text(text, max_length=self.max_length, max_bytes=self.max_bytes, measure=self.measure)

    def shortened(self, text: str, link: str | None = None) -> str:
        """Cut a text to fit into a post with its link: after a sentence if possible, else after a word."""
        text = text.strip()
        if not self.excess(self.with_link(text, link)):
            return text
        room = self.beside(link)
        if room.max_length <= len("…"):
            return ""
        dots = len("…"), len("…".encode())
        narrower = replace(room, max_length=room.max_length - dots[0], max_bytes=room.max_bytes - dots[1])
        kept = narrower.split(text)[0]
        short = kept if kept.endswith(_ENDS) else f"{kept.rstrip(_PAUSES)}…"
        # Links are never cut. If the text begins with a link that is too long, nothing fits.
        return "" if self.excess(self.with_link(short, link)) else short


class Variant(BaseModel):
    """A draft that was fitted to one channel, as it will be published."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, json_schema_extra=as_form)

    kind: Kind = Field(title="Kind", description="The purpose of the post.")
    posts: tuple[str, ...] = Field(title="Posts", description="The texts as they will appear, in order.", min_length=1)
    link: str | None = Field(default=None, title="Link", description="The page of the link card.")
    images: tuple[Image, ...] = Field(default=(), title="Images", description="The images of the first post.")
    languages: tuple[str, ...] = Field(default=(), title="Languages", description="The language codes of the texts.")


def fit(draft: Draft, rules: Rules) -> Variant:
    r"""Fit a draft to a channel. The same draft and rules always give the same variant.

    Long texts of a thread are split. No word is ever dropped: a draft that does not fit is refused.

    Args:
        draft: the draft to fit.
        rules: the channel's limits.

    Raises:
        DoesNotFit: the draft breaks a rule; the message names each post, the excess and the remedy.

    Example:
        >>> fit(Draft(kind="hook", posts=["Hi there"], link="https://example.com"), Rules("a pager", 40)).posts
        ('Hi there\n\nhttps://example.com',)
    """
    texts = [tidy(text) for text in draft.posts]
    texts = [text for text in texts if text] or ([""] if draft.link or draft.images else [])
    posts = _cut(texts, draft, rules)
    # A post shows either a card or images. A link is put below the last post, where the reader ends.
    has_card = rules.has_cards and not (draft.images and len(posts) == 1)
    if not has_card and texts:
        posts = _cut([*texts[:-1], _below(texts[-1], draft.link)], draft, rules)
    problems = list(_problems(posts, draft, rules))
    if problems:
        raise DoesNotFit(rules.channel, problems)
    link = draft.link if has_card else None
    return Variant(kind=draft.kind, posts=tuple(posts), link=link, images=draft.images, languages=draft.languages)


def _cut(texts: list[str], draft: Draft, rules: Rules) -> list[str]:
    return [piece for text in texts for piece in rules.split(text)] if draft.kind == "thread" else texts


def _below(text: str, link: str | None) -> str:
    if not link or link in text.split():
        return text
    return f"{text}\n\n{link}" if text else link


def _problems(texts: list[str], draft: Draft, rules: Rules) -> Iterator[str]:
    if not any(texts) and not draft.images and not draft.link:
        yield "posts: there is no text, image or link. Write something."
    if len(texts) > rules.max_posts:
        remedy = "Shorten the text." if rules.max_posts > 1 else "The channel has no threads: write one post."
        yield f"posts: there are {len(texts)}, and the limit is {rules.max_posts}. {remedy}"
    for number, text in enumerate(texts):
        for excess in rules.excess(text):
            yield f"posts[{number}]: it has {excess}. Shorten it."
    if len(draft.images) > rules.max_images:
        yield f"images: there are {len(draft.images)}, and the limit is {rules.max_images}. Leave some out."
    for number, image in enumerate(draft.images):
        if len(image.alt) > rules.max_alt_length:
            excess = f"{len(image.alt):,} characters, and the limit is {rules.max_alt_length:,}"
            yield f"images[{number}].alt: it has {excess}. Shorten it."
