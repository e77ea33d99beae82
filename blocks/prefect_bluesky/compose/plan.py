"""Plan variants of an idea: for which channel, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Protocol
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, TypeAdapter

from prefect_bluesky.channels import Channel, Draft, Rules, Variant
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.errors import BlueskyError, DoesNotFit
from prefect_bluesky.posts import in_utc


class Generator(Protocol):
    """The interface of a generator, which makes drafts from an idea: from templates or with a model."""

    def generate(self, idea: Idea, rules: Rules, count: int) -> list[Draft]:
        """Return drafts for a channel.

        Args:
            idea: the idea to write about.
            rules: the channel's limits.
            count: the largest number of drafts.
        """


class PlannedVariant(BaseModel):
    """A variant with its channel and its time.

    Args:
        channel: the channel's block, such as `mastodon-credentials/alice`.
        turn: the variant's position within its channel, from 0.
        is_wanted: False if the reviewer dropped the variant. A dropped variant stays, so the reviewer can restore it.
        at: the publish time; None until it is fixed.
        is_later: True if the publish time was in the future at approval. A separate run then publishes the variant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: str
    turn: int
    variant: Variant
    key: str
    is_wanted: bool = True
    at: datetime | None = None
    is_later: bool = False


_GRACE = timedelta(minutes=5)
"""A start that is less than this in the past is not late."""

PLANNED_VARIANTS = TypeAdapter(list[PlannedVariant])


@dataclass
class ComposePlan:
    """The variants of an idea by channel, why a channel has none, and each unfitting draft that is left out."""

    composed: list[PlannedVariant] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def compose_idea(
    idea: Idea, channels: Sequence[tuple[str, Channel]], generator: Generator, count: int, *, occasion: str
) -> ComposePlan:
    """Make at most `count` fitted variants for each channel, given with its block's name; another occasion, other keys.

    A channel that fails does not stop the others.
    """
    plan = ComposePlan()
    for name, channel in channels:
        try:
            drafts = generator.generate(idea, channel.rules, count)
        except BlueskyError as trouble:
            plan.problems.append(f"{name}: {trouble}")
            continue
        variants: list[Variant] = []
        left_out: list[str] = []
        for draft in drafts:
            try:
                variants.append(channel.fit(draft))
            except DoesNotFit as refused:
                left_out.append(f"{name}: the {draft.kind} is left out. {refused}")
        plan.left_out += left_out
        if not variants:
            # Otherwise nobody would notice that the channel has no post.
            plan.problems += left_out or [f"{name}: the generator made no draft."]
        for turn, variant in enumerate(variants):
            key = sha256(f"{occasion} {name} {turn}".encode()).hexdigest()[:32]
            plan.composed.append(PlannedVariant(channel=name, turn=turn, variant=variant, key=f"composed-{key}"))
    return plan


def due(turn: int, start: datetime | None, every: timedelta, now: datetime, zone: ZoneInfo) -> datetime:
    """Return the publish time of a variant for which nobody chose a time; without a start, the first goes out now.

    If the start is past because the review took long, all variants move by whole intervals. Otherwise several would be
    published at once. An interval of whole days keeps the time of the day in the zone, whatever its clocks do.
    """
    first = start or now
    late = now - first
    missed = -(-late // every) if late > _GRACE else 0
    passed = (missed + turn) * every
    if every % timedelta(days=1):
        return first + passed
    on_the_wall = first.astimezone(zone).replace(tzinfo=None) + passed
    return on_the_wall.replace(tzinfo=zone).astimezone(UTC)


@dataclass(frozen=True)
class Timing:
    """The times at which the posts of an idea go out.

    Args:
        start: the first publish time of each channel; None for now.
        every: the interval between two posts of a channel.
        zone: the zone of times without an offset.
        slots: yields the next free slots of a channel, in place of the interval; None to go by the interval.
    """

    start: datetime | None
    every: timedelta
    zone: ZoneInfo
    slots: Callable[[str], Iterator[datetime]] | None = None

    def times(self, planned: Sequence[PlannedVariant]) -> list[datetime]:
        """Return each publish time in the zone: the chosen time, or else the time of the variant's turn, or slot."""
        now = datetime.now(UTC)
        start = self.start and in_utc(self.start, self.zone)

        slots: dict[str, Iterator[datetime]] = {}

        def time_of(each: PlannedVariant) -> datetime:
            if each.at:
                return in_utc(each.at, self.zone)
            if self.slots is None or not each.is_wanted:
                return due(each.turn, start, self.every, now, self.zone)
            if each.channel not in slots:
                slots[each.channel] = self.slots(each.channel)
            return next(slots[each.channel])

        return [time_of(each).astimezone(self.zone) for each in planned]
