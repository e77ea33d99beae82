"""Why what a person wrote cannot be used, in the words of where it is read: in a shell, or on the page of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError, WrapValidator

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.validation import explain_validation_error

T = TypeVar("T")

_REMEDY = "set split_long_text"
"""The remedy of a long text, in Python and in calendars."""


def in_words_of_a_shell(unusable: ValidationError) -> str:
    """Return why a post that was written in a shell cannot be used."""
    return explain_validation_error(unusable).replace(_REMEDY, "pass --split")


def _read(given: Any, read: Callable[[Any], T]) -> T | InvalidInput:
    try:
        return read(given)
    except ValidationError as unusable:
        why = explain_validation_error(unusable).replace(_REMEDY, "tick Split a long text (in publish-advanced)")
        field, _, reason = why.partition(": ")
        return InvalidInput(field, reason, "")


OF_A_FORM = WrapValidator(_read)
"""Marks a flow's parameter that a person writes in a form. `usable` raises its error within the flow.

For a parameter that Prefect refuses before the flow begins, the log of the run has a traceback (3.8.8 to 3.9.1).

Example:
    >>> @flow
    ... def my_flow(post: Annotated[Post, OF_A_FORM]) -> str:
    ...     return usable(post).text
    >>> my_flow({"text": ""})
    Traceback (most recent call last):
    prefect_bluesky.errors.InvalidInput: text: the post is empty. Write something.
"""


def usable(given: T) -> T:
    """Return what a person wrote in a form.

    Raises:
        InvalidInput: it cannot be used; the message names the field and the remedy.
    """
    if isinstance(given, InvalidInput):
        raise given
    return given
