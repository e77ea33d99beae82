"""The queue of a calendar: its posts without a time take the next free slots of their accounts, in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.planned_run import PlannedRun
from prefect_bluesky.planning.slots import PostingSchedule, free_slots

NOTICE = timedelta(minutes=3)
"""How far ahead a slot is taken at the least: a minute's run starts two minutes ahead."""

Matched = tuple[str, PlannedPost, PlannedRun | None]
"""A post of a calendar with its place, and the run that it has."""


@dataclass(frozen=True)
class Queue:
    """The queue of posts without a time.

    Attributes:
        schedule: the slots.
        taken: when posts go out that are no part of the calendar, by what tells accounts' blocks from others.
        overwrite: whether what a person has edited takes its turn again.
    """

    schedule: PostingSchedule
    taken: Mapping[str, Sequence[datetime]]
    overwrite: bool = False

    def in_turn(self, matched: Sequence[Matched], accounts: Mapping[str, str], now: datetime) -> list[Matched]:
        """Return posts with their times, in the same order.

        Args:
            matched: the calendar's posts, in the order in which they take slots.
            accounts: what tells each account's block from others, by the block's name.
            now: the time.
        """
        taken: defaultdict[str, list[datetime]] = defaultdict(list)
        for account, times in self.taken.items():
            taken[account] += times
        waiting = {place for place, planned, run in matched if planned.at is None and self._waits(run, now)}
        for place, planned, run in matched:
            if place not in waiting and (at := planned.at or (run and run.at)):
                taken[accounts.get(planned.account, "")].append(at)
        slots: dict[str, Iterator[datetime]] = {}
        found: list[Matched] = []
        for place, planned, run in matched:
            if place in waiting:
                account = accounts.get(planned.account, "")
                if planned.account not in slots:
                    slots[planned.account] = free_slots(self.schedule, planned.account, taken[account], now + NOTICE)
                planned = planned.model_copy(update={"at": next(slots[planned.account])})
            found.append((place, planned, run))
        return found

    def _waits(self, run: PlannedRun | None, now: datetime) -> bool:
        """Return whether a post takes its turn: it is not out, under way, held, or a person's own."""
        if run is None or run.was_ended_by_us:
            return True
        if run.was_cancelled:
            return self.overwrite
        if not run.is_live:
            return not run.is_out and run.state_name != "Expired"
        is_soon = run.at is not None and run.at <= now + NOTICE
        return run.is_planned and not is_soon and (self.overwrite or not run.is_edited)
