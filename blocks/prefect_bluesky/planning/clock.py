"""The clock of Prefect's server, by which posts go out: clocks of workers may differ from it and from each other."""

from __future__ import annotations

import time
from datetime import datetime, timedelta


class ServerClock:
    """The server's clock, counted on from a time that the server has stated.

    The server states a time a little before its answer comes. So this clock is slow by that much, and never fast.

    Args:
        stated: the time in an answer of the server.
        answered_at: this process's `time.monotonic()` when the answer came, in seconds.

    Example:
        >>> from datetime import UTC
        >>> ServerClock(datetime(2026, 12, 1, 8, tzinfo=UTC), 10.0).monotonic(datetime(2026, 12, 1, 9, tzinfo=UTC))
        3610.0
    """

    def __init__(self, stated: datetime, answered_at: float) -> None:
        self._stated, self._answered_at = stated, answered_at

    def correct(self, stated: datetime, answered_at: float) -> None:
        """Learn from another answer of the server, which may have come faster."""
        if self._answered_at + (stated - self._stated).total_seconds() > answered_at:
            self._stated, self._answered_at = stated, answered_at

    def now(self) -> datetime:
        """Return the server's time."""
        return self._stated + timedelta(seconds=time.monotonic() - self._answered_at)

    def monotonic(self, at: datetime) -> float:
        """Return what `time.monotonic()` is in this process at a time of the server, in seconds."""
        return self._answered_at + (at - self._stated).total_seconds()

    def wait_until(self, at: datetime) -> None:
        """Return when the server's clock shows a time, or at once if the time has passed."""
        while (left := self.monotonic(at) - time.monotonic()) > 0:
            time.sleep(left)
