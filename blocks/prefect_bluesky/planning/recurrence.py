"""The times of recurring posts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

from cronsim import CronSim, CronSimError

_WORDS = {
    "hourly": "{minute} * * * *",
    "daily": "{minute} {hour} * * *",
    "weekdays": "{minute} {hour} * * 1-5",
    "weekly": "{minute} {hour} * * {weekday}",
    "monthly": "{minute} {hour} {day} * *",
    "yearly": "{minute} {hour} {day} {month} *",
}
_FIELDS, _OFTEN = 5, timedelta(hours=1)
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
    word = _WORDS.get(repeat.strip().lower())
    cron = word.format(**parts, weekday=first.isoweekday()) if word else repeat.strip()
    try:
        times = CronSim(cron, first) if len(cron.split()) == _FIELDS else iter(())
        one, other = next(times), next(times)
    except (CronSimError, StopIteration):
        raise ValueError(f"repeat: {repeat!r} is not understood, or never comes. {_EXAMPLE}") from None
    if other - one < _OFTEN:
        raise ValueError(f"repeat: {repeat!r} is more often than once an hour. {_EXAMPLE}")
    return cron


def is_at_most_daily(repeat: str, first: datetime) -> bool:
    """Return whether a day has at most one of the times, as far as the first dozen tells."""
    days = [at.date() for at in islice(CronSim(cron_of(repeat, first), first), 12)]
    return len(days) == len(set(days))


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
