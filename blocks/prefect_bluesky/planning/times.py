"""Times as people read them, and time zones."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect_bluesky.errors import InvalidInput


def zone_of(timezone: str) -> ZoneInfo:
    """Return the time zone of a name such as Europe/Berlin.

    Raises:
        InvalidInput: there is no such time zone.
    """
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, OSError, ValueError):  # such as for a directory or a long name
        what = f"there is no time zone {timezone!r}."
        raise InvalidInput("timezone", what, "Write a name such as Europe/Berlin.") from None


def how_late(late: timedelta) -> str:
    """Return how late a post went out, or "" if that is not worth a word.

    Example:
        >>> from datetime import timedelta
        >>> how_late(timedelta(minutes=7, seconds=3))
        '7 min late'
    """
    seconds = round(late.total_seconds())
    if seconds < 6:
        return ""
    if seconds < 120:
        return f"{seconds} s late"
    return f"{seconds // 60} min late" if seconds < 7200 else f"{seconds // 3600} h late"
