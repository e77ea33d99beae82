"""The lock of an account: one holder at a time, and one request for many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Event
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.settings import PREFECT_API_URL

from prefect_bluesky.errors import StoreUnavailable
from prefect_bluesky.sessions import lock
from prefect_bluesky.sessions.lock import worker_lock
from tests.world import wait_for


@dataclass
class Visitor:
    """A thread that comes for a lock, holds it, and leaves when it may."""

    name: str
    holds: Event = field(default_factory=Event)
    may_leave: Event = field(default_factory=Event)
    end: Future[None] = field(default_factory=Future)

    def hold(self) -> None:
        with worker_lock(self.name, lease=60):
            self.holds.set()
            assert self.may_leave.wait(60)

    def leave(self) -> None:
        self.may_leave.set()
        self.end.result(60)


@dataclass
class Door:
    """Threads that come for locks, and what they asked the Prefect API for."""

    threads: ThreadPoolExecutor
    asked_for: list[set[str]] = field(default_factory=list)
    is_open: Event = field(default_factory=Event)
    """Until it is, what is asked first is not answered."""
    visitors: list[Visitor] = field(default_factory=list)

    def come(self, names: Sequence[str]) -> list[Visitor]:
        """Have a thread come for each, the first before the others."""
        self._come(names[0])
        wait_for(lambda: self.asked_for, "a request for the lock")
        for name in names[1:]:
            self._come(name)
        wait_for(lambda: len(lock._queues[PREFECT_API_URL.value()]._waiting) == len(names) - 1, "the queue")
        self.is_open.set()
        return self.visitors

    def _come(self, name: str) -> None:
        visitor = Visitor(name)
        visitor.end = self.threads.submit(copy_context().run, visitor.hold)
        self.visitors.append(visitor)


@pytest.fixture
def door(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    ask = SyncPrefectClient.increment_concurrency_slots_with_lease
    with ThreadPoolExecutor(8) as threads:
        door = Door(threads)

        def held_up(client: SyncPrefectClient, names: list[str], *others: Any) -> httpx.Response:
            door.asked_for.append(set(names))
            assert door.is_open.wait(60)
            return ask(client, names, *others)

        monkeypatch.setattr(SyncPrefectClient, "increment_concurrency_slots_with_lease", held_up)
        yield door
        for visitor in door.visitors:
            visitor.may_leave.set()


def names(count: int, *, exist: bool = True) -> list[str]:
    """Names of locks that nobody has used."""
    made = [f"bluesky-session-{uuid4().hex}" for _ in range(count)]
    if exist:
        with get_client(sync_client=True) as client:
            for name in made:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    return made


def slots_in_use(names: Sequence[str]) -> list[int]:
    with get_client(sync_client=True) as client:
        return [client.read_global_concurrency_limit_by_name(name).active_slots for name in names]


def test_threads_that_come_together_ask_together(door: Door) -> None:
    first, *others = names(5)
    come = door.come([first, *others])
    assert all(visitor.holds.wait(60) for visitor in come)
    assert door.asked_for == [{first}, set(others)]
    assert slots_in_use([first, *others]) == [1] * 5


def test_locks_taken_together_are_released_after_the_last_holder(door: Door) -> None:
    first, *others = names(4)
    alone, *together, last = door.come([first, *others])
    assert last.holds.wait(60)
    for visitor in (alone, *together):
        visitor.leave()
    assert slots_in_use([first, *others]) == [0, 1, 1, 1]
    last.leave()
    assert slots_in_use([first, *others]) == [0] * 4


def test_a_held_lock_keeps_no_other_lock_waiting(door: Door) -> None:
    first, free, taken = names(3)
    with get_client(sync_client=True) as client:
        client.increment_concurrency_slots([taken], 1, "concurrency")
        _, lucky, unlucky = door.come([first, free, taken])
        assert lucky.holds.wait(60)
        assert not unlucky.holds.is_set()
        client.release_concurrency_slots([taken], 1, 0.1)
    assert unlucky.holds.wait(60)


def test_a_limit_of_zero_takes_no_lock_from_the_others(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    first, open_, closed = names(3)
    with get_client(sync_client=True) as client:
        client.update_global_concurrency_limit(closed, GlobalConcurrencyLimitUpdate(limit=0))
    come = door.come([first, open_, closed])
    assert all(visitor.holds.wait(60) for visitor in come)
    assert slots_in_use([open_, closed]) == [1, 0]
    assert f"Going on without the lock {closed}" in caplog.text


def test_two_that_come_for_the_same_are_let_in_one_after_the_other(door: Door) -> None:
    first, same = names(2)
    come = door.come([first, same, same])
    wait_for(lambda: sum(visitor.holds.is_set() for visitor in come) == 2, "two that hold it")
    wait_for(lambda: door.asked_for.count({same}) >= 4, "four requests for the same lock")
    assert sum(visitor.holds.is_set() for visitor in come) == 2
    for visitor in come:
        visitor.may_leave.set()
    for visitor in come:
        visitor.leave()


def test_missing_limits_are_created(door: Door) -> None:
    come = door.come(missing := names(3, exist=False))
    assert all(visitor.holds.wait(60) for visitor in come)
    assert slots_in_use(missing) == [1] * 3


@pytest.mark.parametrize("trouble", [httpx.Response(200, text="<html>"), httpx.ReadTimeout("no answer")])
def test_where_the_api_does_not_answer_each_goes_on_without(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: Any
) -> None:
    def answer(client: SyncPrefectClient, names: list[str], *others: Any) -> httpx.Response:
        door.asked_for.append(set(names))
        assert door.is_open.wait(60)
        if isinstance(trouble, Exception):
            raise trouble
        response: httpx.Response = trouble
        return response

    monkeypatch.setattr(SyncPrefectClient, "increment_concurrency_slots_with_lease", answer)
    come = door.come(names(3, exist=False))
    assert all(visitor.holds.wait(60) for visitor in come)
    assert caplog.text.count("Going on without the lock") == 3


@pytest.mark.parametrize("trouble", [httpx.Response(200, text="<html>"), httpx.ReadTimeout("no answer")])
def test_a_required_lock_that_the_api_does_not_give_lets_nobody_in(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch, trouble: Any
) -> None:
    def answer(*_: Any) -> httpx.Response:
        if isinstance(trouble, Exception):
            raise trouble
        response: httpx.Response = trouble
        return response

    monkeypatch.setattr(SyncPrefectClient, "increment_concurrency_slots_with_lease", answer)
    with pytest.raises(StoreUnavailable, match="Prefect does not give it"), worker_lock("x", lease=60, required=True):
        pytest.fail("nobody may be in")


def test_a_required_lock_needs_a_prefect_api(no_prefect_api: None) -> None:
    with pytest.raises(StoreUnavailable, match="Prefect does not give it"), worker_lock("x", lease=60, required=True):
        pytest.fail("nobody may be in")
