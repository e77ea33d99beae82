"""Where this code runs: inside a Prefect run or not, with a Prefect API at hand or not."""

from __future__ import annotations

import logging

from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.settings import PREFECT_API_URL


def in_run() -> bool:
    """Whether a flow run or task run of Prefect is under way here."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def api_at_hand() -> bool:
    """Whether a Prefect API may be used. Outside a run and without a configured one, using it would start a server."""
    return in_run() or bool(PREFECT_API_URL.value())


def logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """The run's logger inside a run, so that people see the lines in the UI; else one of this package."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("bluesky")
