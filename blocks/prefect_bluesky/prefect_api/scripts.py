"""What a script needs of Prefect that a person starts without a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings


@contextmanager
def quiet_server() -> Iterator[None]:
    """Let the server that Prefect starts for a script send no telemetry.

    A server that ends before its telemetry was sent prints 150 lines of tracebacks (Prefect 3.8.8). Also a decorator.

    Example:
        >>> @quiet_server()
        ... def main() -> None:
        ...     flow()
    """
    with temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}):
        yield
