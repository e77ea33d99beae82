"""The Python of this test session that has imported Prefect already: processes of tests do not import for seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prefect_bluesky.worker import warm

_IMPORTS = (
    "atproto",
    "prefect.cli.worker",
    "prefect.flow_engine",
    "prefect.runner",
    "prefect.server.api.server",
    "prefect.workers.process",
    "prefect_bluesky.compose",
    "prefect_bluesky.planning",
)

NAME = warm.NAME

_PROGRAM = "PREFECT_BLUESKY_TESTS_PYTHON"


def python() -> str:
    """The program of this test session; outside of one, as in a benchmark, Python itself."""
    return os.environ.get(_PROGRAM, sys.executable)


@contextmanager
def running(environment: Mapping[str, str]) -> Iterator[None]:
    """Keep such a Python until the context ends, and with it all that was forked. All processes below find the program.

    Args:
        environment: what modules read when they are imported.
    """
    with warm.running(_IMPORTS, environment, for_tests=True) as program:
        os.environ[_PROGRAM] = str(program)
        try:
            yield
        finally:
            del os.environ[_PROGRAM]
