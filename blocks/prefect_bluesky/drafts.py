"""What there is to say, before it is made to fit a channel: an idea, and the drafts that a generator makes of it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from prefect_bluesky.attachments import Image, is_web_address
from prefect_bluesky.forms import as_form
from prefect_bluesky.inputs import normal_language
from prefect_bluesky.richtext import tidy

Kind = Literal["hook", "link", "thread", "summary"]
"""What a draft is for: to catch the eye, to lead to a page, to tell all of it, or to tell it in short."""


MAX_TEXT = 50_000
"""Characters of an idea: several times what the longest thread holds, and little enough to be kept with a run."""


class Idea(BaseModel):
    """What somebody wants to tell.

    Raises:
        pydantic.ValidationError: there is nothing in it.

    Example:
        >>> Idea(text="Release 2.0 is out. It is twice as fast.", link="https://example.com/2.0").title
        ''
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, json_schema_extra=as_form)

    text: str = Field(
        default="", title="Text", description="A sentence, or an article: paragraphs of text.", max_length=MAX_TEXT
    )
    title: str = Field(
        default="", title="Title", description="What it is about. Left out: its first sentence.", max_length=1000
    )
    link: str | None = Field(default=None, title="Link", description="Where more is to be read.")
    images: tuple[Image, ...] = Field(default=(), title="Images", description="What there is to see.")
    languages: tuple[str, ...] = Field(default=(), title="Languages", description="Up to three codes.", max_length=3)

    @field_validator("text", "title")
    @classmethod
    def _is_tidy(cls, text: str) -> str:
        return tidy(text)

    @field_validator("languages")
    @classmethod
    def _are_languages(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(normal_language, languages))

    @field_validator("link")
    @classmethod
    def _is_a_web_page(cls, link: str | None) -> str | None:
        if link and not is_web_address(link):
            raise ValueError("it is no web address. It begins with https:// or http://, and holds no password.")
        return link or None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.text and not self.title:
            raise ValueError("text: there is no idea in it. Write a sentence.")
        return self


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
