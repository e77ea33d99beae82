"""Publish many posts, and posts for later: calendars, batches, scheduled runs and held runs.

Accounts are named by their saved blocks here.
"""

from prefect_bluesky.planning.batch import read_entries, run_batch
from prefect_bluesky.planning.calendar import Calendar, Unusable, read_calendar
from prefect_bluesky.planning.due_run import publish_due
from prefect_bluesky.planning.held_runs import HELD, account_of, drop, find_held_run, hold, read_held_runs, service_of
from prefect_bluesky.planning.held_sender import send_held
from prefect_bluesky.planning.keyed_runs import deployment_id, schedule_run
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.saved_accounts import load_many, saved_names
from prefect_bluesky.planning.scheduled_runs import PlannedRuns, ScriptHolder
from prefect_bluesky.planning.times import Time, in_utc, zone_of

# fmt: off
__all__ = [
    "Calendar", "HELD", "PlannedPost", "PlannedRuns", "ScriptHolder", "Time", "Unusable", "account_of", "deployment_id",
    "drop", "find_held_run", "hold", "in_utc", "load_many", "publish_due", "read_calendar", "read_entries",
    "read_held_runs", "run_batch", "saved_names", "schedule_run", "send_held", "service_of", "zone_of",
]
# fmt: on
