"""What happens to an account that is refused although its app password is right: taken down, deactivated, moved on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from prefect_bluesky import AuthError, AuthProblem, sandbox
from prefect_bluesky.alerts.incidents import Reporter
from prefect_bluesky.errors import RequestRefused
from prefect_bluesky.sessions.app_password import from_block
from prefect_bluesky.sessions.authenticator import Authenticator
from prefect_bluesky.sessions.bearer_auth import BearerAuth
from prefect_bluesky.sessions.policy import LoginPolicy
from prefect_bluesky.sessions.stores.memory import MemorySessionStore
from tests.support import LOGIN, REFRESH, counted

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class Life:
    """One account, and the clock that it and its server go by."""

    def __init__(self, pds: sandbox.Sandbox) -> None:
        self.pds, self.account, self.place = pds, pds.create_account(), uuid4()
        self.time = datetime(2026, 11, 23, 6, tzinfo=UTC)
        self.authenticator = self.another()

    def another(self, app_password: str | None = None, **changes: int) -> Authenticator:
        """The account on another worker, with the same store."""
        return Authenticator(
            account=self.account.handle,
            app_password=from_block(app_password or self.account.app_password),
            service_url=self.pds.url,
            store=MemorySessionStore(self.place),
            lock=nullcontext,
            policy=LoginPolicy(**changes),  # type: ignore[arg-type]
            reporter=Reporter(uuid4()),
            now=lambda: self.time,
        )

    def passes(self, time: timedelta) -> None:
        """Time goes by, here and there."""
        self.time += time
        self.pds.advance(time)

    def gate(self, authenticator: Authenticator | None = None) -> str:
        """The gate: what it did, or what it found."""
        try:
            return (authenticator or self.authenticator).ensure().action
        except AuthError as refused:
            return refused.problem.value

    def meets(self, error: str, message: str) -> AuthProblem:
        """A call, signed rightly, that the server refuses."""
        with pytest.raises(AuthError) as refusal, BearerAuth(self.authenticator).problems():
            raise RequestRefused(self.pds.url, "com.atproto.repo.applyWrites", 401, error, message)
        return refusal.value.problem


@pytest.fixture
def life() -> Iterator[Life]:
    with sandbox.run() as pds:
        yield Life(pds)


@pytest.mark.parametrize("status", ["take_down", "deactivate"])
def test_an_account_that_is_out_of_use_is_asked_for_every_ten_minutes_and_no_more(life: Life, status: str) -> None:
    problem = {"take_down": "account_taken_down", "deactivate": "account_deactivated"}[status]
    life.gate()
    getattr(life.pds, status)(life.account)
    life.passes(2 * HOUR)
    with counted(life.pds) as requests:
        assert [life.gate() for _ in range(5)] == [problem] * 5
        life.passes(9 * MINUTE)
        assert life.another()._alerting.is_settled
        assert life.gate() == problem
    assert requests == {REFRESH: 1}
    with counted(life.pds) as requests:
        life.passes(2 * MINUTE)
        assert life.gate() == problem
    assert requests == {REFRESH: 1}


def test_an_account_that_is_in_use_again_recovers_by_itself(life: Life) -> None:
    life.gate()
    life.pds.deactivate(life.account)
    life.passes(2 * HOUR)
    assert life.gate() == "account_deactivated"
    life.pds.reinstate(life.account)
    life.passes(11 * MINUTE)
    assert [life.gate() for _ in range(2)] == ["refreshed", "reused"]


def test_what_a_write_met_stops_the_gate_until_a_refresh_shows_that_it_is_over(life: Life) -> None:
    life.gate()
    assert life.meets("AccountDeactivated", "Account is deactivated") is AuthProblem.ACCOUNT_DEACTIVATED
    with counted(life.pds) as requests:
        assert life.gate() == "account_deactivated"
        life.authenticator = life.another()
        assert life.gate() == "account_deactivated"
    assert requests == {}
    life.passes(11 * MINUTE)
    with counted(life.pds) as requests:
        assert [life.gate() for _ in range(2)] == ["refreshed", "reused"]
    assert requests == {REFRESH: 1}


def test_the_first_of_an_incident_stays_its_first(life: Life) -> None:
    life.gate()
    life.pds.deactivate(life.account)
    life.passes(2 * HOUR)
    life.gate()
    began = life.authenticator.state.refusal
    life.passes(11 * MINUTE)
    life.gate()
    still = life.authenticator.state.refusal
    assert began is not None
    assert still is not None
    assert (still.first_seen, still.last_seen) == (began.first_seen, life.time)


def test_a_deactivated_account_that_signs_in_keeps_its_session(life: Life) -> None:
    life.pds.deactivate(life.account)
    with counted(life.pds) as requests:
        assert [life.gate() for _ in range(2)] == ["account_deactivated"] * 2
        life.pds.reinstate(life.account)
        life.passes(11 * MINUTE)
        assert life.gate() == "refreshed"
    assert requests == {LOGIN: 1, REFRESH: 1}


def test_when_the_days_logins_are_spent_it_says_so_until_there_is_one_again(life: Life) -> None:
    life.authenticator = life.another(max_logins_per_day=1)
    life.gate()
    life.pds.take_down(life.account)
    life.pds.reinstate(life.account)
    life.passes(2 * HOUR)
    assert [life.gate() for _ in range(2)] == ["login_limit_reached"] * 2
    life.passes(23 * HOUR)
    assert life.gate() == "logged_in"


def test_two_blocks_with_two_dead_app_passwords_cost_a_login_each_and_no_more(life: Life) -> None:
    with counted(life.pds) as requests:
        for _ in range(4):
            for app_password in ("aaaa-bbbb-cccc-dddd", "eeee-ffff-gggg-hhhh"):
                assert life.gate(life.another(app_password)) == "app_password_rejected"
            life.passes(11 * MINUTE)
    assert requests == {LOGIN: 2}


def test_a_mistyped_app_password_that_nobody_uses_any_more_is_over_after_a_while(life: Life) -> None:
    life.gate()
    assert life.gate(life.another("aaaa-bbbb-cccc-dddd")) == "app_password_rejected"
    for _ in range(5):
        life.passes(2 * HOUR)
        assert life.gate() == "refreshed"
    assert life.authenticator.state.document.refusal is not None
    assert not life.authenticator.state.document.refusal.is_open


def test_what_only_a_login_can_show_to_be_over_is_not_tried_at_every_refresh(life: Life) -> None:
    life.gate()
    assert life.meets("InvalidToken", "Bad token scope") is AuthProblem.INSUFFICIENT_SCOPE
    life.passes(2 * HOUR)
    with counted(life.pds) as requests:
        assert life.gate() == "insufficient_scope"
    assert requests == {}
    life.passes(5 * HOUR)
    assert life.gate() == "logged_in"
