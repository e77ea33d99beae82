"""Let one worker at a time renew an account's session, by a global concurrency limit of Prefect."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from random import uniform
from threading import Event, Lock, Thread
from uuid import UUID

from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from prefect_bluesky.errors import StoreUnavailable
from prefect_bluesky.prefect_api import API_TROUBLE, api_at_hand, api_client, logger

_POLL = 0.1, 1.0
"""Seconds between two tries, at first and at most. A renewal takes less than one second. Prefect's own `concurrency`
would let a waiter sleep for up to 39 s (the server's `maximum_concurrency_slot_wait_seconds`, with jitter)."""

_TROUBLE = (*API_TROUBLE, ValueError)
"""Raised if the API is away, or fails, or a proxy answers for it."""


@contextmanager
def worker_lock(name: str, *, lease: float, patience: float = 30, required: bool = False) -> Iterator[None]:
    """Hold a Prefect global concurrency limit of one slot.

    Without a Prefect API nothing is held: the caller's own lock must do, and no server is started for it. If the API
    fails, the work goes on without the lock: a second refresh does no harm, a missed post does. With `required`,
    nothing goes on without the lock.

    Threads that ask at the same time, each for a lock of its own, take theirs in one request and give them back in one.
    Without that, 300 accounts that sign in together take 1.80 times the PDS's own limit instead of 1.31 (measured).
    A dead worker loses the lock after `lease` seconds, which the server notices within `patience` more seconds.

    Raises:
        StoreUnavailable: the lock is required, and there is no Prefect API, or it fails.
    """
    held = None
    if api_at_hand():
        held = _acquire(name, lease, patience)
        if held is None and required:
            # Freed from a dead holder, the lock may be had now.
            held = _acquire(name, lease, patience)
    if held is None and required:
        raise StoreUnavailable(f"lock {name}", "Prefect does not give it. Check PREFECT_API_URL and its server.")
    try:
        yield
    finally:
        if held:
            held.leave()


class _Held:
    """Slots that were taken in one request, until the last of their holders has left.

    The lease is renewed while all holders work. After the first holder leaves it is renewed no more. Waiters then take
    over after it expires; releasing it later must not release someone else's slot.
    """

    def __init__(self, lease_id: UUID, lease: float, names: Collection[str]) -> None:
        self._id = lease_id
        self._lease = lease
        self._names = ", ".join(names)
        self._holders = len(names)
        self._lock = Lock()
        self._is_over = Event()
        Thread(target=copy_context().run, args=(self._renew,), daemon=True).start()

    def leave(self) -> None:
        """Release the slots if this was their last holder."""
        self._is_over.set()
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
        try:
            with api_client() as client:
                client.release_concurrency_slots_with_lease(self._id)
        except API_TROUBLE as why:
            logger().warning(
                "The lock %s opens after its lease of %.0f s: %s", self._names, self._lease, type(why).__name__
            )

    def _renew(self) -> None:
        """Renew the lease. If that fails, the work goes on: a request that was sent is never abandoned."""
        while not self._is_over.wait(self._lease / 2):
            with suppress(*API_TROUBLE), api_client() as client:
                client.renew_concurrency_lease(self._id, self._lease)


class _Not(Enum):
    """Why a slot is not held."""

    FREE = auto()
    THERE = auto()


_Answer = _Held | _Not | Exception


@dataclass(eq=False)
class _Wish:
    """A slot that a thread waits for."""

    name: str
    lease: float
    answer: _Answer | None = None


class _Queue:
    """The wishes of several threads. The thread whose turn it is asks for all that wait."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._waiting: list[_Wish] = []

    def ask(self, name: str, lease: float) -> _Held | _Not:
        wish = _Wish(name, lease)
        self._waiting.append(wish)
        with self._turn:
            while wish.answer is None:
                # Two wishes for one name are two requests.
                together = {each.name: each for each in reversed(self._waiting) if each.lease == lease}
                for each in together.values():
                    self._waiting.remove(each)
                self._ask(list(together.values()))
        if isinstance(wish.answer, Exception):
            raise wish.answer
        return wish.answer

    def _ask(self, together: list[_Wish]) -> None:
        try:
            answers = _ask([each.name for each in together], together[0].lease)
        except Exception as trouble:  # each thread raises it itself
            for each in together:
                each.answer = trouble
            return
        for each in together:
            each.answer = answers[each.name]


_queues: defaultdict[str | None, _Queue] = defaultdict(_Queue)
"""For each API, by its URL."""

# In a forked child, nobody would end the parent's turn.
os.register_at_fork(after_in_child=_queues.clear)


def _acquire(name: str, lease: float, patience: float) -> _Held | None:
    """Wait for the slot; return None if the work goes on without it."""
    pause, longest = _POLL
    queue = _queues[PREFECT_API_URL.value()]
    try:
        answer = queue.ask(name, lease)
        deadline = time.monotonic() + lease + patience
        while isinstance(answer, _Not):
            if time.monotonic() > deadline:
                logger().warning(
                    "The lock %s was held for longer than its lease, so its holder is dead: freeing it", name
                )
                _free(name)
                return None
            if answer is _Not.THERE:
                _create(name)
                answer = queue.ask(name, lease)
                continue
            time.sleep(pause * uniform(0.5, 1))
            pause = min(2 * pause, longest)
            # Alone: those who ask together are refused together, whichever slot is taken.
            answer = _ask([name], lease)[name]
    except _TROUBLE as why:
        logger().warning("Going on without the lock %s: %s", name, type(why).__name__)
        return None
    return answer


def _ask(names: list[str], lease: float) -> dict[str, _Held | _Not]:
    """Ask for slots; the answer is all that exist, or none if one of them is not free."""
    try:
        with api_client() as client:
            answer = client.increment_concurrency_slots_with_lease(names, 1, "concurrency", lease)
    except PrefectHTTPStatusError as refusal:
        status = refusal.response.status_code
        # If asked for together, all are refused for one of them.
        if status == HTTPStatus.LOCKED or (len(names) > 1 and status < HTTPStatus.INTERNAL_SERVER_ERROR):
            return dict.fromkeys(names, _Not.FREE)
        raise
    granted = ConcurrencyLimitWithLeaseResponse.model_validate(answer.json())
    # A missing limit lets everyone in.
    there = {limit.name for limit in granted.limits}
    held = _Held(granted.lease_id, lease, there) if there else _Not.THERE
    return {name: held if name in there else _Not.THERE for name in names}


def _create(name: str) -> None:
    """Create the limit; workers that meet here for the first time all try to."""
    with suppress(ObjectAlreadyExists), api_client() as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))


def _free(name: str) -> None:
    """Take the slot from a dead holder: a server that Prefect started by itself does not look for expired leases."""
    with suppress(*API_TROUBLE, ObjectNotFound), api_client() as client:
        client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=0))
