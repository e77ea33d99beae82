"""What there is to say, before it is made to fit a channel: an idea, and the drafts that a generator makes of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.posts import Image

Kind = Literal["hook", "link", "thread", "summary"]
"""What a draft is for: to catch the eye, to lead to a page, to tell all of it, or to tell it in short."""


class Draft(BaseModel):
    """Something to say, in as many posts as it takes.

    Args:
        kind: what it is for.
        posts: its texts: one, or those of a thread.
        link: where it leads. A channel shows it as a card, or at the end of the text.
        images: what stands with the first post.
        languages: what it is written in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Kind
    posts: tuple[str, ...] = Field(min_length=1)
    link: str | None = None
    images: tuple[Image, ...] = ()
    languages: tuple[str, ...] = ()
