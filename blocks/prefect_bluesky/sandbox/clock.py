"""The sandbox's clock: real time, plus the time by which a test has moved the clock forward."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime


class Clock:
    """A clock of seconds since the epoch that tests can move forward.

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
        """Return the seconds since the epoch, by this clock."""
        return time.time() + self._ahead

    def advance(self, by: timedelta) -> None:
        """Move the clock forward.

        Raises:
            ValueError: `by` is negative. Expired tokens cannot become valid again.
        """
        if by < timedelta(0):
            raise ValueError(f"by: {by} is negative. The clock only moves forward: give a positive duration.")
        self._ahead += by.total_seconds()

    def http_date(self) -> str:
        """Return the time in the form of a `Date` header: `Sun, 22 Nov 2026 19:00:00 GMT`."""
        return format_datetime(datetime.fromtimestamp(self.now(), UTC), usegmt=True)

    def timestamp(self) -> str:
        """Return the time in the form of records: `2026-11-22T19:00:00.000Z`."""
        return datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
