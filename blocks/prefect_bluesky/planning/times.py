"""Times as people read them, and time zones."""

from __future__ import annotations

from datetime import timedelta
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from prefect_bluesky.errors import InvalidInput


def zone_of(timezone: str) -> ZoneInfo:
    """Return the time zone of a name such as Europe/Berlin.

    Raises:
        InvalidInput: there is no such time zone.
    """
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, OSError, ValueError):  # such as for a directory or a long name
        near = _nearest(timezone)
        remedy = f"Did you mean {near}?" if near else "Write a name such as Europe/Berlin."
        raise InvalidInput("timezone", f"there is no time zone {timezone!r}.", remedy) from None


def _nearest(timezone: str) -> str | None:
    """Return the time zone that a person may have meant: by its whole name, or that of its city."""
    names = {name.lower(): name for name in available_timezones()}
    cities = {name.rpartition("/")[2]: full for name, full in names.items() if "/" in name}
    wanted = timezone.strip().lower().replace(" ", "_")
    for known in (names, cities):
        if near := get_close_matches(wanted, known, 1, 0.8):
            return known[near[0]]
    return None


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
