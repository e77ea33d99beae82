"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator


def in_utc(at: datetime, zone: ZoneInfo) -> datetime:
    """Return a time in UTC. A time without an offset is taken as a time of the zone."""
    return (at.replace(tzinfo=zone) if at.tzinfo is None else at).astimezone(UTC)


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
"""A time as a person writes it, or None."""
