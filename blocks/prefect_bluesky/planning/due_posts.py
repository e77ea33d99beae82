"""Planned posts that are due: read from Prefect, and grouped by account and time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Failed
from pydantic import TypeAdapter, ValidationError

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.planning.held_runs import held_because
from prefect_bluesky.planning.saved_accounts import load_parameters
from prefect_bluesky.planning.scheduled_runs import planned_time
from prefect_bluesky.posts import Post
from prefect_bluesky.prefect_api import api_client, read_runs, until_answered
from prefect_bluesky.validation import explain_validation_error

_POST = TypeAdapter(Post)


@dataclass(frozen=True)
class DuePost:
    """A planned post, as its run says now.

    Attributes:
        run: the run.
        at: when the post is due.
        credentials: the account.
        post: what to publish.
    """

    run: FlowRun
    at: datetime
    credentials: BlueskyCredentials
    post: Post

    @property
    def key(self) -> str | None:
        """The post's own key, if it has one."""
        key = self.run.parameters.get("key")
        return str(key) if key else None

    @property
    def account(self) -> str:
        """What tells the account's block from others."""
        return account_of_run(self.run)

    def is_what_says(self, run: FlowRun) -> bool:
        """Return whether a later reading of the run says the same."""
        return (self.run.id, self.at, self.run.parameters) == (run.id, planned_time(run), run.parameters)


def account_of_run(run: FlowRun) -> str:
    """Return what tells the block of a run's account from others."""
    return str(run.parameters.get("credentials"))


def read_planned(
    deployment: UUID, *, before: datetime | None = None, after: datetime | None = None, but: Collection[UUID] = ()
) -> list[FlowRun]:
    """Return the planned runs that are to go out and not settled, the earliest first.

    Args:
        deployment: the deployment `publish/planned`.
        before: only runs that are due at this time or before.
        after: only runs that are due at this time or after.
        but: not these runs. Reading a run costs the server 2 ms of CPU.
    """
    found = until_answered(lambda: read_runs(_planned(deployment, before, after, but)))
    # Posts of one account and time go out in the order in which they were planned.
    return sorted(found, key=lambda run: (planned_time(run), run.created, run.id))


def is_any_planned(deployment: UUID, *, before: datetime, but: Collection[UUID] = ()) -> bool:
    """Return whether a planned run is due at a time or before, and not settled; `but` are not looked at."""
    with api_client() as client:
        wanted = _planned(deployment, before, None, but)
        return until_answered(lambda: client.count_flow_runs(flow_run_filter=wanted)) > 0


def _planned(deployment: UUID, before: datetime | None, after: datetime | None, but: Collection[UUID]) -> FlowRunFilter:
    return FlowRunFilter(
        id=FlowRunFilterId(not_any_=list(but)) if but else None,
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=before, after_=after),
    )


def due_posts(runs: Iterable[FlowRun]) -> Iterator[DuePost | tuple[FlowRun, Any]]:
    """Yield what each run publishes, or the run and the state in which it ends, as it cannot be published."""
    runs = list(runs)
    blocks = until_answered(lambda: load_parameters([run.parameters.get("credentials") for run in runs]))
    for run, block in zip(runs, blocks, strict=True):
        at = planned_time(run)
        if not isinstance(block, BlueskyCredentials):
            yield run, held_because(f"The block cannot be used: {block}")
        elif run.parameters.get("dry_run"):
            yield run, Failed(message="dry_run: a planned post cannot be a preview. Run publish/publish for one.")
        elif not str(run.parameters.get("key") or "").isprintable():
            yield run, Failed(message="key: it holds a character that cannot be printed. Write a line of text.")
        elif at is not None:
            try:
                post = _POST.validate_python(run.parameters.get("post"))
            except ValidationError as unusable:
                yield run, Failed(message=f"post: {explain_validation_error(unusable)}")
            else:
                yield DuePost(run, at, block, post)
