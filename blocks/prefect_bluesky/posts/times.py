"""Times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator


def in_utc(at: datetime, zone: ZoneInfo) -> datetime:
    """Return a time in UTC. A time without an offset is taken as a time of the zone."""
    return (at.replace(tzinfo=zone) if at.tzinfo is None else at).astimezone(UTC)


_DATE = r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})"
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,6})\d*)?)?"
_WRITTEN = re.compile(
    rf"{_DATE}(?:(?:T|,?\s)\s*(?:{_CLOCK}|(?P<full_hour>\d{{1,2}})(?=\s*[ap]))\s*(?P<half>[ap])?(?(half)\.?m\.?))?"
    r"\s*(?P<offset>z|utc|gmt|[+-]\d{2}(?::?\d{2})?)?",
    re.IGNORECASE,
)


def _read(at: Any) -> Any:
    """Read a time as people and spreadsheets write it, the year first. Nothing is guessed."""
    if not isinstance(at, str | int | float) or isinstance(at, bool):
        return at or None
    if not (text := str(at).strip()):
        return None
    # A number would be seconds since 1970 to pydantic, and 20261201 would be long past.
    if (found := _WRITTEN.fullmatch(text)) is None:
        raise ValueError(f"{text!r} is not a time. {_remedy(text)}")
    year, month, day, minute, second = (int(found[part] or 0) for part in ("year", "month", "day", "minute", "second"))
    try:
        hour = _hour(int(found["hour"] or found["full_hour"] or 0), (found["half"] or "").lower())
        at = datetime(year, month, day, hour, minute, second, int((found["fraction"] or "0").ljust(6, "0")))
        offset = re.sub("Z|UTC|GMT", "+00:00", (found["offset"] or "").upper())
        return datetime.fromisoformat(f"{at.isoformat()}{offset}")
    except ValueError as wrong:
        raise ValueError(f"{text!r} is not a time: {wrong}. {_remedy(text)}") from None


def _hour(hour: int, half: str) -> int:
    """Return an hour of the day, of which a clock with two halves tells `a` or `p`."""
    if not half:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError(f"there is no {hour} {half}m")
    return hour % 12 + (12 if half == "p" else 0)


def _remedy(text: str) -> str:
    if re.search(r"[A-Z]{3,5}$", text):
        return "Write an offset such as +01:00 in place of the zone's letters, or a time without it."
    return "Write a time such as 2026-12-01 08:00."


def _is_of_our_time(at: datetime | None) -> datetime | None:
    if at is not None and not 2000 <= at.year < 2200:
        raise ValueError(f"the year {at.year} is out of range (2000 to 2199). Write a time such as 2026-12-01 08:00.")
    return at


Time = Annotated[datetime | None, BeforeValidator(_read), AfterValidator(_is_of_our_time)]
"""A time as a person writes it, or None."""
