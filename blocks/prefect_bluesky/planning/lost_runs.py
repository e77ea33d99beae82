"""Runs that Prefect calls running or pending although their process is gone, and that no automation has ended.

An automation ends a run whose heartbeats have stopped. If Prefect's server was down then, no automation hears of it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter

from prefect_bluesky.planning.held_runs import held_because
from prefect_bluesky.prefect_api import api_client, logger, read_runs

HEARTBEAT = "prefect.flow-run.heartbeat"
"""Prefect's event of a run that lives."""

_SILENCE = timedelta(minutes=3)
"""How long a run gives no heartbeat until it is looked at. A living run gives one every 30 seconds."""

_SECOND_LOOK = timedelta(seconds=65)
"""Prefect's server may have been down in the silence. A living run is heard of twice in this time."""

_NEVER_HEARD = timedelta(minutes=30)
"""How long a run may run without any heartbeat, as a worker of another setup may send none, or take to begin: a
container, too, starts within half an hour."""

LOST_AND_HELD = (
    "The worker died before the run's posts were confirmed. publish-held sends the posts that are not out yet."
)
LOST_AND_ENDED = "The worker died. The next run continues."
"""The messages of lost runs: of those that are held, and of those that are over."""

_HOLDING = ["publish", "publish-batch"]
_ENDING = ["publish-due", "publish-held", "refresh-sessions"]
"""The flows whose lost runs are held, and those whose lost runs are over, as another run does the same."""


def end_lost_runs(but: UUID | None = None) -> int:
    """Hold or end the runs whose process is gone. Return their number.

    Args:
        but: the run that asks, which lives.
    """
    silent = [
        (run, holds)
        for flows, holds in ((_HOLDING, True), (_ENDING, False))
        for run in _running(flows)
        if run.id != but and _is_silent(run, _SILENCE)
    ]
    if not silent:
        return 0
    time.sleep(_SECOND_LOOK.total_seconds())
    lost = [(run, holds) for run, holds in silent if _is_silent(run, _SECOND_LOOK)]
    for run, holds in lost:
        _end(run, holds=holds)
    return len(lost)


def _running(flows: list[str]) -> list[FlowRun]:
    under_way = [StateType.PENDING, StateType.RUNNING]
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=under_way)))
    found = read_runs(running, of=FlowFilter(name=FlowFilterName(any_=flows)))
    return [run for run in found if run.deployment_id is not None]


def _is_silent(run: FlowRun, time_of_silence: timedelta) -> bool:
    """Return whether a run has run and given no heartbeat for a time, or has not begun for long."""
    if run.state is None:
        return False
    now = datetime.now(UTC)
    since = now - run.state.timestamp
    if since < time_of_silence or _has_heartbeat(run.id, now - time_of_silence):
        return False
    return since > _NEVER_HEARD or _has_heartbeat(run.id, run.state.timestamp)


def _has_heartbeat(run: UUID, since: datetime) -> bool:
    wanted = EventFilter(
        event=EventNameFilter(name=[HEARTBEAT]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run}"]),
        occurred=EventOccurredFilter(since=since),
    )
    with api_client() as client:
        return bool(client.read_events(wanted, limit=1).events)


def _end(run: FlowRun, *, holds: bool) -> None:
    state: State[object] = (
        held_because(LOST_AND_HELD) if holds else State(type=StateType.CRASHED, name="Crashed", message=LOST_AND_ENDED)
    )
    with api_client() as client:
        current = client.read_flow_run(run.id).state
        if current is not None and (current.is_running() or current.is_pending()):
            logger().warning("%s has lost its worker: %s", run.name, state.name)
            client.set_flow_run_state(run.id, state, force=True)
