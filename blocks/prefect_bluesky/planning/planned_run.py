"""The runs of a calendar's planned posts, as they are now, read as plain data.

Prefect's own class of a flow run takes as long to make as the server takes to read the run, which ten thousand posts
would notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType

from prefect_bluesky.planning.calendar_tags import calendar_tag
from prefect_bluesky.planning.held_runs import HELD
from prefect_bluesky.planning.later_posts import BUNDLE, posts_of
from prefect_bluesky.planning.scheduled_runs import APPLIED, MOVED, REMOVED, fingerprint, successor_key, text_in
from prefect_bluesky.prefect_api import read_run_rows

_PAGE = 200

_ENDED_BY_US = {MOVED, REMOVED}
_LIVE = {StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED}


@dataclass(frozen=True)
class PlannedRun:
    """A planned post's run.

    Attributes:
        id: the run.
        name: its name in Prefect's UI.
        account: what tells the account's block from others, as `account_of_run` does.
        key: the post's key; the run's id if it has none.
        post: the post, as JSON.
        at: when the post is due, or was due.
        state_type: the type of the run's state.
        state_name: the name of the run's state.
        message: what the state says.
        applied: the fingerprint of what its calendar said when it was last applied; None before fingerprints.
        tags: the run's tags.
        created: when the run was made, as Prefect writes it.
        idempotency_key: under which the run was made.
        parameters: what the run publishes.
        bundle: the run that keeps the post until the post gets a run of its own; None if it has one.
    """

    id: UUID
    name: str
    account: str
    key: str
    post: Any
    at: datetime | None
    state_type: str
    state_name: str
    message: str
    applied: str | None
    tags: tuple[str, ...]
    created: str
    idempotency_key: str
    parameters: dict[str, Any]
    bundle: UUID | None = None

    @classmethod
    def of(cls, row: dict[str, Any]) -> PlannedRun:
        """Return a run as Prefect's API writes it."""
        state, parameters, labels = row["state"] or {}, row["parameters"], row.get("labels") or {}
        # A post that was published when its calendar was read was never scheduled.
        noted = state.get("state_details", {}).get("scheduled_time")
        at = row["next_scheduled_start_time"] or noted or row["expected_start_time"]
        return cls(
            id=UUID(row["id"]),
            name=row["name"],
            account=str(parameters.get("credentials")),
            key=str(parameters.get("key") or row["id"]),
            post=parameters.get("post"),
            at=datetime.fromisoformat(at) if at else None,
            state_type=state.get("type", ""),
            state_name=state.get("name", ""),
            message=state.get("message") or "",
            applied=labels.get(APPLIED),
            tags=tuple(row["tags"]),
            created=row["created"],
            idempotency_key=row["idempotency_key"] or "",
            parameters=parameters,
            bundle=UUID(labels[BUNDLE]) if BUNDLE in labels else None,
        )

    @property
    def is_out(self) -> bool:
        """True if the post is out."""
        return self.state_type == StateType.COMPLETED

    @property
    def is_planned(self) -> bool:
        """True if the post waits for its time."""
        return self.state_type == StateType.SCHEDULED

    @property
    def is_live(self) -> bool:
        """True if the post waits for its time, is being published, or is held."""
        return self.state_type in _LIVE or self.state_name == HELD

    @property
    def was_ended_by_us(self) -> bool:
        """True if another run has the post now, or its calendar no longer has the post."""
        return self.state_name in _ENDED_BY_US

    @property
    def was_cancelled(self) -> bool:
        """True if a person has cancelled or dropped the post."""
        return self.state_type in {StateType.CANCELLED, StateType.CANCELLING} and not self.was_ended_by_us

    @property
    def text(self) -> str:
        """The post's text; "" if a person has left none."""
        return text_in(self.post)

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of what the run says now."""
        return fingerprint(self.post, self.at)

    @cached_property
    def said(self) -> tuple[str, str]:
        """The calendar's last applied words: the post's hash and its time, as in fingerprints."""
        content, _, at = (self.applied or self.fingerprint).partition("@")
        return content, at

    @property
    def is_edited(self) -> bool:
        """True if a person has changed the run since its calendar was last applied."""
        return self.applied is not None and self.applied != self.fingerprint


def read_planned_runs(calendar: str, keys: Iterable[str]) -> list[PlannedRun]:
    """Return the runs of a calendar, and those of other posts by their idempotency keys.

    Args:
        calendar: the calendar's name; "" for none.
        keys: the idempotency keys of the posts that are asked for.
    """
    found = {run.id: run for run in _of_calendar(calendar)} if calendar else {}
    known = {run.idempotency_key for run in found.values()}
    # Of posts that an earlier version has planned, or another calendar.
    pending = [key for key in dict.fromkeys(keys) if key not in known]
    while pending:
        others = [run for run in _by_keys(pending) if run.id not in found]
        found |= {run.id: run for run in others}
        pending = [successor_key(run.id) for run in others if run.state_type == StateType.CANCELLED]
    return list(found.values())


def read_planned_of(tags: Iterable[str]) -> list[PlannedRun]:
    """Return the runs of posts that are planned and have one of the tags, such as those of accounts and channels."""
    wanted_tags = set(tags)
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        tags=FlowRunFilterTags(any_=list(wanted_tags)),
    )
    return [run for run in _runs(wanted) if not wanted_tags.isdisjoint(run.tags)]


def _of_calendar(calendar: str) -> Iterator[PlannedRun]:
    wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[calendar_tag(calendar)]))
    yield from _runs(wanted)


def _runs(wanted: FlowRunFilter) -> Iterator[PlannedRun]:
    """Yield runs, and the posts of bundles as the runs that they will have."""
    for row in read_run_rows(wanted):
        yield from map(PlannedRun.of, posts_of(row))


def _by_keys(keys: Sequence[str]) -> Iterator[PlannedRun]:
    for start in range(0, len(keys), _PAGE):
        some = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=list(keys[start : start + _PAGE])))
        yield from map(PlannedRun.of, read_run_rows(some))
