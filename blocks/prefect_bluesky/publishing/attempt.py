"""The attempt that is under way: what makes a publish the same one when it is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.context import TaskRunContext

from prefect_bluesky.prefect_api import current_flow_run


@dataclass(frozen=True)
class Attempt:
    """The attempt that is under way, by which a repeated publish is recognised.

    A repeated attempt has the same `key` and `planned_at` (the planned start of the run; None if only the key stays the
    same). `created_at` is the time that the post states. `is_first` says that nothing can have been sent under the key
    yet, `is_repeatable` that another attempt has the same key.
    """

    key: str
    planned_at: datetime | None
    created_at: datetime
    is_first: bool
    is_repeatable: bool


_predecessor: ContextVar[FlowRun | None] = ContextVar("prefect_bluesky_predecessor", default=None)


@contextmanager
def in_place_of(flow_run: FlowRun) -> Iterator[None]:
    """Publish under the keys of another run, whose post it was."""
    token = _predecessor.set(flow_run)
    try:
        yield
    finally:
        _predecessor.reset(token)


def current_attempt() -> Attempt:
    """Return the attempt that is under way. Outside a run, each call is a separate attempt."""
    task_context, predecessor = TaskRunContext.get(), _predecessor.get()
    flow_run = predecessor or current_flow_run()
    task_run = task_context.task_run if task_context else None
    now = datetime.now(UTC)
    run = flow_run or task_run
    if run is None:
        return Attempt(uuid4().hex, planned_at=now, created_at=now, is_first=True, is_repeatable=False)
    tries = max(run.run_count, task_run.run_count if task_run else 0)
    return _attempt_of(run, _start_of(task_run) or now, is_first=predecessor is None and tries <= 1)


def attempt_for(run: FlowRun, created_at: datetime, *, is_first: bool) -> Attempt:
    """Return an attempt at the post of another run, under that run's keys.

    Args:
        run: the run whose post it is.
        created_at: the time that the post states.
        is_first: whether nothing can have been sent for the run yet.
    """
    return _attempt_of(run, created_at, is_first=is_first)


def _attempt_of(run: FlowRun | TaskRun, created_at: datetime, *, is_first: bool) -> Attempt:
    parent = _parent_of(run)
    return Attempt(
        # A retried parent starts its subflows and subtasks again, as new runs.
        key=str(parent or run.id),
        planned_at=None if parent else _start_of(run),
        created_at=created_at,
        is_first=is_first and parent is None,
        is_repeatable=True,
    )


def _parent_of(run: FlowRun | TaskRun) -> UUID | None:
    if isinstance(run, FlowRun):
        return run.parent_task_run_id
    return next((parent.id for parent in run.task_inputs.get("__parents__", []) if hasattr(parent, "id")), None)


def _start_of(run: FlowRun | TaskRun | None) -> datetime | None:
    if run is None or run.expected_start_time is None:
        return None
    # Prefect's datetimes are pendulum's, whose arithmetic differs from the standard library's.
    return datetime.fromisoformat(run.expected_start_time.isoformat())
