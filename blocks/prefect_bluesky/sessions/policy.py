"""Limits on how often an authenticator tries something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

PAUSE = timedelta(seconds=30)
"""The pause after a refresh, a save or a report that failed for a temporary reason."""

NEVER = datetime.min.replace(tzinfo=UTC)
"""A time before all others."""


class Cooldown:
    """The pause after a failure."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._until = NEVER

    def begin(self) -> None:
        self._until = self._now() + PAUSE

    @property
    def is_over(self) -> bool:
        """True if the next attempt may be made."""
        # If the clock was set back, the pause must not become longer.
        return not self._now() < self._until <= self._now() + PAUSE


@dataclass(frozen=True)
class LoginPolicy:
    """The limits of an authenticator.

    Args:
        min_validity: the remaining validity that a session needs to be reused.
        max_logins_per_day: logins of one account in 24 hours, counted in its store.
        refusal_cool_down: the pause before a refused app password is tried again.
        probe_interval: the pause before a refused account is tried again if the attempt costs no login.
    """

    min_validity: timedelta = timedelta(minutes=10)
    max_logins_per_day: int = 10
    refusal_cool_down: timedelta = timedelta(hours=6)
    probe_interval: timedelta = timedelta(minutes=10)
