"""What a person writes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from prefect_bluesky.richtext import count_graphemes

MAX_GRAPHEMES = 300
MAX_BYTES = 3000
"""Both from lexicons/app/bsky/feed/post.json."""


class Post(BaseModel):
    """A post as a person writes it.

    Links, mentions and hashtags in the text become clickable by themselves. Where a `Post` is expected, a plain string
    does too.

    Raises:
        pydantic.ValidationError: the text is empty or too long; the message says by how much.

    Example:
        >>> Post(text="Hello from #Prefect").text
        'Hello from #Prefect'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(
        title="Text",
        description=f"What the post says: up to {MAX_GRAPHEMES} characters as a reader counts them.",
        examples=["Hello from Prefect! https://prefect.io #automation"],
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @field_validator("text")
    @classmethod
    def _fits(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("the post is empty. Write something.")
        try:
            size = len(text.encode())
        except UnicodeEncodeError as broken:
            raise ValueError(
                f"character {broken.start + 1} is half of a surrogate pair, which no text file can hold. Remove it."
            ) from None
        graphemes = count_graphemes(text)
        if graphemes > MAX_GRAPHEMES:
            over = graphemes - MAX_GRAPHEMES
            raise ValueError(f"it has {graphemes} characters, {over} over the limit of {MAX_GRAPHEMES}. Shorten it.")
        if size > MAX_BYTES:
            over = size - MAX_BYTES
            raise ValueError(f"it takes {size} bytes, {over} over the limit of {MAX_BYTES}. Shorten it.")
        return text
