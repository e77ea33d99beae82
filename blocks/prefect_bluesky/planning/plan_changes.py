"""Change what is planned: move, change and drop the posts of scheduled runs, of `publish/planned` and earlier ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from pydantic import TypeAdapter, ValidationError

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning.calendar_tags import calendar_of, calendar_tag
from prefect_bluesky.planning.dispatchers import Dispatchers
from prefect_bluesky.planning.held_runs import DROPPED, account_of, tag
from prefect_bluesky.planning.keyed_runs import deployment_id, schedule_run
from prefect_bluesky.planning.later_posts import read_later, with_run_of_its_own
from prefect_bluesky.planning.scheduled_runs import (
    APPLIED,
    DEPLOYMENT,
    MOVED,
    check_still_planned,
    end_plan,
    planned_name,
    planned_time,
    run_name_of,
    successor_key,
    text_of,
)
from prefect_bluesky.planning.times import zone_of
from prefect_bluesky.posts import Post, Time, in_utc
from prefect_bluesky.prefect_api import api_client, read_runs, shorten
from prefect_bluesky.validation import explain_validation_error

_POST: TypeAdapter[Post] = TypeAdapter(Post)
_TIME: TypeAdapter[datetime | None] = TypeAdapter(Time)


def read_plans(account: str = "", calendar: str = "") -> list[FlowRun]:
    """Return the runs of planned posts that have not gone out, the earliest first, also those that are not made yet.

    Args:
        account: only those of this account: its handle or DID, as in its block.
        calendar: only those of this calendar: its path, URL or file name.
    """
    tags = [tag(account)] if account else []
    tags += [calendar_tag(calendar)] if calendar else []
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        tags=FlowRunFilterTags(all_=tags) if tags else None,
    )
    found = [*read_runs(wanted, of=FlowFilter(name=FlowFilterName(any_=["publish"]))), *read_later(tags)]
    # Posts of one time are planned in the order of their calendar.
    return sorted(found, key=lambda run: (planned_time(run) or datetime.now(UTC), run.created))


def find_plan(reference: str) -> FlowRun:
    """Return the one run of a planned post whose key is the reference, or whose id begins with the reference.

    Raises:
        InvalidInput: there is none, or more than one.
    """
    reference = reference.strip().rstrip("…")
    found = [
        run
        for run in read_plans()
        if run.parameters.get("key") == reference or str(run.id).startswith(reference.lower())
    ]
    if len(found) != 1:
        which = ", ".join(f"{run.id} ({account_of(run)}, {planned_time(run):%Y-%m-%d %H:%M} UTC)" for run in found[:5])
        what = "no post that is still planned has such an id or key."
        if found:
            what = f"{len(found)} planned posts have it: {which}{', and more' if len(found) > 5 else ''}."
        raise InvalidInput("run", f"{reference!r}: {what}", "List the planned posts: prefect-bluesky planned list.")
    return found[0]


def move(run: FlowRun, to: str, timezone: str = "UTC") -> tuple[datetime, FlowRun]:
    """Move a planned post. Return its new time and its new run. If the time has passed, the post goes out at once.

    The post gets another run: Prefect shows a run at the time for which the run was first planned, whatever happens.

    Args:
        run: the post's run.
        to: the time, such as 2026-12-01 08:00.
        timezone: the time zone of a time without an offset.

    Raises:
        InvalidInput: this is no time, or the post has gone out meanwhile.
    """
    zone = zone_of(timezone)
    try:
        at = _TIME.validate_python(to)
    except ValidationError as unusable:
        raise InvalidInput("time", explain_validation_error(unusable), "") from None
    if at is None:
        raise InvalidInput("time", "the time is missing.", "Write it as 2026-12-01 08:00.")
    at = at if at.tzinfo else at.replace(tzinfo=zone)
    goes_out = max(at, datetime.now(UTC).astimezone(at.tzinfo))
    dispatchers, planned = Dispatchers(), deployment_id(DEPLOYMENT)
    run = with_run_of_its_own(run, DEPLOYMENT)
    # First the old run, as a post that goes out twice is worse than one that a person has to plan again.
    moved = State(type=StateType.CANCELLED, name=MOVED, message=f"Moved to {goes_out:%Y-%m-%d %H:%M %Z}.")
    end_plan(run.id, run.name, moved)
    successor = schedule_run(
        planned,
        run.parameters,
        key=successor_key(run.id),
        name=planned_name(_account(run), text_of(run), goes_out),
        at=in_utc(goes_out, zone),
        tags=run.tags,
        labels={APPLIED: str(run.labels[APPLIED])} if APPLIED in run.labels else None,
    )
    dispatchers.plan(goes_out)
    return at, successor


def change(run: FlowRun, fields: dict[str, Any]) -> Post:
    """Change fields of a planned post, and return the changed post.

    Raises:
        InvalidInput: the post could not be published, or has gone out meanwhile. Nothing is changed.
    """
    written = run.parameters.get("post")
    before = written if isinstance(written, dict) else {"text": written}
    try:
        post = _POST.validate_python(before | fields)
    except ValidationError as unusable:
        raise InvalidInput("post", explain_validation_error(unusable), "Nothing was changed. Correct it.") from None
    run = with_run_of_its_own(run, DEPLOYMENT)
    check_still_planned(run.id, run.name)
    parameters = run.parameters | {"post": post.model_dump(mode="json", exclude_defaults=True)}
    # The time in the name is one of the calendar's time zone, which the run does not know.
    when = run.name.split(" · ")[1] if run.name.count(" · ") > 1 else None
    name = run_name_of(_account(run), when, post.text)
    with api_client() as client:
        client.update_flow_run(run.id, parameters=parameters, name=name)
    return post


def drop_plan(run: FlowRun) -> None:
    """Drop a planned post: it does not go out, also if its calendar is read again.

    Raises:
        InvalidInput: the post has gone out meanwhile.
    """
    run = with_run_of_its_own(run, DEPLOYMENT)
    end_plan(run.id, run.name, State(type=StateType.CANCELLED, name=DROPPED, message="A person dropped the post."))


def describe(run: FlowRun) -> Iterator[tuple[str, str]]:
    """Yield what a person wants to know of a planned post, each with its name."""
    at = planned_time(run)
    yield "run", f"{run.name} ({run.id})"
    yield "account", _account(run)
    yield "planned for", f"{at:%Y-%m-%d %H:%M} UTC" if at else "?"
    yield "calendar", calendar_of(run) or ""
    yield "key", str(run.parameters.get("key") or "")
    yield "text", shorten(text_of(run))


def _account(run: FlowRun) -> str:
    return account_of(run) or run.name.partition(" · ")[0]
