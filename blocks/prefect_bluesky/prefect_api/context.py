"""The surroundings of this code: a Prefect run, a Prefect API, and the logger to use."""

from __future__ import annotations

import logging
from contextvars import ContextVar

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.settings import PREFECT_API_URL

own_server: ContextVar[SyncPrefectClient | None] = ContextVar("prefect_bluesky_own_server", default=None)
"""The client of the Prefect server that this process is, where the server itself runs this code."""


def in_run() -> bool:
    """Return whether this code runs inside a flow run or task run."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def current_flow_run() -> FlowRun | None:
    """Return the flow run that this code runs in, or None."""
    context = FlowRunContext.get()
    return context.flow_run if context else None


def api_at_hand() -> bool:
    """Return whether a Prefect API may be used. Outside a run and without a configured API, a call starts a server."""
    return in_server() or in_run() or bool(PREFECT_API_URL.value())


def in_server() -> bool:
    """Return whether a Prefect server runs this code, as for a notification; see `in_thread`."""
    return own_server.get() is not None


def logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the run's logger, whose lines the UI shows. Outside a run, return this package's logger."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("bluesky")
