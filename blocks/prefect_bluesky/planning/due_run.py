"""A run of `publish-due`: it publishes what is due in a minute, or what other runs have left overdue.

Several runs share a minute with many accounts. The minute's first run starts the others and takes over from those that
do not begin, or die. If the first run itself dies, Prefect calls the planned runs late, and an automation starts a run
for what is overdue. Should Prefect miss that, the minute has a second run, 45 seconds later.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled

from prefect_bluesky.planning.calendar_artifact import show_calendar
from prefect_bluesky.planning.clock import ServerClock
from prefect_bluesky.planning.dispatchers import LEAD, Dispatchers, minute_of, runs_of_minutes
from prefect_bluesky.planning.due import DueDelivery, DueQueue
from prefect_bluesky.planning.due_posts import account_of_run, is_any_planned, read_planned
from prefect_bluesky.planning.keyed_runs import deployment_id
from prefect_bluesky.planning.scheduled_runs import DEPLOYMENT, planned_time
from prefect_bluesky.planning.share import Share, bounds_of, part_of
from prefect_bluesky.planning.sign_of_life import living, sign_of_life
from prefect_bluesky.prefect_api import api_client, ignoring_api_trouble, logger, run_id, until_answered
from prefect_bluesky.settings import current_settings

_A_MINUTE = timedelta(minutes=1)
_INSTANT = timedelta(microseconds=1)

_LAST_LOOK = timedelta(seconds=1)
"""How long before the time runs are read again, at the least: a run that was cancelled by then does not go out."""

_TAKE_OVER = timedelta(seconds=20)
"""How long before the minute parts are taken over whose runs have not begun."""

_LAST_RESERVE = timedelta(seconds=5)
"""How long before the minute no more points are taken ahead."""

_PATIENCE = timedelta(minutes=1)
"""How long a run waits for a living run to finish what is overdue. Beyond it, an automation hears of its death."""

_BETWEEN_LOOKS = 3.0
"""Seconds. A look at a thousand runs costs Prefect's server seconds of CPU."""


def publish_due(due: datetime | None, part: int, bounds: Sequence[int], at_once: int) -> State[Any]:
    """Publish what is due, in a run of its own. Return the run's final state.

    Args:
        due: the minute. None publishes what is overdue and is not being published by a living run.
        part: which part of the minute's accounts, from 0. The run of part 0 cares for the others too.
        bounds: where each part but the first begins; see `bounds_of`. With none, the run decides.
        at_once: how many accounts are served at the same time.
    """
    what = f"Posts due at {minute_of(due):%Y-%m-%d %H:%M} UTC." if due else "Overdue posts."
    with sign_of_life(run_id(), what) as sign:
        planned, dispatchers, clock = deployment_id(DEPLOYMENT), Dispatchers(), sign.clock
        delivery = DueDelivery(clock, at_once)
        if due is None:
            _Overdue(planned, dispatchers, clock, delivery).publish()
            _replace_dead(planned, dispatchers, clock)
        else:
            _Minute(planned, dispatchers, clock, delivery, minute_of(due), Share(bounds, {part})).publish()
        sign.progress = 100.0
        ended = delivery.close()
        if part == 0 and (due is not None or delivery.counts):
            show_calendar()
        if due is not None and part == 0:
            with ignoring_api_trouble("The minute's second run could not be deleted, and finds nothing"):
                dispatchers.call_off_second_look(minute_of(due))
        return ended


def _replace_dead(planned: UUID, dispatchers: Dispatchers, clock: ServerClock) -> None:
    """Start a run for each minute that comes soon, if the one that was to publish it has begun and died.

    A worker that starts anew starts such a run, so its own death need not make a post late.
    """
    now = clock.now()
    soon = read_planned(planned, after=now, before=now + LEAD)
    minutes = {minute_of(at) for run in soon if (at := planned_time(run))}
    if not minutes:
        return
    runs = runs_of_minutes(minutes)
    alive = until_answered(lambda: living([run.id for run in runs], clock.now()))
    # Those that are yet to begin give no sign either.
    taken = {run.parameters["due"] for run in runs if run.id in alive or not (run.state and run.state.is_running())}
    for run in runs:
        if run.parameters["due"] not in taken:
            taken.add(run.parameters["due"])
            dispatchers.replace(minute_of(datetime.fromisoformat(run.parameters["due"])))


class _Minute:
    """The posts of one minute, or a share of them."""

    def __init__(
        self,
        planned: UUID,
        dispatchers: Dispatchers,
        clock: ServerClock,
        delivery: DueDelivery,
        minute: datetime,
        share: Share,
    ) -> None:
        self._planned, self._dispatchers = planned, dispatchers
        self._clock, self._delivery = clock, delivery
        self._minute, self._share = minute, share
        self._queues: list[DueQueue] = []
        self._sent: set[UUID] = set()
        self._others: set[UUID] = set()
        self._helpers: dict[int, UUID] = {}
        self._look_takes = timedelta()

    def publish(self) -> None:
        """Publish each post at its time, until none is left."""
        leads = not self._share.bounds
        began = time.monotonic()
        runs = self._read()
        self._look_takes = timedelta(seconds=time.monotonic() - began)
        if leads:
            self._divide(runs)
            self._others = {run.id for run in runs if not self._share.has(run)}
        self._make_ready(list(filter(self._share.has, runs)), end_unusable=False)
        if self._helpers:
            self._clock.wait_until(self._minute - _TAKE_OVER)
            self._take_over(self._missing_helpers())
        self._delivery.reserve(self._queues, self._minute - _LAST_RESERVE)
        self._send_all()
        self._care_for_helpers()

    def _send_all(self) -> None:
        """Send each post at its time, until none is left."""
        with ThreadPoolExecutor() as threads:
            under_way: list[Future[None]] = []
            while self._queues or self._is_more_planned(under_way):
                at = min(queue.at for queue in self._queues)
                self._clock.wait_until(at - max(_LAST_LOOK, 2 * self._look_takes))
                began = time.monotonic()
                self._look_again()
                self._look_takes = timedelta(seconds=time.monotonic() - began)
                self._clock.wait_until(at)
                now = self._clock.now()
                due = [queue for queue in self._queues if queue.at <= now]
                self._queues = [queue for queue in self._queues if queue.at > now]
                self._sent |= {post.run.id for queue in due for post in queue.due}
                under_way.append(threads.submit(copy_context().run, self._delivery.send, due))

    def _is_more_planned(self, under_way: list[Future[None]]) -> bool:
        """Wait until all is sent, and return whether a person has planned more for the minute meanwhile."""
        while under_way:
            under_way.pop().result()
        return self._look_again()

    def _read(self) -> list[FlowRun]:
        """Return the runs of the share that have not been sent. Of other shares each run is read once."""
        last = self._minute + _A_MINUTE - _INSTANT
        runs = read_planned(self._planned, after=self._minute, before=last, but=self._sent | self._others)
        self._others |= {run.id for run in runs if not self._share.has(run)}
        return list(filter(self._share.has, runs))

    def _make_ready(self, runs: Sequence[FlowRun], *, end_unusable: bool) -> None:
        """Make what is to be sent what runs say now. What is ready and has not changed stays ready."""
        ready = {(queue.due[0].account, queue.at): queue for queue in self._queues}
        self._queues = []
        for new in self._delivery.queues(runs, end_unusable=end_unusable):
            old = ready.get((new.due[0].account, new.at))
            if old and old.due == new.due:
                self._queues.append(old)
            else:
                self._queues.append(new)
                self._delivery.prepare(new)

    def _look_again(self) -> bool:
        """Read the runs again, and return whether any is left to be sent."""
        self._make_ready(self._read(), end_unusable=True)
        return bool(self._queues)

    def _divide(self, runs: Iterable[FlowRun]) -> None:
        """Start a run for each part beyond the first, if the minute has more accounts than one run serves well."""
        accounts = {account_of_run(run) for run in runs}
        parts = math.ceil(len(accounts) / current_settings().accounts_per_run)
        if parts <= 1:
            return
        bounds = bounds_of(accounts, parts)
        self._share = Share(bounds, {0})
        for part in range(1, parts):
            start = partial(self._dispatchers.start_part, self._minute, part, bounds, self._clock.now())
            self._helpers[part] = until_answered(start).id

    def _missing_helpers(self) -> list[int]:
        """Return the parts whose runs give no sign of life."""
        alive = until_answered(lambda: living(self._helpers.values(), self._clock.now()))
        return [part for part, run in self._helpers.items() if run not in alive]

    def _take_over(self, parts: Iterable[int]) -> None:
        for part in parts:
            logger().warning("Part %s has no living run: this run publishes it too.", part + 1)
            run = self._helpers.pop(part)
            state: State[Any] = Cancelled(
                message="The run had not begun shortly before the time. Another run publishes its part."
            )
            with api_client() as client:
                until_answered(lambda: client.set_flow_run_state(run, state, force=True))  # noqa: B023
            self._add_part(part)
        self._look_again()

    def _add_part(self, part: int) -> None:
        """Publish a part that another run was to publish."""
        self._share.own.add(part)
        self._others.clear()

    def _care_for_helpers(self) -> None:
        """Wait until the helpers have ended, and publish what dying helpers leave."""
        while self._helpers:
            done = self._finished_helpers()
            dead = [part for part in self._missing_helpers() if part not in done]
            for part in (*done, *dead):
                del self._helpers[part]
            for part in dead:
                self._add_part(part)
            if dead and self._look_again():
                self._send_all()
            elif self._helpers:
                time.sleep(_BETWEEN_LOOKS)

    def _finished_helpers(self) -> list[int]:
        """Return the parts whose runs have completed."""
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(self._helpers.values())))
        with api_client() as client:
            runs = until_answered(lambda: client.read_flow_runs(flow_run_filter=wanted))
        completed = {run.id for run in runs if run.state and run.state.is_completed()}
        return [part for part, run in self._helpers.items() if run in completed]


class _Overdue:
    """What is overdue: moved into the past by a person, or left by a run that died."""

    def __init__(self, planned: UUID, dispatchers: Dispatchers, clock: ServerClock, delivery: DueDelivery) -> None:
        self._planned, self._own = planned, dispatchers.deployment
        self._clock, self._delivery = clock, delivery
        self._sent: set[UUID] = set()

    def publish(self) -> None:
        """Publish what no living run is about to publish, until nothing is overdue."""
        until = self._clock.now() + _PATIENCE
        while True:
            living_runs = self._living_runs()
            if abandoned := self._abandoned(living_runs):
                self._sent |= {run.id for run in abandoned}
                self._delivery.send(self._delivery.queues(abandoned, end_unusable=True))
            elif self._clock.now() > until or not self._is_any_left():
                return
            else:
                time.sleep(_BETWEEN_LOOKS)

    def _is_any_left(self) -> bool:
        return is_any_planned(self._planned, before=self._clock.now(), but=self._sent)

    def _abandoned(self, living_runs: Sequence[FlowRun]) -> list[FlowRun]:
        """Return what is overdue and is not about to be published by one of some living runs."""
        me = next((run for run in living_runs if run.id == run_id()), None)
        shares: dict[datetime, list[tuple[int, Sequence[int]]]] = {}
        for run in living_runs:
            if due := run.parameters.get("due"):
                share = int(run.parameters.get("part", 0)), run.parameters.get("bounds", [])
                shares.setdefault(minute_of(datetime.fromisoformat(due)), []).append(share)
            # Of several runs for what is overdue, one publishes.
            elif me and _turn(run) < _turn(me):
                return []
        # The run of part 0 cares for all parts.
        served = sorted(minute for minute, parts in shares.items() if any(part == 0 for part, _ in parts))

        def is_served(run: FlowRun) -> bool:
            at = planned_time(run)
            return any(part_of(run, bounds) == part for part, bounds in shares.get(minute_of(at), [])) if at else False

        return [run for run in self._read_between(served) if not is_served(run)]

    def _read_between(self, minutes: Iterable[datetime]) -> Iterator[FlowRun]:
        """Yield what is overdue outside some minutes. Of a thousand posts in one of these, none is read in vain."""
        after = None
        for minute in minutes:
            yield from read_planned(self._planned, after=after, before=minute - _INSTANT, but=self._sent)
            after = minute + _A_MINUTE
        now = self._clock.now()
        if after is None or after <= now:
            yield from read_planned(self._planned, after=after, before=now, but=self._sent)

    def _living_runs(self) -> list[FlowRun]:
        """Return the runs of `publish-due` that run and live."""
        wanted = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[self._own]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
        )
        with api_client() as client:
            running = until_answered(lambda: client.read_flow_runs(flow_run_filter=wanted))
        alive = until_answered(lambda: living([run.id for run in running], self._clock.now()))
        return [run for run in running if run.id in alive]


def _turn(run: FlowRun) -> tuple[float, UUID]:
    """Return what says which of two runs began first."""
    return (run.start_time.timestamp() if run.start_time else math.inf, run.id)
