"""See to it that each planned post has a run of `publish-due`, also if a person has moved or copied the post's run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning.dispatchers import Dispatchers
from prefect_bluesky.planning.due_posts import read_planned
from prefect_bluesky.planning.keyed_runs import deployment_id
from prefect_bluesky.planning.later_posts import plan_what_comes_near
from prefect_bluesky.planning.scheduled_runs import DEPLOYMENT, planned_time
from prefect_bluesky.prefect_api import logger

_AHEAD = timedelta(minutes=35)
"""More than two intervals of the schedule of `publish-held`, which calls this."""

_OVERDUE = timedelta(minutes=1)


def plan_ahead() -> None:
    """Plan a run of `publish-due` for each minute in which posts are due soon, and start one if posts are overdue.

    Posts of large calendars that come near get their own runs first.
    """
    try:
        dispatchers, planned = Dispatchers(), deployment_id(DEPLOYMENT)
    except InvalidInput as missing:
        logger().warning("%s", missing)
        return
    plan_what_comes_near(planned)
    now = datetime.now(UTC)
    times = [at for run in read_planned(planned, before=now + _AHEAD) if (at := planned_time(run))]
    for at in times:
        if at > now:
            dispatchers.plan(at)
    if any(now - at > _OVERDUE for at in times):
        dispatchers.start()
