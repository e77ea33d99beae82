"""From an idea to what goes out where and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Protocol
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, TypeAdapter

from prefect_bluesky.channels import Channel, Draft, Rules, Variant
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.errors import BlueskyError, DoesNotFit
from prefect_bluesky.planning import in_utc


class Generator(Protocol):
    """What makes drafts of an idea: by rule, or a model."""

    def generate(self, idea: Idea, rules: Rules, count: int) -> list[Draft]:
        """Drafts for a channel.

        Args:
            idea: what to tell.
            rules: what the channel takes.
            count: how many drafts at most.
        """


class PlannedVariant(BaseModel):
    """A variant with its place and its turn.

    Args:
        channel: the block of its channel, such as `mastodon-credentials/alice`.
        turn: which of the channel's it is, from 0.
        variant: what goes out.
        key: what tells it from all others.
        is_wanted: whether a person wants it; one that is dropped stays, in case they change their mind.
        at: when; None until it is fixed.
        is_later: whether it was to come when it was approved, and so has a run of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: str
    turn: int
    variant: Variant
    key: str
    is_wanted: bool = True
    at: datetime | None = None
    is_later: bool = False


PLANNED_VARIANTS = TypeAdapter(list[PlannedVariant])


@dataclass
class ComposePlan:
    """What an idea became.

    Args:
        composed: the variants, channel by channel.
        problems: why a channel has none.
        left_out: drafts that fit no post of their channel, each with the reason.
    """

    composed: list[PlannedVariant] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def compose_idea(
    idea: Idea,
    channels: Sequence[tuple[str, Channel]],
    generator: Generator,
    count: int,
    *,
    occasion: str,
) -> ComposePlan:
    """Variants of an idea for each channel, fitted.

    A channel that fails stops no other.

    Args:
        idea: what to tell.
        channels: where, each with the name of its block.
        generator: what makes drafts.
        count: how many variants a channel gets at most.
        occasion: what tells this from other times that the same is composed.
    """
    made = ComposePlan()
    for name, channel in channels:
        try:
            drafts = generator.generate(idea, channel.rules, count)
        except BlueskyError as trouble:
            made.problems.append(f"{name}: {trouble}")
            continue
        variants: list[Variant] = []
        refused_before = len(made.left_out)
        for draft in drafts:
            try:
                variants.append(channel.fit(draft))
            except DoesNotFit as refused:
                made.left_out.append(f"{name}: the {draft.kind} is left out. {refused}")
        if not variants:
            # Nobody would miss it otherwise.
            made.problems += made.left_out[refused_before:] or [f"{name}: no draft came of the idea."]
        for turn, variant in enumerate(variants):
            key = sha256(f"{occasion} {name} {turn}".encode()).hexdigest()[:32]
            made.composed.append(PlannedVariant(channel=name, turn=turn, variant=variant, key=f"composed-{key}"))
    return made


_GRACE = timedelta(minutes=5)


def due(turn: int, start: datetime | None, every: timedelta, now: datetime) -> datetime:
    """When a variant goes out that nobody has given a time.

    Where the start is past, as a review took its time, all move on by as many intervals as it takes: they would go out
    in a heap otherwise.

    Args:
        turn: which of its channel's it is, from 0.
        start: when the first was to go out; None for now.
        every: how long after one the next goes out.
        now: when this is asked.

    Example:
        >>> from datetime import UTC
        >>> monday, wednesday = datetime(2026, 12, 7, 9, tzinfo=UTC), datetime(2026, 12, 9, 8, tzinfo=UTC)
        >>> due(1, monday, timedelta(days=1), wednesday).day
        10
    """
    first = start or now
    late = max(now - first, timedelta())
    # Nothing is late that is due this minute.
    missed = -(-late // every) if late > _GRACE else 0
    return first + (missed + turn) * every


@dataclass(frozen=True)
class Timing:
    """When what goes out.

    Args:
        start: when the first of each channel does; None for at once.
        every: how long after one the next does.
        zone: where times hold that name no offset.
    """

    start: datetime | None
    every: timedelta
    zone: ZoneInfo

    def times(self, composed: Sequence[PlannedVariant]) -> list[datetime]:
        """When each goes out, as a person said or by its turn, by the clocks of the zone."""
        now = datetime.now(UTC)
        start = self.start and in_utc(self.start, self.zone)
        times = (in_utc(each.at, self.zone) if each.at else due(each.turn, start, self.every, now) for each in composed)
        return [at.astimezone(self.zone) for at in times]
