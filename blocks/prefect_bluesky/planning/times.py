"""Times as people read them, and time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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


def clock_change(at: datetime, zone: ZoneInfo) -> str:
    """Return what is said of a time that its day does not have, or has twice, as the clocks change; "" for any other.

    Args:
        at: a time as a person writes it; with an offset, it is no such time.
        zone: where the clocks are.

    Example:
        >>> clock_change(datetime(2027, 3, 28, 2, 30), zone_of("Europe/Berlin"))
        '02:30 does not exist on that day, as the clocks change: taken as 03:30 CEST.'
    """
    if at.tzinfo is not None:
        return ""
    taken = at.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
    if taken.replace(tzinfo=None) != at.replace(fold=0):
        return f"{at:%H:%M} does not exist on that day, as the clocks change: taken as {taken:%H:%M %Z}."
    if taken.utcoffset() != at.replace(tzinfo=zone, fold=1).utcoffset():
        return f"{at:%H:%M} comes twice on that day, as the clocks change: taken as the first, {taken:%H:%M %Z}."
    return ""


def how_late(late: timedelta) -> str:
    """Return how late a post went out, or "" if that is not worth a word.

    Example:
        >>> from datetime import UTC, datetime, timedelta
        >>> how_late(timedelta(minutes=7, seconds=3))
        '7 min late'
    """
    seconds = round(late.total_seconds())
    if seconds < 6:
        return ""
    if seconds < 120:
        return f"{seconds} s late"
    return f"{seconds // 60} min late" if seconds < 7200 else f"{seconds // 3600} h late"
