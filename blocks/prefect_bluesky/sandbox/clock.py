"""The sandbox's clock: real time, plus whatever a test has moved it on by."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime


class Clock:
    """Seconds since the epoch, movable forwards.

    Example:
        >>> clock = Clock()
        >>> before = clock.now()
        >>> clock.advance(timedelta(hours=3))
        >>> clock.now() - before >= 3 * 3600
        True
    """

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        """Seconds since the epoch, by this clock."""
        return time.time() + self._ahead

    def advance(self, by: timedelta) -> None:
        """Move the clock on.

        Raises:
            ValueError: `by` is negative; tokens that expired do not come back.
        """
        if by < timedelta(0):
            raise ValueError(f"the clock only moves on, not by {by}")
        self._ahead += by.total_seconds()

    def http_date(self) -> str:
        """The time as a `Date` header has it: `Sun, 22 Nov 2026 19:00:00 GMT`."""
        return format_datetime(datetime.fromtimestamp(self.now(), UTC), usegmt=True)

    def timestamp(self) -> str:
        """The time as records have it: `2026-11-22T19:00:00.000Z`."""
        return datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
