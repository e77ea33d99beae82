"""Times as people write them, and the zones in which they hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator

from prefect_bluesky.errors import InvalidInput


def zone_of(timezone: str) -> ZoneInfo:
    """The time zone of a name, such as Europe/Berlin.

    Raises:
        InvalidInput: there is none.
    """
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, OSError, ValueError):  # what a directory or a long name give
        raise InvalidInput(
            "timezone", f"there is none called {timezone!r}.", "Write one such as Europe/Berlin."
        ) from None


def in_utc(at: datetime, zone: ZoneInfo) -> datetime:
    """A time that needs no explanation: one that names no offset holds in a zone."""
    return (at.replace(tzinfo=zone) if at.tzinfo is None else at).astimezone(UTC)


def _is_no_number(at: Any) -> Any:
    # pydantic takes one for seconds since 1970: 20261201 would be due since long.
    if isinstance(at, int | float) or (isinstance(at, str) and at.strip().lstrip("+-").replace(".", "").isdigit()):
        raise ValueError(f"{at!r} is no time. Write one such as 2026-12-01 08:00.")
    return at or None


def _is_of_our_time(at: datetime | None) -> datetime | None:
    if at is not None and not 2000 <= at.year < 2200:
        raise ValueError(f"the year {at.year} is meant otherwise. Write a time such as 2026-12-01 08:00.")
    return at


Time = Annotated[datetime | None, BeforeValidator(_is_no_number), AfterValidator(_is_of_our_time)]
"""When something is to go out, as a person writes it."""
