"""The input of a batch: its posts, from a calendar or as they are, with their times and keys, and its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media import File
from prefect_bluesky.planning.calendar import Unusable, read_calendar
from prefect_bluesky.planning.planned_post import AHEAD, PlannedPost
from prefect_bluesky.planning.slots import PostingSchedule, find_schedule
from prefect_bluesky.planning.times import clock_change, zone_of
from prefect_bluesky.prefect_api import file_name, require_server
from prefect_bluesky.publishing import current_attempt

Entries = list[tuple[str, PlannedPost | Unusable]]
T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Posts to publish and to plan.

    Attributes:
        entries: the posts with their places, times and keys, and the entries that cannot be read.
        calendar: the name of the calendar that the posts come from; "" if they come from none.
        schedule: the slots of posts without a time; None if these go out at once.
        notes: what a person should know of posts that are published all the same: place, account and note.
        is_named: whether a person has given that name. Else it is the file's, which another calendar may have too.
    """

    entries: Entries
    calendar: str = ""
    schedule: PostingSchedule | None = None
    notes: tuple[tuple[str, str, str], ...] = ()
    is_named: bool = False


@dataclass(frozen=True)
class Options:
    """The options of a batch.

    Attributes:
        dry_run: only say what would be done.
        overwrite: let what a person has edited or cancelled follow the calendar.
        prune: remove planned posts that the calendar no longer has.
        at_once: the number of accounts that are served at the same time.
    """

    dry_run: bool = False
    overwrite: bool = False
    prune: bool = False
    at_once: int = 32


def read_entries(
    items: Sequence[PlannedPost],
    calendar: str,
    storage: str,
    timezone: str,
    name: str = "",
    schedule: str = "",
    account: str = "",
    dates: str = "",
) -> Batch:
    """Return the posts with their places in the input, with times and keys fixed.

    Args:
        items: the posts, if there is no calendar.
        calendar: the calendar's path or URL.
        storage: the block that stores the calendar, or "".
        timezone: the time zone of times and slots, if the calendar names none.
        name: the calendar's name, if it is not in the calendar, and not that of its file.
        schedule: the slots of posts without a time, if they are not in the calendar: lines, or a block's name.
        account: the account of the calendar's posts that name none.
        dates: the order of day and month in a CSV, if its dates do not tell: `day-first` or `month-first`.

    Raises:
        InvalidInput: the input cannot be read. Nothing is published.
    """
    if bool(items) == bool(calendar):
        raise InvalidInput("items", "pass items or a calendar, not both.", "Pass exactly one of them.")
    if items:
        entries: Entries = [(f"items[{n}]", item) for n, item in enumerate(items)]
        occasion, jitter, note = current_attempt().key, 0, ""
    else:
        read = read_calendar(File(source=calendar, storage=storage), account=account, dates=dates)
        # A post in a file is published once, however often the file is read.
        entries, timezone, occasion = read.entries, read.timezone or timezone, ""
        name, schedule, jitter, note = name or read.name, schedule or read.slots, read.jitter, read.note
    zone, no_zone = _or_why_not(lambda: zone_of(timezone))
    slots, no_slots = _or_why_not(lambda: _slots(schedule, timezone, jitter))
    now = datetime.now(UTC)
    fixed: Entries = []
    notes: list[tuple[str, str, str]] = [("columns", "", note)] if note else []
    for place, entry in entries:
        # What is wrong with the time zone or the slots stops only the posts that need them.
        trouble = no_zone if _is_local(entry) else no_slots if _has_no_time(entry) else None
        if isinstance(entry, Unusable) or trouble:
            fixed.append((place, Unusable(place, entry.account, str(trouble)) if trouble else entry))
            continue
        fixed += _in_turn(place, entry, zone or ZoneInfo("UTC"), now, occasion, notes)
    named = {entry.reason for _, entry in fixed if isinstance(entry, Unusable)}
    notes += [
        (each.field, "", f"{each.reason} {each.remedy}")
        for each in (no_zone, no_slots)
        if each and str(each) not in named
    ]
    return Batch(fixed, (name or file_name(calendar)) if calendar else "", slots, tuple(notes), is_named=bool(name))


def require_server_for_later(batch: Batch) -> None:
    """Refuse posts for later if no server is there that sends them.

    Raises:
        InvalidInput: PREFECT_API_URL is not set.
    """
    now = datetime.now(UTC)
    posts = [entry for _, entry in batch.entries if isinstance(entry, PlannedPost)]
    if any(post.at > now if post.at else batch.schedule for post in posts):
        require_server("that publishes the posts for later")


def _in_turn(
    place: str, entry: PlannedPost, zone: ZoneInfo, now: datetime, occasion: str, notes: list[tuple[str, str, str]]
) -> Entries:
    """Return an entry with its times and keys fixed; add what a person should know of its times to the notes."""
    if entry.at and (note := clock_change(entry.at, zone)):
        notes.append((place, entry.account, note))
    times = list(entry.in_turn(zone, now))
    if not times:
        weeks = AHEAD.days // 7
        notes.append((place, entry.account, f"it has no time in the next {weeks} weeks, and is planned later."))
    return [
        (
            f"{place} ({each.at:%d %b %H:%M %Z})" if entry.repeat and each.at else place,
            each.with_time_and_key(zone, occasion),
        )
        for each in times
    ]


def _or_why_not(read: Callable[[], T]) -> tuple[T | None, InvalidInput | None]:
    """Return what can be read, or why it cannot."""
    try:
        return read(), None
    except InvalidInput as unusable:
        return None, unusable


def _slots(schedule: str, timezone: str, jitter: int) -> PostingSchedule | None:
    if jitter and not schedule:
        raise InvalidInput("jitter", "the calendar has no slots.", "Write slots:, or remove jitter:.")
    return find_schedule(schedule, timezone, jitter) if schedule else None


def _is_local(entry: PlannedPost | Unusable) -> bool:
    """Return whether an entry has a time that needs a time zone."""
    times = () if isinstance(entry, Unusable) else (entry.at, entry.until, entry.post.expires)
    return any(at is not None and at.tzinfo is None for at in times)


def _has_no_time(entry: PlannedPost | Unusable) -> bool:
    return not isinstance(entry, Unusable) and entry.at is None
