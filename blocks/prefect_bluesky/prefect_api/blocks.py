"""Blocks that a person names by type and name, such as s3-bucket/pictures."""

from __future__ import annotations

from typing import Any

from prefect.blocks.core import Block, UnknownBlockType
from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import ValidationError

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.validation import explain_validation_error


def load_block(name: str, field: str) -> Any:
    """A saved block of any type.

    Args:
        name: its type and its name.
        field: where a person has named it.

    Raises:
        InvalidInput: there is none, or it cannot be used; the message says why, and shows no secret.
    """
    try:
        return run_coro_as_sync(Block.aload(name))
    except UnknownBlockType:
        raise InvalidInput(
            field, f"blocks of the type {name.partition('/')[0]} are not known here.", "Install the package with it."
        ) from None
    except ValueError:
        raise InvalidInput(field, f"there is no block {name}.", "Create it, or name another.") from None
    except RuntimeError as unusable:  # what Prefect makes of a field that is missing, or one too many
        why = (
            explain_validation_error(unusable.__cause__)
            if isinstance(unusable.__cause__, ValidationError)
            else "it is damaged"
        )
        raise InvalidInput(field, f"the block {name} cannot be used: {why}.", "Correct it.") from None
