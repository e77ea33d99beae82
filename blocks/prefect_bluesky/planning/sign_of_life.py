"""The sign of life of a run that sends due posts: by it, other runs see whether they must take over.

Prefect's heartbeats of a run come every 30 seconds at the most, which is too slow for posts that are due now.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import datetime, timedelta
from threading import Event, Thread
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterId, ArtifactFilterKey

from prefect_bluesky.planning.clock import ServerClock
from prefect_bluesky.prefect_api import API_TROUBLE, api_client, standard_time, until_answered

KEY = "bluesky-due"
"""The key of the artifacts."""

_EVERY = 4.0
"""Seconds between two signs."""

_FRESH = timedelta(seconds=15)
"""The age up to which a sign says that its run lives."""


class SignOfLife:
    """The progress artifact of a run, which is updated every four seconds as long as the run's process lives.

    Attributes:
        clock: the server's clock.
        progress: what the artifact shows, in per cent.
    """

    def __init__(self, artifact: UUID, clock: ServerClock) -> None:
        self.clock = clock
        self.progress = 0.0
        self._artifact = artifact

    def give(self) -> None:
        """Give the sign now, and set the clock by the answer. A server that does not answer does not get one."""
        # If the server is down, no other run can look for the sign either.
        with suppress(*API_TROUBLE), api_client() as client:
            client.update_artifact(self._artifact, ArtifactUpdate(data=self.progress))
            wanted = ArtifactFilter(id=ArtifactFilterId(any_=[self._artifact]))
            for sign in client.read_artifacts(artifact_filter=wanted):
                self.clock.correct(standard_time(sign.updated), time.monotonic())


@contextmanager
def sign_of_life(flow_run: UUID, description: str) -> Iterator[SignOfLife]:
    """Give signs of life for a run until the context ends. The first has been given when the context begins."""
    wanted = ArtifactCreate(key=KEY, type="progress", description=description, data=0.0, flow_run_id=flow_run)
    with api_client() as client:
        made = until_answered(lambda: client.create_artifact(wanted))
        sign = SignOfLife(made.id, ServerClock(standard_time(made.created), time.monotonic()))
    ended = Event()

    def give_signs() -> None:
        while not ended.wait(_EVERY):
            sign.give()

    # With the context of the run, as Prefect's settings are part of it.
    thread = Thread(target=copy_context().run, args=(give_signs,), name="bluesky-sign-of-life", daemon=True)
    thread.start()
    try:
        yield sign
    finally:
        ended.set()
        thread.join()
        sign.give()


def living(flow_runs: Collection[UUID], now: datetime) -> set[UUID]:
    """Return those of some runs that have given a sign of life lately, by the server's time."""
    if not flow_runs:
        return set()
    wanted = ArtifactFilter(
        key=ArtifactFilterKey(any_=[KEY]), flow_run_id=ArtifactFilterFlowRunId(any_=list(flow_runs))
    )
    with api_client() as client:
        signs = client.read_artifacts(artifact_filter=wanted)
    return {
        sign.flow_run_id
        for sign in signs
        if sign.flow_run_id is not None and sign.updated is not None and now - sign.updated < _FRESH
    }
