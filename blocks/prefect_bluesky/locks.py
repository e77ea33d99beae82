"""One at a time, across workers: the lock under which an account's session is renewed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

from prefect_bluesky.runtime import api_at_hand, logger

_API_TROUBLE = (httpx.TransportError, PrefectHTTPStatusError)


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
    held = ExitStack()
    if api_at_hand():
        try:
            # A missing limit would let everyone in. Workers that meet here for the first time all try to make it.
            with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
                client.upsert_global_concurrency_limit_by_name(name, 1)
            held.enter_context(
                concurrency(
                    name,
                    timeout_seconds=lease + patience,
                    lease_duration=lease,
                    strict=True,
                    # A refresh that was sent is never abandoned, whatever became of the lease.
                    raise_on_lease_renewal_failure=False,
                )
            )
        except TimeoutError:
            logger().warning("The lock %s was held for longer than its lease, so its holder is dead: freeing it", name)
            _free(name)
        except (*_API_TROUBLE, ConcurrencySlotAcquisitionError) as why:
            logger().warning("Going on without the lock %s: %s", name, type(why).__name__)
    try:
        yield
    finally:
        try:
            held.close()
        except _API_TROUBLE as why:
            logger().warning("The lock %s opens after its lease of %.0f s: %s", name, lease, type(why).__name__)


def _free(name: str) -> None:
    """Take the slot from a dead holder: a server that Prefect started by itself does not look for expired leases."""
    with suppress(*_API_TROUBLE, ObjectNotFound), get_client(sync_client=True) as client:
        client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=0))
