"""The progress bar among the artifacts of a run with many posts."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from prefect_bluesky.prefect_api import ignoring_api_trouble

_EVERY = 2.0
"""Seconds between two updates."""


class Progress:
    """The progress of a batch of `total` posts, as an artifact in Prefect's UI."""

    def __init__(self, key: str, total: int) -> None:
        self._key, self._total, self._shown_at = key, total, 0.0
        self._artifact: UUID | None = None

    def show(self, waiting: int) -> None:
        """Show how many posts are still pending, at most once every two seconds, and always at the end."""
        if not self._total or (waiting and time.monotonic() - self._shown_at < _EVERY):
            return
        self._shown_at = time.monotonic()
        done = 100 * (self._total - waiting) / self._total
        with ignoring_api_trouble("The progress could not be shown"):
            if self._artifact is None:
                made: Any = create_progress_artifact(done, key=self._key, description="Finished posts.")
                self._artifact = made
            else:
                update_progress_artifact(self._artifact, done)
