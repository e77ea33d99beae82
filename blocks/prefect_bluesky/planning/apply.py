"""Bring planned runs in line with a calendar."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from uuid import UUID

from prefect.client.schemas.objects import State, StateType

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning.comparison import Row
from prefect_bluesky.planning.held_runs import tag
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.planned_run import PlannedRun
from prefect_bluesky.planning.scheduled_runs import (
    APPLIED,
    MOVED,
    REMOVED,
    Plan,
    PlannedRuns,
    check_still_planned,
    end_plan,
    fingerprint,
    planned_name,
    post_parameter,
    run_key,
)
from prefect_bluesky.prefect_api import API_TROUBLE, api_client

_AT_ONCE = 4
"""Runs that are changed at the same time. Prefect's server uses one core."""

_ANOTHER_RUN = {"time", "account"}
"""The changes after which a post needs another run: Prefect shows a run at the time for which it was first planned."""


def bring_in_line(
    runs: PlannedRuns, rows: Sequence[Row], blocks: Mapping[str, BlueskyCredentials], present: int
) -> list[str]:
    """Plan, change and remove posts. Return why each could not be, or "".

    Args:
        runs: the runs of planned posts.
        rows: the posts that are to be planned, changed, adopted or removed, or are held and have changed.
        blocks: the accounts by the names of their blocks.
        present: how many runs the calendar has.
    """
    bundled = _rewrite_bundles(runs, rows, blocks)
    with ThreadPoolExecutor(_AT_ONCE, "bluesky-apply") as threads:
        contexts = [copy_context() for _ in rows]
        troubles = list(threads.map(lambda context, row: context.run(_prepare, row, blocks), contexts, rows))
    troubles = [why or bundled.get(number, "") for number, why in enumerate(troubles)]
    pending = [number for number, row in enumerate(rows) if not troubles[number] and _needs_a_run(row)]
    plans = [_plan(row, row.planned, blocks) for row in (rows[number] for number in pending) if row.planned]
    for number, trouble in zip(pending, runs.schedule(plans, present) if plans else [], strict=True):
        troubles[number] = trouble
    return troubles


def _needs_a_run(row: Row) -> bool:
    return row.fate == "plan" or (row.fate == "change" and not _ANOTHER_RUN.isdisjoint(row.changes))


def _plan(row: Row, planned: PlannedPost, blocks: Mapping[str, BlueskyCredentials]) -> Plan:
    run = row.run
    # A run that has failed is tried again if it is the post's first one.
    is_first = run is not None and run.idempotency_key == run_key(planned)
    follows = run.id if run and (row.again or row.fate == "change" or not is_first) else None
    return Plan(planned, blocks[planned.account], follows, has_failed=run is not None and follows is None)


def _rewrite_bundles(
    runs: PlannedRuns, rows: Sequence[Row], blocks: Mapping[str, BlueskyCredentials]
) -> dict[int, str]:
    """Change the posts that wait in bundles, or take them out. Return why that failed, by the rows' numbers."""
    bundles: defaultdict[UUID, dict[int, Row]] = defaultdict(dict)
    for number, row in enumerate(rows):
        if row.run and row.run.bundle and row.fate in {"change", "remove"}:
            bundles[row.run.bundle][number] = row
    troubles: dict[int, str] = {}
    for bundle, some in bundles.items():
        try:
            runs.rewrite_later(bundle, dict(_in_bundle(some.values(), blocks)))
        except (InvalidInput, *API_TROUBLE) as trouble:
            troubles |= dict.fromkeys(some, str(trouble))
    return troubles


def _in_bundle(rows: Iterable[Row], blocks: Mapping[str, BlueskyCredentials]) -> Iterator[tuple[str, Plan | None]]:
    """Yield posts of a bundle by their idempotency keys, each as it is to be; None if it leaves the bundle."""
    for row in rows:
        match row.run, row.planned:
            case PlannedRun() as run, PlannedPost() as planned if row.fate == "change" and not _needs_a_run(row):
                yield run.idempotency_key, Plan(planned, blocks[planned.account])
            case PlannedRun() as run, _:
                yield run.idempotency_key, None


def _prepare(row: Row, blocks: Mapping[str, BlueskyCredentials]) -> str:
    """Change the run that a post has, and return why that failed, or ""."""
    if row.run and row.run.bundle:
        return ""
    try:
        match row.fate, row.run, row.planned:
            case "remove", PlannedRun() as run, _:
                _end(run, REMOVED, "The calendar no longer has the post.")
            case "change", PlannedRun() as run, PlannedPost() as planned if _needs_a_run(row):
                # First the old run, as a post that goes out twice is worse than one that the next reading plans again.
                when = f"{planned.at:%Y-%m-%d %H:%M %Z}" if planned.at else "now"
                _end(run, MOVED, f"The calendar now has the post for {planned.account} at {when}.")
            case "change" | "adopt" | "held", PlannedRun() as run, PlannedPost() as planned:
                _rewrite(run, planned, blocks[planned.account], is_planned=row.fate != "held")
    except (InvalidInput, *API_TROUBLE) as trouble:
        return str(trouble)
    return ""


def _end(run: PlannedRun, name: str, message: str) -> None:
    end_plan(run.id, run.name, State(type=StateType.CANCELLED, name=name, message=message))


def _rewrite(run: PlannedRun, planned: PlannedPost, credentials: BlueskyCredentials, *, is_planned: bool) -> None:
    if is_planned:
        check_still_planned(run.id, run.name)
    post = post_parameter(planned)
    tags = {*run.tags, tag(credentials.handle)}
    with api_client() as client:
        client.update_flow_run(
            run.id,
            parameters=run.parameters | {"post": post},
            name=planned_name(credentials.handle, planned.post.text, planned.at),
            tags=tags,
        )
        client.update_flow_run_labels(run.id, {APPLIED: fingerprint(post, planned.at or run.at)})
