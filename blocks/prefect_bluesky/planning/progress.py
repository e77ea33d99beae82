"""How far a run with many posts has come, as a progress bar among its artifacts."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from prefect_bluesky.prefect_api import ignoring_api_trouble

_EVERY = 2.0
"""Seconds between two reports."""


class Progress:
    """The progress of a batch, in the UI.

    Args:
        key: the artifact's.
        total: how many posts there are to deal with.
    """

    def __init__(self, key: str, total: int) -> None:
        self._key = key
        self._total = total
        self._shown_at = 0.0
        self._artifact: UUID | None = None

    def show(self, waiting: int) -> None:
        """Show it, now and then.

        Args:
            waiting: how many posts are yet to be dealt with.
        """
        if not self._total or (waiting and time.monotonic() - self._shown_at < _EVERY):
            return
        self._shown_at = time.monotonic()
        done = 100 * (self._total - waiting) / self._total
        with ignoring_api_trouble("The progress could not be shown"):
            if self._artifact is None:
                made: Any = create_progress_artifact(done, key=self._key, description="Posts dealt with.")
                self._artifact = made
            else:
                update_progress_artifact(self._artifact, done)
