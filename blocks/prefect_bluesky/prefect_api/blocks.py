"""Load blocks that a person names by type and name, such as s3-bucket/pictures."""

from __future__ import annotations

from typing import Any

from prefect.blocks.core import Block, UnknownBlockType
from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import ValidationError

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.validation import explain_validation_error


def load_block(name: str, field: str) -> Any:
    """Return a saved block of any type. `field` is the input that named the block.

    Raises:
        InvalidInput: the block does not exist or is unusable. The message says why and shows no secret.
    """
    try:
        return run_coro_as_sync(Block.aload(name))
    except UnknownBlockType:
        reason = f"the block type {name.partition('/')[0]} is not known here."
        raise InvalidInput(field, reason, "Install the package that provides it.") from None
    except ValueError:
        raise InvalidInput(field, f"there is no block {name}.", "Create the block, or name another one.") from None
    except RuntimeError as unusable:  # Prefect raises it for a missing field and for an unknown one
        cause = unusable.__cause__
        why = explain_validation_error(cause) if isinstance(cause, ValidationError) else "it is damaged"
        raise InvalidInput(field, f"the block {name} cannot be used: {why}.", "Correct the block.") from None
