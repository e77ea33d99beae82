"""The models that a person writes in Python and passes to tasks."""

from __future__ import annotations

from collections.abc import KeysView
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from prefect_bluesky.validation import in_plain_words


class OneValue:
    """A model that is one value to a task's `map`, which maps over whatever can be iterated.

    Pydantic's models can be. Prefect also reads a model's fields by `dict(model)`, for which keys are enough.

    Example:
        >>> iter(credentials)
        Traceback (most recent call last):
        TypeError: 'BlueskyCredentials' object is not iterable
        >>> dict(credentials)["handle"]
        'alice.test'
    """

    if not TYPE_CHECKING:  # to type checkers, each model can be iterated
        __iter__ = None

    def keys(self) -> KeysView[str]:
        """Return the names of the fields."""
        return self.__dict__.keys()

    def __getitem__(self, field: str) -> Any:
        return self.__dict__[field]


class Written(OneValue, BaseModel):
    """A model whose constructor refuses a field in plain words.

    Whatever validates data, such as a form, a calendar or `model_validate`, still gets pydantic's error.

    Raises:
        InvalidInput: a field cannot be used.
    """

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as unusable:
            raise in_plain_words(unusable, type(self)) from None

    # Without this mark, pydantic calls the constructor for a model within another too (pydantic's root_model.py).
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]
