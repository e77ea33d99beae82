"""Times as people write and read them, and time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator

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


def in_utc(at: datetime, zone: ZoneInfo) -> datetime:
    """Return a time in UTC. A time without an offset is taken as a time of the zone."""
    return (at.replace(tzinfo=zone) if at.tzinfo is None else at).astimezone(UTC)


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


def _is_no_number(at: Any) -> Any:
    # pydantic reads a number as seconds since 1970: 20261201 would be long past.
    if isinstance(at, int | float) or (isinstance(at, str) and at.strip().lstrip("+-").replace(".", "").isdigit()):
        raise ValueError(f"{at!r} is not a time. Write a time such as 2026-12-01 08:00.")
    return at or None


def _is_of_our_time(at: datetime | None) -> datetime | None:
    if at is not None and not 2000 <= at.year < 2200:
        raise ValueError(f"the year {at.year} is out of range (2000 to 2199). Write a time such as 2026-12-01 08:00.")
    return at


Time = Annotated[datetime | None, BeforeValidator(_is_no_number), AfterValidator(_is_of_our_time)]
"""A publish time as a person writes it, or None."""
