"""What happens to an account that is refused although its app password is right: taken down, deactivated, moved on."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from prefect_bluesky import AuthError, AuthProblem, sandbox
from prefect_bluesky.errors import RequestRefused
from prefect_bluesky.sessions.policy import LoginPolicy
from prefect_bluesky.sessions.session_auth import SessionAuth
from prefect_bluesky.sessions.stores.memory import MemorySessionStore
from tests.session_worker import HOUR, MINUTE, Worker
from tests.support import LOGIN, REFRESH, RESOLVE, STATUS, counted


@pytest.fixture
def worker() -> Iterator[Worker]:
    with sandbox.run() as pds:
        yield Worker(pds, MemorySessionStore(uuid4()), has_saved_block=True)


def meets(worker: Worker, error: str, message: str) -> AuthProblem:
    """Make a correctly signed call that the server refuses. Return the problem."""
    with pytest.raises(AuthError) as refusal, SessionAuth(worker.authenticator).problems():
        raise RequestRefused(worker.pds.url, "com.atproto.repo.applyWrites", 401, error, message)
    return refusal.value.problem


@pytest.mark.parametrize("status", ["take_down", "deactivate"])
def test_an_account_that_is_out_of_use_is_asked_for_every_ten_minutes_and_no_more(worker: Worker, status: str) -> None:
    problem = {"take_down": "account_taken_down", "deactivate": "account_deactivated"}[status]
    worker.gate()
    getattr(worker.pds, status)(worker.account)
    worker.passes(2 * HOUR)
    with counted(worker.pds) as requests:
        assert [worker.gate() for _ in range(5)] == [problem] * 5
        worker.passes(9 * MINUTE)
        assert worker.restarted()._alerting.is_settled
        assert worker.gate() == problem
    assert requests == {REFRESH: 1}
    with counted(worker.pds) as requests:
        worker.passes(2 * MINUTE)
        assert worker.gate() == problem
    assert requests == {REFRESH: 1}


def test_an_account_that_is_in_use_again_recovers_by_itself(worker: Worker) -> None:
    worker.gate()
    worker.pds.deactivate(worker.account)
    worker.passes(2 * HOUR)
    assert worker.gate() == "account_deactivated"
    worker.pds.reinstate(worker.account)
    worker.passes(11 * MINUTE)
    assert [worker.gate() for _ in range(2)] == ["refreshed", "reused"]


def test_a_refused_write_closes_the_gate_until_a_refresh_succeeds(worker: Worker) -> None:
    worker.gate()
    assert meets(worker, "AccountDeactivated", "Account is deactivated") is AuthProblem.ACCOUNT_DEACTIVATED
    with counted(worker.pds) as requests:
        assert worker.gate() == "account_deactivated"
        worker.authenticator = worker.restarted()
        assert worker.gate() == "account_deactivated"
    assert requests == {}
    worker.passes(11 * MINUTE)
    with counted(worker.pds) as requests:
        assert [worker.gate() for _ in range(2)] == ["refreshed", "reused"]
    assert requests == {REFRESH: 1}


def test_the_first_of_an_incident_stays_its_first(worker: Worker) -> None:
    worker.gate()
    worker.pds.deactivate(worker.account)
    worker.passes(2 * HOUR)
    worker.gate()
    began = worker.authenticator.state.refusal
    worker.passes(11 * MINUTE)
    worker.gate()
    still = worker.authenticator.state.refusal
    assert began is not None
    assert still is not None
    assert (still.first_seen, still.last_seen) == (began.first_seen, worker.time)


def test_a_deactivated_account_that_signs_in_keeps_its_session(worker: Worker) -> None:
    worker.pds.deactivate(worker.account)
    with counted(worker.pds) as requests:
        assert [worker.gate() for _ in range(2)] == ["account_deactivated"] * 2
        worker.pds.reinstate(worker.account)
        worker.passes(11 * MINUTE)
        assert worker.gate() == "refreshed"
    assert requests == {LOGIN: 1, REFRESH: 1}


def test_when_the_days_logins_are_spent_it_says_so_until_there_is_one_again(worker: Worker) -> None:
    worker.authenticator = worker.restarted(policy=LoginPolicy(max_logins_per_day=1))
    worker.gate()
    worker.pds.take_down(worker.account)
    worker.pds.reinstate(worker.account)
    worker.passes(2 * HOUR)
    assert [worker.gate() for _ in range(2)] == ["login_limit_reached"] * 2
    worker.passes(23 * HOUR)
    assert worker.gate() == "logged_in"


def test_two_blocks_with_two_dead_app_passwords_cost_a_login_each_and_no_more(worker: Worker) -> None:
    with counted(worker.pds) as requests:
        for _ in range(4):
            for app_password in ("aaaa-bbbb-cccc-dddd", "eeee-ffff-gggg-hhhh"):
                assert worker.gate(worker.restarted(app_password)) == "app_password_rejected"
            worker.passes(11 * MINUTE)
    assert requests == {LOGIN: 2, RESOLVE: 2, STATUS: 2}


def test_a_mistyped_app_password_that_nobody_uses_any_more_is_over_after_a_while(worker: Worker) -> None:
    worker.gate()
    assert worker.gate(worker.restarted("aaaa-bbbb-cccc-dddd")) == "app_password_rejected"
    for _ in range(5):
        worker.passes(2 * HOUR)
        assert worker.gate() == "refreshed"
    assert worker.authenticator.state.document.refusal is not None
    assert not worker.authenticator.state.document.refusal.is_open


def test_a_refusal_that_only_a_login_ends_is_not_retried_at_each_refresh(worker: Worker) -> None:
    worker.gate()
    assert meets(worker, "InvalidToken", "Bad token scope") is AuthProblem.INSUFFICIENT_SCOPE
    worker.passes(2 * HOUR)
    with counted(worker.pds) as requests:
        assert worker.gate() == "insufficient_scope"
    assert requests == {}
    worker.passes(5 * HOUR)
    assert worker.gate() == "logged_in"
