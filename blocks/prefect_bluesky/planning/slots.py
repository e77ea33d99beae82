"""Slots: the times of the week at which an account publishes what has no time of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from difflib import get_close_matches
from hashlib import sha256
from itertools import pairwise
from typing import Self
from zoneinfo import ZoneInfo

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, ValidationError, field_validator, model_validator

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning.times import zone_of
from prefect_bluesky.prefect_api import as_block_form, load_block
from prefect_bluesky.validation import explain_validation_error

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_GROUPS = {"daily": range(7), "weekdays": range(5), "weekends": range(5, 7)}
_WEEK = timedelta(days=7)

_LINE = re.compile(r"(?P<days>[a-z][a-z\s,&-]*?)?\s*(?P<times>\d.*)", re.IGNORECASE)
_TIME = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*(?:([ap])\.?m\.?)?", re.IGNORECASE)
_BLOCK_NAME = re.compile(r"(?:[a-z0-9-]+/)?[a-z0-9-]+")
_AND = re.compile(r"[,&]|\band\b", re.IGNORECASE)
_EXAMPLE = "Write slots such as mon-fri 09:00, 13:00 or sat 11:00."


@dataclass(frozen=True, order=True)
class Slot:
    """A time of the week: the day from 0 for Monday, and the time on the clock."""

    day: int
    at: time

    def __str__(self) -> str:
        """Return the slot as a person writes it."""
        return f"{_DAYS[self.day]} {self.at:%H:%M}"


def read_slots(line: str, days: str = "daily") -> list[Slot]:
    """Return the slots of a line such as `mon-fri 09:00, 13:00`.

    Args:
        line: the days, and the times on each of them.
        days: the days of a line that has times alone.

    Raises:
        ValueError: the line names no day, or no time. The message has the remedy.

    Example:
        >>> [str(slot) for slot in read_slots("sat, sun 11:00")]
        ['sat 11:00', 'sun 11:00']
    """
    found = _LINE.fullmatch(line.strip())
    if not found:
        raise ValueError(f"{line!r} has no time. {_EXAMPLE}")
    on = [day for part in _AND.split(found["days"] or days) for day in _days(part.strip(" ,"), line)]
    times = [_time(part.strip(), line) for part in _AND.split(found["times"]) if part.strip()]
    return [Slot(day, at) for day in on for at in times]


def _days(words: str, line: str) -> Iterator[int]:
    if not words:
        return
    if words.lower() in _GROUPS:
        yield from _GROUPS[words.lower()]
        return
    first, *last = [_day(word.strip(), line) for word in words.split("-", 1)]
    yield first
    day = first
    while last and day != last[0]:
        day = (day + 1) % 7
        yield day


def _day(word: str, line: str) -> int:
    names = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    found = [number for number, name in enumerate(names) if len(word) >= 2 and name.startswith(word.lower())]
    if len(found) == 1:
        return found[0]
    near = get_close_matches(word.lower(), [*_DAYS, *names, *_GROUPS], 1, 0.5)
    hint = f"Write {near[0]}." if near else _EXAMPLE
    raise ValueError(f"{line!r}: {word!r} is not a day. {hint}")


def _time(word: str, line: str) -> time:
    if found := _TIME.fullmatch(word):
        hour, minute, half = int(found[1]), int(found[2] or 0), (found[3] or "").lower()
        if half and 1 <= hour <= 12:
            hour = hour % 12 + (12 if half == "p" else 0)
        if (found[2] or half) and hour < 24 and minute < 60:
            return time(hour, minute)
    raise ValueError(f"{line!r}: {word!r} is not a time of the day. {_EXAMPLE}")


class PostingSchedule(Block):
    """
    The slots at which an account publishes what has no time of its own.

    Example:
        Load a stored block and see the next slot, or pass its name `posting-schedule/BLOCK_NAME` to `publish-batch`:
        ```python
        from datetime import UTC, datetime

        from prefect_bluesky import PostingSchedule

        schedule = PostingSchedule.load("BLOCK_NAME")
        next_slot = next(schedule.after(datetime.now(UTC)))
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid", json_schema_extra=as_block_form)

    _block_type_name = "Posting Schedule"
    _block_type_slug = "posting-schedule"
    _logo_url = HttpUrl("https://bsky.app/static/apple-touch-icon.png")
    _documentation_url = HttpUrl("https://bsky.network/docs")
    _description = "The slots at which accounts publish what has no time of its own."

    slots: tuple[str, ...] = Field(
        title="Slots",
        description="Days and times, such as mon-fri 09:00, 13:00 or sat 11:00. Times alone are of the days before.",
        examples=[["mon-fri 09:00, 13:00", "sat 11:00"]],
    )
    timezone: str = Field(
        default="UTC", title="Time zone", description="Where the slots are, such as Europe/Berlin.", examples=["UTC"]
    )
    jitter_minutes: int = Field(
        default=0,
        ge=0,
        le=720,
        title="Jitter in minutes",
        description="Up to so many minutes after its slot a post goes out, so that posts do not look automatic.",
    )

    @field_validator("slots", mode="before")
    @classmethod
    def _from_lines(cls, slots: object) -> object:
        """Take one text too, as a person writes it in a calendar."""
        return [line for line in re.split(r"[\n;]", slots) if line.strip()] if isinstance(slots, str) else slots

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, timezone: str) -> str:
        zone_of(timezone)
        return timezone

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        slots = self._week()
        if not slots:
            raise ValueError(f"slots: there is none. {_EXAMPLE}")
        minutes = [timedelta(days=slot.day, hours=slot.at.hour, minutes=slot.at.minute) for slot in slots]
        for (slot, start), (following, end) in pairwise(
            [*zip(slots, minutes, strict=True), (slots[0], minutes[0] + _WEEK)]
        ):
            if start == end:
                raise ValueError(f"slots: {slot} is there twice. Remove one of them.")
            if end - start <= timedelta(minutes=self.jitter_minutes):
                what = f"jitter_minutes: {self.jitter_minutes} minutes after {slot} is as late as {following}"
                raise ValueError(f"{what}. Allow less jitter, or move a slot.")
        return self

    def _week(self) -> list[Slot]:
        found: list[Slot] = []
        days = "daily"
        for line in self.slots:
            found += read_slots(line, days)
            # In YAML, [mon-fri 09:00, 13:00] is a list of two.
            days = ((written := _LINE.fullmatch(line.strip())) and written["days"]) or days
        return sorted(found)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return zone_of(self.timezone)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the slots after a moment, without end and without jitter.

        A slot that the clocks leave out on a day is as much later as the clocks are put forward. Of a slot that the day
        has twice, the first counts.
        """
        week, zone = self._week(), self.zone
        day = moment.astimezone(zone).date()
        last = moment.astimezone(UTC)
        while True:
            for slot in week:
                if slot.day == day.weekday():
                    at = datetime.combine(day, slot.at, zone).astimezone(UTC)
                    if at > last:
                        last = at
                        yield at.astimezone(zone)
            day += timedelta(days=1)

    def planned_for(self, slot: datetime, account: str) -> datetime:
        """Return when an account's post goes out that has a slot: the same time whenever this is asked."""
        if not self.jitter_minutes:
            return slot
        number = int.from_bytes(sha256(f"{account} {slot.astimezone(UTC).isoformat()}".encode()).digest()[:8])
        return slot + timedelta(minutes=number % (self.jitter_minutes + 1))


def free_slots(
    schedule: PostingSchedule, account: str, taken: Sequence[datetime], after: datetime
) -> Iterator[datetime]:
    """Yield when an account's next posts go out: in its slots that no other post has.

    Args:
        schedule: the slots.
        account: the account's name, which its jitter depends on.
        taken: when other posts of the account go out.
        after: the time after which a slot has to be.
    """
    others = sorted(each.astimezone(UTC) for each in taken)
    width = timedelta(minutes=schedule.jitter_minutes)
    # A post whose slot has begun, but which goes out some minutes later, keeps its slot.
    for slot in schedule.after(after - width):
        start, at = slot.astimezone(UTC), schedule.planned_for(slot, account)
        if at > after and not any(start <= other <= start + width for other in others):
            yield at


def find_schedule(written: str, timezone: str, jitter: int = 0) -> PostingSchedule:
    """Return the schedule that a person names or writes: a block's name, or lines such as `mon-fri 09:00, 13:00`.

    Args:
        written: the name, such as `posting-schedule/team` or `team`, or the lines, parted by semicolons.
        timezone: the time zone of lines.
        jitter: the minutes of jitter of lines.

    Raises:
        InvalidInput: there is no such block, or a line cannot be read.
    """
    slug = str(PostingSchedule.get_block_type_slug())
    if _BLOCK_NAME.fullmatch(written.strip()):
        kind, _, name = written.strip().rpartition("/")
        found = load_block(f"{kind or slug}/{name}", "schedule")
        if not isinstance(found, PostingSchedule):
            what = f"{written!r} is a block of another type: {type(found).get_block_type_name()}."
            raise InvalidInput("schedule", what, "Name a Posting Schedule block.")
        if jitter:
            raise InvalidInput("jitter", f"the block {name} has its own.", "Write the jitter into the block.")
        return found
    try:
        return PostingSchedule.model_validate({"slots": written, "timezone": timezone, "jitter_minutes": jitter})
    except ValidationError as unusable:
        raise InvalidInput("slots", explain_validation_error(unusable), "") from None
