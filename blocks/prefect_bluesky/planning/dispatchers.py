"""The runs of `publish-due`, which publish planned posts: one run for each minute in which posts are due."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from prefect_bluesky.planning.keyed_runs import NewRun, deployment_id, schedule_run, schedule_runs
from prefect_bluesky.prefect_api import api_client

DEPLOYMENT = "publish-due/publish-due"

LEAD = timedelta(minutes=2)
"""How long before its minute a run starts: its process imports Prefect, and passes the gates of a thousand accounts."""

_PAGE = 200
_PLANNED_AHEAD = timedelta(days=1)
"""How far ahead the runs of minutes are planned at once."""

_SOON = timedelta(minutes=5)
"""How far ahead a minute's run may have begun, or ended, so that it is planned by itself."""

_SECOND_LOOKS = {"left": timedelta(seconds=45), "left-at-end": timedelta(seconds=105)}
"""How long after the beginning of a minute a second run publishes what the first has left: of what is due with the
minute, and of what is due within it. The first run deletes the second when it ends.

Prefect's server forgets its first second: of runs that are late by then no automation hears (3.8.8 to 3.9.1).
"""


class Dispatchers:
    """The runs that publish what is due.

    Raises:
        InvalidInput: the deployment does not exist.
    """

    def __init__(self) -> None:
        self.deployment = deployment_id(DEPLOYMENT, ", whose runs publish planned posts")
        self._planned: set[tuple[datetime, str]] = set()

    def plan(self, at: datetime) -> None:
        """Have what is due at a time published then; if the time has passed, now."""
        minute, now, second_look = minute_of(at), datetime.now(UTC), _second_look(at)
        if (minute, second_look) in self._planned:
            return
        self._planned.add((minute, second_look))
        if at <= now:
            self.start()
            return
        if (state := _of(minute).schedule(self.deployment).state) and state.is_final():
            # The minute's run has ended, and this post came later, for the same minute.
            self.replace(minute)
        _second_of(minute, second_look).schedule(self.deployment)

    def plan_all(self, times: Iterable[datetime]) -> str:
        """Have what is due at many times published then. Return why that failed, or "".

        What is due later than in a day gets its runs later, by `planning/upkeep`: a year has half a million minutes.
        """
        now = datetime.now(UTC)
        ahead = [at for at in sorted(set(times)) if at <= now + _PLANNED_AHEAD]
        soon = [at for at in ahead if at <= now + _SOON]
        for at in soon:
            self.plan(at)
        later = {(minute_of(at), _second_look(at)) for at in ahead[len(soon) :]} - self._planned
        self._planned |= later
        runs = {run.key: run for minute, which in sorted(later) for run in (_of(minute), _second_of(minute, which))}
        troubles = schedule_runs(self.deployment, runs.values())
        minutes = {key_of(minute): minute for minute, _ in later}
        for run in runs_of_minutes(minutes.values()):
            if run.state and run.state.is_final():
                self.replace(minutes[str(run.idempotency_key)])  # as `plan` does
        return next(iter(troubles.values()), "")

    def replace(self, minute: datetime) -> None:
        """Have a minute published by another run, as its first has died."""
        replace(_of(minute), key=f"{key_of(minute)}-{uuid4()}").schedule(self.deployment)

    def start(self) -> FlowRun:
        """Start a run now that publishes what is overdue."""
        return schedule_run(self.deployment, {}, key=f"{_KEY}-now-{uuid4()}", name="publish what is overdue")

    def start_part(self, minute: datetime, part: int, bounds: Sequence[int], at: datetime) -> FlowRun:
        """Start the run of a minute's part at a time; an earlier one is returned unchanged."""
        parameters = {"due": _due(minute), "part": part, "bounds": bounds}
        name = f"{name_of(minute)}, part {part + 1} of {len(bounds) + 1}"
        return schedule_run(self.deployment, parameters, key=f"{key_of(minute)}-{part}", name=name, at=at)

    def call_off_second_look(self, minute: datetime) -> None:
        """Delete the second runs of a minute of which nothing is left, if they have not begun."""
        keys = [f"{key_of(minute)}-{which}" for which in _SECOND_LOOKS]
        wanted = FlowRunFilter(
            idempotency_key=FlowRunFilterIdempotencyKey(any_=keys),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        )
        with api_client() as client:
            for run in client.read_flow_runs(flow_run_filter=wanted):
                # Another run for the same minute may have deleted it.
                with suppress(ObjectNotFound):
                    client.delete_flow_run(run.id)


_KEY = "bluesky-due"


def _of(minute: datetime) -> NewRun:
    """Return the run of a minute."""
    at = max(minute - LEAD, datetime.now(UTC))
    return NewRun(key_of(minute), name_of(minute), {"due": _due(minute)}, Scheduled(scheduled_time=at))


def _second_look(at: datetime) -> str:
    """Return which second run a minute needs for a post that is due at a time."""
    return "left" if at == minute_of(at) else "left-at-end"


def _second_of(minute: datetime, which: str) -> NewRun:
    name = f"publish what is left of {minute:%Y-%m-%d %H:%M} UTC"
    return NewRun(f"{key_of(minute)}-{which}", name, {}, Scheduled(scheduled_time=minute + _SECOND_LOOKS[which]))


def _due(minute: datetime) -> str:
    return f"{minute:%Y-%m-%dT%H:%MZ}"


def key_of(minute: datetime) -> str:
    """Return the idempotency key of a minute's run."""
    return f"{_KEY}-{minute:%Y-%m-%dT%H:%M}"


def runs_of_minutes(minutes: Iterable[datetime]) -> list[FlowRun]:
    """Return the runs that were first made for some minutes."""
    keys = list(map(key_of, minutes))
    found: list[FlowRun] = []
    with api_client() as client:
        for start in range(0, len(keys), _PAGE):
            some = FlowRunFilterIdempotencyKey(any_=keys[start : start + _PAGE])
            found += client.read_flow_runs(flow_run_filter=FlowRunFilter(idempotency_key=some), limit=_PAGE)
    return found


def name_of(minute: datetime) -> str:
    """Return the name of a minute's run."""
    return f"publish what is due at {minute:%Y-%m-%d %H:%M} UTC"


def minute_of(at: datetime) -> datetime:
    """Return the beginning of the minute in which a time is, in UTC."""
    return at.astimezone(UTC).replace(second=0, microsecond=0)
