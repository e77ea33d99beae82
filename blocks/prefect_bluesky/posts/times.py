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


_DATE = r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})"
_CLOCK = r"(?:(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?\s*([ap]\.?m\.?)?|(\d{1,2})\s*([ap]\.?m\.?))"
_OFFSET = r"(z|[+-]\d{2}(?::?\d{2})?|utc|gmt)?"
_WRITTEN = re.compile(rf"{_DATE}(?:(?:T|,?\s)\s*{_CLOCK})?\s*{_OFFSET}", re.IGNORECASE)


def _read(at: Any) -> Any:
    """Read a time as people and spreadsheets write it, the year first. Nothing is guessed."""
    if not isinstance(at, str | int | float) or isinstance(at, bool):
        return at or None
    if not (text := str(at).strip()):
        return None
    found = _WRITTEN.fullmatch(text)
    # A number would be seconds since 1970 to pydantic, and 20261201 would be long past.
    if found is None:
        raise ValueError(f"{text!r} is not a time. {_remedy(text)}")
    year, month, day, hour, minute, second = (int(found[group] or 0) for group in range(1, 7))
    hour = hour or int(found[8] or 0)
    if half := (found[7] or found[9] or "").lower():
        if not 1 <= hour <= 12:
            raise ValueError(f"{text!r} is not a time. {_remedy(text)}")
        hour = hour % 12 + (12 if half.startswith("p") else 0)
    offset = re.sub("Z|UTC|GMT", "+00:00", (found[10] or "").upper())
    try:
        return datetime.fromisoformat(f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{offset}")
    except ValueError as wrong:
        raise ValueError(f"{text!r} is not a time: {wrong}. {_remedy(text)}") from None


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
