"""One at a time, across workers: the lock under which an account's session is renewed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from http import HTTPStatus
from random import uniform
from threading import Event, Thread
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

from prefect_bluesky.api import API_TROUBLE, api_client
from prefect_bluesky.runtime import api_at_hand, logger

_POLL = 0.1, 1.0
"""Seconds between two tries, at first and at most. A renewal takes less than one; the server would have a waiter sleep
for up to 39 (its `maximum_concurrency_slot_wait_seconds`, with jitter), which is why Prefect's own context manager
`concurrency` does not do here."""


@contextmanager
def worker_lock(name: str, *, lease: float, patience: float = 30) -> Iterator[None]:
    """Hold a Prefect global concurrency limit of one slot.

    Without an API at hand nothing is held: there the caller's own lock must do, and no server is started for it.
    Where the API fails, the work goes on without the lock: a second refresh does no harm, a missed post does.

    Args:
        name: the limit's name; it is created where it is missing.
        lease: seconds after which a worker that died loses the lock.
        patience: seconds to wait beyond a lease for the server to notice that.
    """
    if not api_at_hand():
        yield
        return
    with api_client() as client:
        held = _acquire(client, name, lease, patience)
        try:
            with _renewed(held, lease):
                yield
        finally:
            if held:
                try:
                    client.release_concurrency_slots_with_lease(held)
                except API_TROUBLE as why:
                    logger().warning("The lock %s opens after its lease of %.0f s: %s", name, lease, type(why).__name__)


def _acquire(client: SyncPrefectClient, name: str, lease: float, patience: float) -> UUID | None:
    """Wait for the slot; the lease under which it is held, or None where the work goes on without it."""
    deadline = time.monotonic() + lease + patience
    pause, longest = _POLL
    try:
        while (held := _try(client, name, lease)) is None:
            if time.monotonic() > deadline:
                logger().warning(
                    "The lock %s was held for longer than its lease, so its holder is dead: freeing it", name
                )
                _free(client, name)
                return None
            time.sleep(pause * uniform(0.5, 1))
            pause = min(2 * pause, longest)
    except API_TROUBLE as why:
        logger().warning("Going on without the lock %s: %s", name, type(why).__name__)
        return None
    return held


def _try(client: SyncPrefectClient, name: str, lease: float) -> UUID | None:
    try:
        answer = client.increment_concurrency_slots_with_lease([name], 1, "concurrency", lease)
    except PrefectHTTPStatusError as refusal:
        if refusal.response.status_code == HTTPStatus.LOCKED:
            return None
        raise
    granted = ConcurrencyLimitWithLeaseResponse.model_validate(answer.json())
    if granted.limits:
        return granted.lease_id
    # A missing limit lets everyone in. Workers that meet here for the first time all try to make it.
    with suppress(ObjectAlreadyExists):
        client.upsert_global_concurrency_limit_by_name(name, 1)
    return _try(client, name, lease)


@contextmanager
def _renewed(held: UUID | None, lease: float) -> Iterator[None]:
    """Keep a lease from running out. Where that fails, the work goes on: a refresh that was sent is never abandoned."""
    is_over = Event()

    def renew() -> None:
        while held and not is_over.wait(lease / 2):
            with suppress(*API_TROUBLE), api_client() as client:
                client.renew_concurrency_lease(held, lease)

    Thread(target=copy_context().run, args=(renew,), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _free(client: SyncPrefectClient, name: str) -> None:
    """Take the slot from a dead holder: a server that Prefect started by itself does not look for expired leases."""
    with suppress(*API_TROUBLE, ObjectNotFound):
        client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=0))
