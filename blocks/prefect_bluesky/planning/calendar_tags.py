"""The tag by which the runs of a calendar are known, and the lock of those who plan them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256

from prefect.client.schemas.objects import FlowRun

from prefect_bluesky.prefect_api import file_name
from prefect_bluesky.sessions import worker_lock
from prefect_bluesky.settings import current_settings

_CALENDAR = "bluesky.calendar."

_PATIENCE = 1800.0
"""Seconds that a reading waits for another one of the same calendar: ten thousand runs take two minutes and a half."""


def calendar_tag(calendar: str) -> str:
    """Return the tag of the runs of a calendar, for its path or URL."""
    return f"{_CALENDAR}{file_name(calendar)}"


def calendar_of(run: FlowRun) -> str | None:
    """Return the calendar that a run's post comes from, or None if the run has no such tag."""
    return next((each.removeprefix(_CALENDAR) for each in run.tags if each.startswith(_CALENDAR)), None)


@contextmanager
def only_planner(tags: Iterable[str]) -> Iterator[None]:
    """Wait for whoever else plans the posts of a calendar, and plan them alone.

    Args:
        tags: the tags of the calendar's runs.
    """
    tag = next((each for each in tags if each.startswith(_CALENDAR)), _CALENDAR)
    name = f"bluesky-calendar-{sha256(tag.encode()).hexdigest()[:16]}"
    with worker_lock(name, lease=current_settings().lock_lease, patience=_PATIENCE):
        yield
