"""The remedy of a text that is too long, in the words of where it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from prefect_bluesky.posts.post import Post
from prefect_bluesky.validation import explain_validation_error

_REMEDY = "set split_long_text"
"""The remedy in Python and in calendars."""


def in_words_of_a_shell(unusable: ValidationError) -> str:
    """Return why a post that was written in a shell cannot be used."""
    return explain_validation_error(unusable).replace(_REMEDY, "pass --split")


def _read(post: Any, read: Callable[[Any], Post]) -> Post:
    try:
        return read(post)
    except ValidationError as unusable:
        why = explain_validation_error(unusable).replace(_REMEDY, "tick Split a long text")
        raise PydanticCustomError("post", "{why}", {"why": why}) from None


PostOfAForm = Annotated[Post, WrapValidator(_read)]
"""A post that a person writes in a form, and whose error is read on the run's page."""
