"""Keep the artifact `bluesky-calendar` current."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from prefect_bluesky.planning.calendar_page import AHEAD, BACK, Entry, State, calendar_page
from prefect_bluesky.planning.calendar_tags import calendar_of
from prefect_bluesky.planning.held_runs import EXPIRED, HELD, account_of
from prefect_bluesky.planning.scheduled_runs import planned_time, text_of
from prefect_bluesky.prefect_api import (
    api_client,
    current_flow_run,
    ignoring_api_trouble,
    read_runs,
    shorten,
    standard_time,
)

KEY = "bluesky-calendar"

_FLOWS = FlowFilter(name=FlowFilterName(any_=["publish", "publish-variant"]))
_MOST = 1000

_PUBLISHED = re.compile(r"(?:Published|Already out:) (?P<link>https?://[^\s,]+)(?:,? (?P<remark>.+))?")
_CUT_ADDRESS = re.compile(r"\S*://\S*…$")


def show_calendar() -> None:
    """Make the artifact anew. Trouble with Prefect's API is logged, as a page is not worth a failed run."""
    with ignoring_api_trouble("The calendar could not be shown"):
        now = datetime.now(UTC)
        entries = [*_entries(_planned(now)), *_once(_entries(_ended(now))), *_entries(_held())]
        with api_client() as client:
            planned = client.count_flow_runs(flow_filter=_FLOWS, flow_run_filter=_planned(now))
            run = current_flow_run()
            artifact = ArtifactCreate(
                key=KEY,
                type="markdown",
                description="What goes out when, what went out, and what is held.",
                data=calendar_page(entries, planned, now),
                flow_run_id=run.id if run else None,
            )
            # Not by the client's method, which sends an event for each version: a script would wait for it and say so.
            client.request("POST", "/artifacts/", json=artifact.model_dump(mode="json", exclude_unset=True))


def _planned(now: datetime) -> FlowRunFilter:
    return FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=now + AHEAD),
    )


def _ended(now: datetime) -> FlowRunFilter:
    names = FlowRunFilterStateName(any_=["Completed", "Failed", "Crashed", EXPIRED])
    return FlowRunFilter(
        state=FlowRunFilterState(name=names), end_time=FlowRunFilterEndTime(after_=now - BACK, before_=None)
    )


def _held() -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[HELD])))


def _entries(wanted: FlowRunFilter) -> Iterator[Entry]:
    """Yield the posts of runs, at most a thousand: reading a run costs the server 2 ms of CPU."""
    for run in read_runs(wanted, of=_FLOWS, sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, most=_MOST):
        if (at := planned_time(run)) and not run.parameters.get("dry_run"):
            yield _entry(run, at)


def _once(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield each post once: a person may have copied a run, whose post then goes out once and is found."""
    links = set()
    for entry in sorted(entries, key=lambda each: each.at):
        if entry.link not in links:
            yield entry
        links |= {entry.link} - {""}


def _entry(run: FlowRun, at: datetime) -> Entry:
    message = (run.state.message if run.state and run.state.is_final() else None) or ""
    if run.state and run.state.is_completed():
        # Prefect forgets to when a run was moved: it went out by then at the latest.
        at = min(at, standard_time(run.state.timestamp))
    published = _PUBLISHED.fullmatch(message)
    return Entry(
        at=at,
        account=str(run.parameters.get("channel") or account_of(run) or run.name.removeprefix("publish as ")),
        # The beginning of an address would become a link that leads nowhere.
        text=_CUT_ADDRESS.sub("…", shorten(text_of(run) or run.name)),
        calendar=calendar_of(run) or "",
        state=_state(run),
        remark=(published["remark"] or "") if published else message,
        link=published["link"] if published else "",
    )


def _state(run: FlowRun) -> State:
    if run.state is None or not run.state.is_final():
        return "planned"
    if run.state.name == HELD:
        return "held"
    return "out" if run.state.is_completed() else "failed"
