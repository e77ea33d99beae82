"""The posts of one account in a batch: what is pending, what became of the others, and how both are counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from prefect_bluesky.planning.comparison import Row
from prefect_bluesky.planning.delivery import AccountQueue
from prefect_bluesky.planning.planned_post import PlannedPost

Placed = tuple[str, PlannedPost]
"""A post with its place in the input."""

_NOTHING = "There was nothing to publish."
_ALWAYS = {"published", "already out", "scheduled", "held", "failed", "expired", "too late"}
_STATES = (
    "published", "already out", "scheduled", "changed", "removed", "unchanged", "held", "failed", "expired", "too late",
    "cancelled", "edited by a person", "no longer in the calendar", "due", "due later", "to change", "to remove",
)  # fmt: skip


@dataclass
class Account(AccountQueue[Placed]):
    """The pending posts of one account, and the results so far."""

    later: list[Row] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, str]] = field(default_factory=list)
    expires_at: datetime | None = None
    link: str = ""

    @property
    def waiting(self) -> int:
        return len(self.due) + len(self.later)

    def complain(self, place: str, state: str, what: str) -> None:
        """Record why a post was not published."""
        self.counts[state] += 1
        self.problems.append({"account": self.name, "post": place, "state": state, "what": what})

    def too_late(self, place: str, at: datetime) -> None:
        """Record that a post is not sent, as it was due long ago."""
        self.complain(place, "too late", f"It was due at {at:%Y-%m-%d %H:%M %Z}. Correct the time, or remove the post.")

    def give_up(self, what: str) -> None:
        """Record one reason why all due posts failed."""
        for place, _ in self.due:
            self.complain(place, "failed", what)
        self.due = []

    def stop(self, what: str) -> None:
        """Record one reason why all posts failed, those for later too. To remove a post takes no account."""
        self.due = [*self.due, *((row.place, row.planned) for row in self.later if row.planned)]
        self.later = [row for row in self.later if row.planned is None]
        self.give_up(what)

    def row(self) -> dict[str, str | int]:
        return {
            "account": self.name,
            **{state: self.counts[state] for state in _STATES if state in _ALWAYS or self.counts[state]},
            "session expires": f"{self.expires_at:%Y-%m-%d %H:%M} UTC" if self.expires_at else "",
            "last post": self.link,
        }


def in_words(counts: Counter[str]) -> str:
    """Return how many posts are in which state.

    Example:
        >>> in_words(Counter({"scheduled": 2, "published": 1}))
        '1 published, 2 scheduled'
    """
    return ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state]) or _NOTHING
