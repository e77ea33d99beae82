"""The clock of Prefect's server, counted on by a process whose own clock may be wrong."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from prefect_bluesky.planning.clock import ServerClock

NINE = datetime(2026, 12, 1, 9, tzinfo=UTC)
seconds = st.floats(0, 30)


@given(delays=st.lists(seconds, min_size=1, max_size=5), between=seconds)
def test_however_late_answers_come_the_clock_is_never_fast(delays: list[float], between: float) -> None:
    # The server states its time, and each answer comes a while later.
    clock: ServerClock | None = None
    for number, delay in enumerate(delays):
        asked_at = number * (between + 30)
        stated, answered_at = NINE + timedelta(seconds=asked_at), asked_at + delay
        if clock is None:
            clock = ServerClock(stated, answered_at)
        else:
            clock.correct(stated, answered_at)
    assert clock is not None
    slow = clock.monotonic(NINE)
    # Nine o'clock was at 0. The fastest answer decides by how much the clock is slow.
    assert -1e-3 < slow - min(delays) < 1e-3


def test_the_worker_s_own_clock_does_not_count() -> None:
    clock = ServerClock(NINE, time.monotonic())
    assert timedelta() <= clock.now() - NINE < timedelta(seconds=60)


def test_a_time_that_has_passed_is_not_waited_for() -> None:
    ServerClock(NINE, time.monotonic()).wait_until(NINE - timedelta(hours=1))
