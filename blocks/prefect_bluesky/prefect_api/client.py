"""Prefect's API: one client per process, and the errors of an API that is down or fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL

from prefect_bluesky.prefect_api.context import logger, own_server

T = TypeVar("T")

API_TROUBLE = (httpx.TransportError, PrefectHTTPStatusError)
"""The errors of a call if the API is down or fails."""


@contextmanager
def api_client() -> Iterator[SyncPrefectClient]:
    """Yield a client of the available Prefect API."""
    if (own := own_server.get()) is not None:
        yield own
        return
    url = PREFECT_API_URL.value()
    if url:
        yield _client(url, PREFECT_API_KEY.value(), PREFECT_API_AUTH_STRING.value())
        return
    # Prefect starts a server for this client and ends it with the client, so the client is not shared.
    with get_client(sync_client=True) as client:
        yield client


@contextmanager
def ignoring_api_trouble(what: str) -> Iterator[None]:
    """Log API errors after `what` instead of raising them: a failed run whose posts are out would be started again."""
    try:
        yield
    except API_TROUBLE as trouble:
        logger().warning("%s: %s", what, type(trouble).__name__)


def until_answered(call: Callable[[], T], patience: timedelta = timedelta(hours=1)) -> T:
    """Call the API until it answers, each second. After `patience`, raise its error."""
    deadline = time.monotonic() + patience.total_seconds()
    is_known = False
    while True:
        try:
            return call()
        except API_TROUBLE as trouble:
            is_refused = isinstance(trouble, PrefectHTTPStatusError) and trouble.response.status_code < 500
            if is_refused or time.monotonic() > deadline:
                raise
            if not is_known:
                logger().warning("Waiting for the Prefect server: %s", type(trouble).__name__)
            is_known = True
            time.sleep(1)


def standard_time(moment: datetime | None) -> datetime:
    """Return a time of Prefect's, which may be pendulum's, as the standard library's, whose arithmetic differs."""
    if moment is None:
        raise ValueError("Prefect's answer has no time where it always has one.")
    return datetime.fromisoformat(moment.isoformat())


@cache
def _client(url: str, *settings: object) -> SyncPrefectClient:
    # All threads share one client: a separate one for each call costs 25 ms of CPU, most of it for the TLS context.
    return get_client(sync_client=True).__enter__()


# A forked child must not use its parent's connections.
os.register_at_fork(after_in_child=_client.cache_clear)
