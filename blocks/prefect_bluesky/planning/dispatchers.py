"""The runs of `publish-due`, which publish planned posts: one run for each minute in which posts are due."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun

from prefect_bluesky.planning.keyed_runs import deployment_id, schedule_run
from prefect_bluesky.prefect_api import api_client

DEPLOYMENT = "publish-due/publish-due"

LEAD = timedelta(minutes=2)
"""How long before its minute a run starts: its process imports Prefect, and passes the gates of a thousand accounts."""


class Dispatchers:
    """The runs that publish what is due.

    Raises:
        InvalidInput: the deployment does not exist.
    """

    def __init__(self) -> None:
        self.deployment = deployment_id(DEPLOYMENT, ", whose runs publish planned posts")
        self._planned: set[datetime] = set()

    def plan(self, at: datetime) -> None:
        """Have what is due at a time published then; if the time has passed, now."""
        minute, now = minute_of(at), datetime.now(UTC)
        if minute in self._planned:
            return
        self._planned.add(minute)
        if at <= now:
            self.start(f"{KEY}-now-{uuid4()}")
        elif has_ended(self._start(minute, key_of(minute))):
            # The minute's run has ended, and this post came later, for the same minute.
            self.replace(minute)

    def replace(self, minute: datetime) -> None:
        """Have a minute published by another run, as its first has died."""
        self._start(minute, f"{key_of(minute)}-{uuid4()}")

    def start(self, key: str) -> FlowRun:
        """Start a run now that publishes what is overdue."""
        return schedule_run(self.deployment, {}, key=key, name="publish what is overdue")

    def _start(self, minute: datetime, key: str) -> FlowRun:
        at = max(minute - LEAD, datetime.now(UTC))
        return schedule_run(self.deployment, {"due": f"{minute:%Y-%m-%dT%H:%MZ}"}, key=key, name=name_of(minute), at=at)


KEY = "bluesky-due"


def key_of(minute: datetime) -> str:
    """Return the idempotency key of a minute's run."""
    return f"{KEY}-{minute:%Y-%m-%dT%H:%M}"


def runs_of_minutes(minutes: Iterable[datetime]) -> list[FlowRun]:
    """Return the runs that were first made for some minutes."""
    keys = FlowRunFilterIdempotencyKey(any_=list(map(key_of, minutes)))
    with api_client() as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(idempotency_key=keys))


def name_of(minute: datetime) -> str:
    """Return the name of a minute's run."""
    return f"publish what is due at {minute:%Y-%m-%d %H:%M} UTC"


def minute_of(at: datetime) -> datetime:
    """Return the beginning of the minute in which a time is, in UTC."""
    return at.astimezone(UTC).replace(second=0, microsecond=0)


def has_ended(run: FlowRun) -> bool:
    """Return whether a run is in a final state."""
    return run.state is not None and run.state.is_final()
