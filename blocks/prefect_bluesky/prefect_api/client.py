"""Prefect's API: one client for the whole process, and what its trouble looks like."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL

from prefect_bluesky.prefect_api.context import logger

API_TROUBLE = (httpx.TransportError, PrefectHTTPStatusError)
"""What a call of the API may raise where the API is away, or fails."""


@contextmanager
def api_client() -> Iterator[SyncPrefectClient]:
    """A client of the API that is at hand.

    Example:
        >>> with api_client() as client:
        ...     client.hello().status_code
        200
    """
    url = PREFECT_API_URL.value()
    if url:
        yield _client(url, PREFECT_API_KEY.value(), PREFECT_API_AUTH_STRING.value())
        return
    # A server that Prefect starts by itself ends with those who use it.
    with get_client(sync_client=True) as client:
        yield client


@contextmanager
def ignoring_api_trouble(what: str) -> Iterator[None]:
    """Do something that must not fail a run whose posts are out: somebody would start it again.

    Args:
        what: what does not happen then, for the log, such as `The artifact could not be made`.
    """
    try:
        yield
    except API_TROUBLE as trouble:
        logger().warning("%s: %s", what, type(trouble).__name__)


@cache
def _client(url: str, *settings: object) -> SyncPrefectClient:
    # One for all threads: a client of its own for each call costs 25 ms of CPU, most of it for the TLS context.
    return get_client(sync_client=True).__enter__()


# A forked child must not read from its parent's connections.
os.register_at_fork(after_in_child=_client.cache_clear)
