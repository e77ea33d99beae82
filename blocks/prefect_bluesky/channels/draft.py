"""A draft that a generator makes from an idea, before it is fitted to a channel."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.posts import Image

Kind = Literal["hook", "link", "thread", "summary"]
"""The purpose of a draft: catch the eye, lead to a page, tell the whole idea, or summarise the idea."""


class Draft(BaseModel):
    """A text in one or more posts, not yet fitted to a channel.

    Args:
        kind: the draft's purpose.
        posts: the text of the post, or the texts of a thread.
        link: the page to lead to. A channel shows the link as a card or at the end of the text.
        images: the images of the first post.
        languages: the language codes of the texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Kind
    posts: tuple[str, ...] = Field(min_length=1)
    link: str | None = None
    images: tuple[Image, ...] = ()
    languages: tuple[str, ...] = ()
