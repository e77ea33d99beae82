"""The times of recurring posts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cronsim import CronSim, CronSimError

_WORDS = {
    "hourly": "{minute} * * * *",
    "daily": "{minute} {hour} * * *",
    "weekdays": "{minute} {hour} * * 1-5",
    "weekly": "{minute} {hour} * * {weekday}",
    "monthly": "{minute} {hour} {day} * *",
    "yearly": "{minute} {hour} {day} {month} *",
}
_EXAMPLE = f"Write {', '.join(_WORDS)} or a cron expression such as 0 9 * * 1."


def cron_of(repeat: str, first: datetime) -> str:
    """Return the cron expression of a word such as `weekly` for posts that begin at a time; any other text as it is.

    Raises:
        ValueError: the text is no cron expression, or no time ever meets it. The message has the remedy.

    Example:
        >>> from datetime import datetime
        >>> cron_of("weekly", datetime(2026, 12, 1, 9, 30))
        '30 9 * * 2'
    """
    parts = {"minute": first.minute, "hour": first.hour, "day": first.day, "month": first.month}
    cron = _WORDS.get(repeat.strip().lower(), repeat.strip()).format(**parts, weekday=first.isoweekday())
    try:
        next(CronSim(cron, first))
    except (CronSimError, StopIteration):
        raise ValueError(f"{repeat!r} is not understood, or never comes. {_EXAMPLE}") from None
    return cron


def occurrences(
    repeat: str, first: datetime, until: datetime | None, after: datetime, before: datetime
) -> Iterator[tuple[int, datetime]]:
    """Yield the times of a recurring post in a span, each with how many came before it since the first.

    Args:
        repeat: a word such as `weekly`, or a cron expression, in the zone of `first`.
        first: the earliest time, with a zone: 09:00 stays 09:00 when the clocks change.
        until: the latest time, or None.
        after: the times are later than this.
        before: the times are not later than this.
    """
    end = min(until, before) if until else before
    # The first time may be one of them.
    for number, at in enumerate(CronSim(cron_of(repeat, first), first - timedelta(minutes=1))):
        if at > end:
            return
        if at > after:
            yield number, at
