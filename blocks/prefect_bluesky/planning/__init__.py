"""Publish many posts, and posts for later: calendars, batches, scheduled runs and held runs.

Accounts are named by their saved blocks here.
"""

from prefect_bluesky.planning.approval import Decision, as_page, ask_person, not_approved
from prefect_bluesky.planning.batch import preview_batch, run_batch
from prefect_bluesky.planning.batch_input import Batch, Options, read_entries, require_server_for_later
from prefect_bluesky.planning.batch_preview import Preview, problem_lines
from prefect_bluesky.planning.calendar import Calendar, Unusable, read_calendar
from prefect_bluesky.planning.calendar_artifact import show_calendar
from prefect_bluesky.planning.due_run import publish_due
from prefect_bluesky.planning.held_runs import (
    EXPIRED,
    HELD,
    account_of,
    drop,
    expire,
    final_state,
    find_held_run,
    hold,
    read_held_runs,
    service_of,
)
from prefect_bluesky.planning.held_sender import send_held
from prefect_bluesky.planning.keyed_runs import deployment_id, schedule_run
from prefect_bluesky.planning.lost_runs import HEARTBEAT, LOST_AND_ENDED, LOST_AND_HELD, end_lost_runs
from prefect_bluesky.planning.next_slots import channel_tag, next_slots, queue_lock
from prefect_bluesky.planning.plan_changes import change, describe, drop_plan, find_plan, move, read_plans
from prefect_bluesky.planning.plan_page import PlanLine, plan_lines, plan_page
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.saved_accounts import load_many, saved_names
from prefect_bluesky.planning.scheduled_runs import PlannedRuns, ScriptHolder, has_failed
from prefect_bluesky.planning.slots import PostingSchedule
from prefect_bluesky.planning.times import zone_of
from prefect_bluesky.planning.upkeep import plan_ahead

# fmt: off
__all__ = [
    "Batch", "Calendar", "Decision", "EXPIRED", "HEARTBEAT", "HELD", "LOST_AND_ENDED", "LOST_AND_HELD", "Options",
    "PlanLine", "PlannedPost", "PlannedRuns", "PostingSchedule", "Preview", "ScriptHolder", "Unusable",
    "account_of", "as_page", "ask_person", "change", "channel_tag", "deployment_id", "describe", "drop",
    "drop_plan", "end_lost_runs", "expire", "final_state", "find_held_run", "find_plan", "has_failed", "hold",
    "load_many", "move", "next_slots", "not_approved", "plan_ahead", "plan_lines", "plan_page",
    "preview_batch", "problem_lines", "publish_due", "queue_lock", "read_calendar", "read_entries",
    "read_held_runs", "read_plans", "require_server_for_later", "run_batch", "saved_names", "schedule_run",
    "send_held", "service_of", "show_calendar", "zone_of",
]
# fmt: on
