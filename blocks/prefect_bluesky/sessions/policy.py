"""How often things are tried in an account's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

PAUSE = timedelta(seconds=30)
"""How long a refresh, a save or a report that failed for a passing reason is left alone."""

NEVER = datetime.min.replace(tzinfo=UTC)
"""Before any time."""


class Cooldown:
    """The time for which something that failed is left alone.

    Args:
        now: the clock.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._until = NEVER

    def begin(self) -> None:
        """It has failed just now."""
        self._until = self._now() + PAUSE

    @property
    def is_over(self) -> bool:
        """Whether it may be tried again."""
        # A clock that was set back must not make it longer.
        return not self._now() < self._until <= self._now() + PAUSE


@dataclass(frozen=True)
class LoginPolicy:
    """What an authenticator may do.

    Args:
        min_validity: how long a session must still be valid for to be reused.
        max_logins_per_day: logins of one account in 24 hours, counted in its store.
        refusal_cool_down: how long a refused app password is not tried again.
        probe_interval: how long an account that is refused otherwise is not tried again: that costs no login.
    """

    min_validity: timedelta = timedelta(minutes=10)
    max_logins_per_day: int = 10
    refusal_cool_down: timedelta = timedelta(hours=6)
    probe_interval: timedelta = timedelta(minutes=10)
