"""Publish many posts, and posts for later: calendars, batches, scheduled runs and held runs.

Accounts are named by their saved blocks here.
"""

from prefect_bluesky.planning.calendar import Unusable, read_calendar
from prefect_bluesky.planning.held_runs import (
    HELD,
    STARTED_AGAIN,
    account_of,
    drop,
    expired,
    find_held_run,
    held_state,
    hold,
    is_expired,
    is_for,
    read_held_runs,
    service_of,
    settle,
    started_again,
    tags_of,
    tell_held,
)
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.progress import Progress
from prefect_bluesky.planning.saved_accounts import find_saved, load_many, load_parameter, saved_names
from prefect_bluesky.planning.scheduled_runs import (
    PlannedRuns,
    deployment_id,
    has_failed,
    known_runs,
    run_key,
    run_matches,
)
from prefect_bluesky.planning.times import Time, in_utc, zone_of

__all__ = [
    "HELD",
    "PlannedPost",
    "PlannedRuns",
    "Progress",
    "STARTED_AGAIN",
    "Time",
    "Unusable",
    "account_of",
    "deployment_id",
    "drop",
    "expired",
    "find_held_run",
    "find_saved",
    "has_failed",
    "held_state",
    "hold",
    "in_utc",
    "is_expired",
    "is_for",
    "known_runs",
    "load_many",
    "load_parameter",
    "read_calendar",
    "read_held_runs",
    "run_key",
    "run_matches",
    "saved_names",
    "service_of",
    "settle",
    "started_again",
    "tags_of",
    "tell_held",
    "zone_of",
]
