"""Optional dependencies, which are installed with an extra of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect_bluesky.errors import InvalidInput


@contextmanager
def extra(name: str, field: str) -> Iterator[None]:
    """Import an extra's packages inside this context. `field` is the input that needs them.

    Raises:
        InvalidInput: a package is not installed. The message says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        remedy = f'Install it: pip install "prefect-bluesky[{name}]".'
        raise InvalidInput(field, f"{missing.name} is not installed.", remedy) from None
