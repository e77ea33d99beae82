"""The next free slots of a channel, for posts that are planned one idea at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.planning.held_runs import tag
from prefect_bluesky.planning.planned_run import read_planned_of
from prefect_bluesky.planning.queue import NOTICE
from prefect_bluesky.planning.saved_accounts import as_parameter, load_many
from prefect_bluesky.planning.slots import find_schedule, free_slots
from prefect_bluesky.prefect_api import api_at_hand
from prefect_bluesky.sessions import worker_lock
from prefect_bluesky.settings import current_settings

_PATIENCE = 1800.0
"""Seconds of waiting for a large calendar that takes its slots, as in `only_planner`."""

_BLUESKY = f"{BlueskyCredentials.get_block_type_slug()}/"


def channel_tag(channel: str) -> str:
    """Return the tag of the runs of a channel's planned posts, for the channel's block."""
    return f"bluesky.channel.{channel}"


@contextmanager
def queue_lock() -> Iterator[None]:
    """Wait for whoever else takes slots, and take them alone: two that look at the same time would take the same."""
    with worker_lock("bluesky-queue", lease=current_settings().lock_lease, patience=_PATIENCE):
        yield


def next_slots(written: str, timezone: str) -> Callable[[str], Iterator[datetime]]:
    """Return what yields the next free slots of a channel, which is named as its block: `bluesky-credentials/alice`.

    Args:
        written: the slots, such as `mon-fri 09:00, 13:00`, or the name of a Posting Schedule block.
        timezone: the time zone of slots that are no block.

    Raises:
        InvalidInput: as `find_schedule`.
    """
    schedule = find_schedule(written, timezone)

    def of(channel: str) -> Iterator[datetime]:
        taken = _taken(channel) if api_at_hand() else []
        # A calendar's queue has the same jitter for the account.
        return free_slots(schedule, channel.removeprefix(_BLUESKY), taken, datetime.now(UTC) + NOTICE)

    return of


def _taken(channel: str) -> list[datetime]:
    """Return when posts are planned for a channel."""
    account, wanted_tag = None, channel_tag(channel)
    if channel.startswith(_BLUESKY):
        (block,) = load_many([channel.removeprefix(_BLUESKY)]).values()
        if not isinstance(block, BlueskyCredentials):
            return []  # nothing is published on such a channel
        account, wanted_tag = str(as_parameter(block)), tag(block.handle)
    return [run.at for run in read_planned_of([wanted_tag]) if run.at and account in {None, run.account}]
