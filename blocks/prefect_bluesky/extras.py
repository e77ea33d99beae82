"""What a part of this package needs that is installed only with an extra of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect_bluesky.errors import InvalidInput


@contextmanager
def extra(name: str, field: str) -> Iterator[None]:
    """Import what comes with an extra.

    Args:
        name: the extra.
        field: what a person has chosen that needs it.

    Raises:
        InvalidInput: it is not installed; the message says how it is.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        raise InvalidInput(
            field, f"{missing.name} is not installed.", f'Install it: pip install "prefect-bluesky[{name}]".'
        ) from None
