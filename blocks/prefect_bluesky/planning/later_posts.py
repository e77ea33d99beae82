"""The later posts of a large calendar, a hundred in one run: a run costs Prefect's server 10 to 14 ms of CPU.

These bundles are runs of the deployment `publish-batch/later`, which no worker takes. `planning/upkeep` makes a run of
`publish/planned` for each of their posts when the posts come near.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning.calendar_tags import only_planner
from prefect_bluesky.planning.keyed_runs import NewRun, deployment_id, schedule_runs
from prefect_bluesky.prefect_api import api_client, logger, read_run_rows

DEPLOYMENT = "publish-batch/later"

BUNDLE = "bluesky.bundle"
"""The label of a post that has no run of its own yet, with the id of the bundle that keeps it."""

MOST_RUNS = 1000
"""The posts of a calendar that have runs of their own at once, the earliest ones: two weeks of 70 posts a day."""

_SOON = timedelta(hours=2)
"""What is due so soon has a run of its own at once: `publish-held` looks for bundles every 15 minutes."""

_LEAD = timedelta(days=8)
"""How long before its first post is due a bundle's posts get their runs. The calendar's page looks a week ahead."""

_MOST_POSTS, _MOST_BYTES = 100, 200_000
"""The size of a bundle. Prefect takes parameters of 512 KB, and shows them on the run's page."""

_ITEMS = "items"


class LaterPosts:
    """The bundles of later posts. Without their deployment, each post has a run of its own at once."""

    def __init__(self) -> None:
        self._deployment = _deployment()

    def split(self, runs: Sequence[NewRun], present: int) -> tuple[list[NewRun], list[NewRun]]:
        """Return the runs that are to be made at once, in their order, and those that are to be bundled.

        Args:
            runs: the runs of posts, with their times.
            present: how many runs the calendar has already.
        """
        if self._deployment is None:
            return list(runs), []
        soon, room = datetime.now(UTC) + _SOON, max(MOST_RUNS - present, 0)
        later = {run.key for run in sorted(runs, key=_by_time)[room:] if run.at > soon}
        return [run for run in runs if run.key not in later], [run for run in runs if run.key in later]

    def keep(self, runs: Sequence[NewRun]) -> dict[str, str]:
        """Bundle the runs of posts, and return why some could not be kept, by key."""
        if self._deployment is None or not runs:
            return {}
        bundles = {bundle.key: bundle for bundle in _bundles(runs)}
        troubles = schedule_runs(self._deployment, bundles.values())
        return {
            item["idempotency_key"]: why for key, why in troubles.items() for item in bundles[key].parameters[_ITEMS]
        }


def _deployment() -> UUID | None:
    try:
        return deployment_id(DEPLOYMENT)
    except InvalidInput:
        return None  # of an earlier setup


def _by_time(run: NewRun) -> datetime:
    return run.at


def _bundles(runs: Sequence[NewRun]) -> Iterator[NewRun]:
    # A request that is repeated makes no second bundle. The same posts, planned again another day, do.
    once, now = uuid4(), datetime.now(UTC)
    for number, some in enumerate(_parts(sorted(runs, key=_by_time))):
        yield NewRun(
            key=f"bluesky-later-{once}-{number}",
            name=_name(len(some), some[0].at),
            parameters={_ITEMS: list(map(_as_item, some))},
            state=Scheduled(scheduled_time=max(some[0].at - _LEAD, now)),
            tags=sorted({tag for run in some for tag in run.tags}),
        )


def _parts(runs: Iterable[NewRun]) -> Iterator[list[NewRun]]:
    part: list[NewRun] = []
    size = 0
    for run in runs:
        length = len(json.dumps(_as_item(run)))
        if part and (len(part) == _MOST_POSTS or size + length > _MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(run)
        size += length
    if part:
        yield part


def _name(count: int, first: datetime) -> str:
    return f"{count} {'posts' if count > 1 else 'post'} from {first.day} {first:%b %Y} on"


def _as_item(run: NewRun) -> dict[str, Any]:
    """Return a post in a bundle, in the words in which Prefect's API writes a run."""
    return {
        "name": run.name,
        "idempotency_key": run.key,
        "next_scheduled_start_time": run.at.isoformat(),
        "parameters": run.parameters,
        "tags": list(run.tags),
        "labels": dict(run.labels),
    }


def _as_run(item: Mapping[str, Any]) -> NewRun:
    return NewRun(
        key=item["idempotency_key"],
        name=item["name"],
        parameters=item["parameters"],
        state=Scheduled(scheduled_time=datetime.fromisoformat(item["next_scheduled_start_time"])),
        tags=item["tags"],
        labels=item["labels"],
    )


def posts_of(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the posts of a bundle, or the run itself if it is none, each as Prefect's API writes a run."""
    if _ITEMS not in row["parameters"]:
        yield dict(row)
        return
    about = {name: row[name] for name in ("state", "created", "flow_id", "expected_start_time")}
    for item in row["parameters"][_ITEMS]:
        labels = item["labels"] | {BUNDLE: row["id"]}
        yield item | about | {"id": str(uuid5(NAMESPACE_URL, item["idempotency_key"])), "labels": labels}


def read_later(tags: Sequence[str]) -> list[FlowRun]:
    """Return the later posts that have all of these tags, as the runs that they will have."""
    deployment = _deployment()
    if deployment is None:
        return []
    rows = (post for row in read_run_rows(_waiting(deployment)) for post in posts_of(row))
    return [FlowRun.model_validate(row) for row in rows if set(tags) <= set(row["tags"])]


def _waiting(deployment: UUID, before: datetime | None = None) -> FlowRunFilter:
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=before) if before else None,
    )


def rewrite(bundle: UUID, changes: Mapping[str, NewRun | None]) -> None:
    """Change posts of a bundle, or take them out (None), by their idempotency keys.

    Raises:
        InvalidInput: the bundle's posts have got runs of their own meanwhile, or a person has cancelled the bundle.
    """
    with api_client() as client:
        try:
            run = client.read_flow_run(bundle)
        except ObjectNotFound:
            run = None
        if run is None or run.state is None or not run.state.is_scheduled():
            what = "the posts that waited with it have changed meanwhile."
            raise InvalidInput("run", what, "Look at what is planned, and try again.")
        items = [
            _as_item(changed) if (changed := changes.get(item["idempotency_key"])) else item
            for item in run.parameters[_ITEMS]
            if changes.get(item["idempotency_key"], item) is not None
        ]
        if items:
            first = datetime.fromisoformat(items[0]["next_scheduled_start_time"])
            client.update_flow_run(bundle, parameters={_ITEMS: items}, name=_name(len(items), first))
        else:
            client.delete_flow_run(bundle)


def with_run_of_its_own(run: FlowRun, planned: str) -> FlowRun:
    """Return the run of a planned post, which is made now if the post waits in a bundle.

    Args:
        run: the run, as `read_later` returns it.
        planned: the deployment of planned posts.

    Raises:
        InvalidInput: as `rewrite`.
    """
    bundle = run.labels.get(BUNDLE)
    if bundle is None:
        return run
    key = str(run.idempotency_key)
    with only_planner(run.tags):
        made = _own(run).schedule(deployment_id(planned))
        # If this fails, the post's run is found by its key when the bundle's posts get theirs.
        rewrite(UUID(str(bundle)), {key: None})
    return made


def _own(run: FlowRun) -> NewRun:
    labels = {name: str(value) for name, value in run.labels.items() if name != BUNDLE}
    state: State[Any] = Scheduled(scheduled_time=run.next_scheduled_start_time)
    return NewRun(str(run.idempotency_key), run.name, run.parameters, state, run.tags, labels)


def plan_what_comes_near(planned: UUID) -> None:
    """Make the runs of the posts whose bundles are due: runs of the deployment `planned`."""
    bundles = _deployment()
    for row in read_run_rows(_waiting(bundles, datetime.now(UTC))) if bundles else []:
        with only_planner(row["tags"]):
            _plan_posts_of(UUID(row["id"]), planned)


def _plan_posts_of(bundle: UUID, planned: UUID) -> None:
    with api_client() as client, suppress(ObjectNotFound):
        run = client.read_flow_run(bundle)
        if run.state is None or not run.state.is_scheduled():
            return  # a person has cancelled the bundle meanwhile
        troubles = schedule_runs(planned, map(_as_run, run.parameters[_ITEMS]))
        if troubles:
            why = next(iter(troubles.values()))
            logger().warning("%s: %d posts have no runs yet, and get them later: %s", run.name, len(troubles), why)
        else:
            client.delete_flow_run(bundle)
