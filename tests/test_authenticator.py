"""Reuse, else refresh, else log in: what a contract test cannot cause, on the sandbox with its faults and clocks."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from prefect_bluesky import AuthError, AuthProblem, sandbox
from prefect_bluesky.errors import (
    RateLimited,
    ServiceUnavailable,
    StoreConflict,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from prefect_bluesky.sessions.policy import LoginPolicy
from tests.session_worker import MINUTE, FailingStore, Worker
from tests.support import EVIDENCE, LOGIN, REFRESH, counted


@pytest.fixture
def pds() -> Iterator[sandbox.Sandbox]:
    """A sandbox of the test's own: its clock may be moved."""
    with sandbox.run() as own:
        yield own


@pytest.fixture
def worker(pds: sandbox.Sandbox) -> Worker:
    """A worker with an account that has signed in."""
    worker = Worker(pds, FailingStore())
    worker.authenticator.ensure()
    return worker


class TestTime:
    """The moments at which a session is renewed."""

    def test_in_its_first_two_thirds_a_session_is_reused(self, worker: Worker) -> None:
        worker.passes(79 * MINUTE)
        assert worker.authenticator.ensure().action == "reused"

    def test_with_less_than_the_wanted_validity_left_it_is_refreshed(self, worker: Worker) -> None:
        worker.passes(111 * MINUTE)
        assert worker.authenticator.ensure().action == "refreshed"

    def test_workers_refresh_at_different_points_of_the_last_third(self, worker: Worker) -> None:
        points = []
        for _ in range(30):
            other = worker.restarted()
            other.ensure()
            points.append(other.state.refresh_at - worker.time)
        assert 80 * MINUTE <= min(points) < max(points) <= 120 * MINUTE
        assert len(set(points)) == 30

    def test_a_demand_may_be_stricter_than_the_setting(self, worker: Worker) -> None:
        worker.passes(30 * MINUTE)
        assert worker.authenticator.ensure(100 * MINUTE).action == "refreshed"

    def test_a_demand_beyond_the_tokens_life_does_not_refresh_at_every_gate(self, worker: Worker) -> None:
        assert [worker.authenticator.ensure(timedelta(days=1)).action for _ in range(3)] == ["reused"] * 3

    def test_tokens_that_live_shorter_than_the_setting_are_reused_too(self) -> None:
        with sandbox.run(access_lifetime=MINUTE) as pds:
            worker = Worker(pds, FailingStore())
            assert [worker.authenticator.ensure().action for _ in range(3)] == ["logged_in", "reused", "reused"]

    @pytest.mark.parametrize("drift", [timedelta(hours=-3), timedelta(hours=3)])
    def test_a_clock_that_is_wrong_all_along_changes_nothing(self, pds: sandbox.Sandbox, drift: timedelta) -> None:
        worker = Worker(pds, FailingStore())
        worker.time += drift
        assert worker.authenticator.ensure().action == "logged_in"
        assert worker.authenticator.ensure().action == "reused"
        worker.passes(111 * MINUTE)
        assert worker.authenticator.ensure().action == "refreshed"

    def test_after_ninety_days_of_silence_the_account_signs_in_anew(self, worker: Worker) -> None:
        worker.passes(timedelta(days=91))
        with counted(worker.pds) as requests:
            assert worker.authenticator.ensure().action == "logged_in"
        assert requests == {REFRESH: 1, LOGIN: 1}


class TestTrouble:
    """Network trouble, 5xx and 429 never condemn a credential."""

    @pytest.mark.parametrize("status", [403, 404, 408, 429, 500, 502, 503])
    def test_a_refresh_ahead_of_time_can_wait(self, worker: Worker, status: int) -> None:
        worker.passes(111 * MINUTE)
        worker.pds.fail(REFRESH, status=status)
        with counted(worker.pds) as requests:
            assert [worker.authenticator.ensure().action for _ in range(5)] == ["reused"] * 5
        assert requests == {REFRESH: 1}
        worker.passes(MINUTE)
        assert worker.authenticator.ensure().action == "refreshed"

    @pytest.mark.parametrize(("status", "error"), [(503, ServiceUnavailable), (429, RateLimited)])
    def test_a_refresh_that_is_needed_now_says_that_it_may_be_tried_again(
        self, worker: Worker, status: int, error: type[Exception]
    ) -> None:
        worker.passes(timedelta(hours=3))
        worker.pds.fail(REFRESH, status=status)
        with counted(worker.pds) as requests, pytest.raises(error) as trouble:
            worker.authenticator.ensure()
        assert trouble.value.retryable  # type: ignore[attr-defined]
        assert requests == {REFRESH: 1}
        assert worker.authenticator.ensure().action == "refreshed"

    @pytest.mark.parametrize("is_restarted", [False, True])
    @pytest.mark.parametrize(("status", "error"), [(502, ServiceUnavailable), (429, RateLimited)])
    def test_a_login_that_meets_trouble_does_not_blame_the_app_password(
        self, pds: sandbox.Sandbox, status: int, error: type[Exception], is_restarted: bool
    ) -> None:
        worker = Worker(pds, FailingStore())
        pds.fail(LOGIN, status=status)
        with pytest.raises(error):
            worker.authenticator.ensure()
        assert worker.gate(worker.restarted() if is_restarted else None) == "logged_in"

    def test_a_refresh_whose_answer_is_lost_is_asked_again(self, worker: Worker) -> None:
        worker.passes(timedelta(hours=3))
        worker.pds.drop(REFRESH)
        with pytest.raises(ServiceUnavailable):
            worker.authenticator.ensure()
        with counted(worker.pds) as requests:
            assert worker.authenticator.ensure().action == "refreshed"
        assert requests == {REFRESH: 1}

    def test_a_sign_in_code_is_named(self, pds: sandbox.Sandbox) -> None:
        worker = Worker(pds, FailingStore())
        pds.fail(LOGIN, status=401, error="AuthFactorTokenRequired", message="A sign in code has been sent")
        with pytest.raises(AuthError) as failure:
            worker.authenticator.ensure()
        assert failure.value.problem is AuthProblem.SIGN_IN_CODE_REQUIRED

    def test_a_refresh_that_answers_for_another_account_is_not_accepted(self, worker: Worker) -> None:
        foreign = Worker(worker.pds, FailingStore())
        foreign.authenticator.ensure()
        mixed = replace(worker.authenticator.session(), refresh_token=foreign.authenticator.session().refresh_token)
        worker.store.put(mixed)
        worker.passes(111 * MINUTE)
        with pytest.raises(AuthError) as failure:
            worker.restarted().ensure()
        assert failure.value.problem is AuthProblem.WRONG_ACCOUNT


class TestStore:
    """The store under trouble."""

    def test_an_expired_session_in_the_store_is_refreshed_and_not_replayed_with(self, worker: Worker) -> None:
        refused = worker.authenticator.session()
        worker.passes(timedelta(hours=3))
        worker.store.put(replace(refused, access_token=worker.pds.mint(worker.account, "access")))
        with counted(worker.pds) as requests:
            worker.authenticator.recover(refused)
        assert requests == {REFRESH: 1}

    def test_each_app_password_of_an_account_keeps_a_session(self, worker: Worker) -> None:
        other = worker.pds.create_app_password(worker.account, "other")
        actions = [worker.gate(worker.restarted(each)) for _ in range(3) for each in (None, other)]
        assert actions == ["reused", "logged_in", *["reused"] * 4]

    def test_each_app_password_refreshes_its_own_session(self, worker: Worker) -> None:
        other = worker.pds.create_app_password(worker.account, "other")
        for each in (None, other):
            worker.gate(worker.restarted(each))
        worker.passes(timedelta(hours=3))
        actions = [worker.gate(worker.restarted(each)) for _ in range(2) for each in (None, other)]
        assert actions == ["refreshed", "refreshed", "reused", "reused"]

    def test_a_refused_app_password_leaves_the_session_of_the_other(self, worker: Worker) -> None:
        worker.gate()
        assert worker.gate(worker.restarted("aaaa-bbbb-cccc-dddd")) == "app_password_rejected"
        assert worker.gate(worker.restarted()) == "reused"

    def test_once_read_the_store_is_not_asked_again(self, worker: Worker) -> None:
        other = worker.restarted()
        worker.store.calls.clear()
        for _ in range(3):
            other.ensure()
        assert worker.store.calls == ["load"]

    @pytest.mark.parametrize("trouble", [StoreUnavailable, StoreDamaged])
    def test_a_store_that_cannot_be_read_costs_no_login(self, pds: sandbox.Sandbox, trouble: type[StoreError]) -> None:
        worker = Worker(pds, FailingStore(load_trouble=trouble("the store", "gone")))
        with counted(pds) as requests, pytest.raises(trouble):
            worker.authenticator.ensure()
        assert requests == {}
        assert worker.store.calls == ["load"]

    def test_publishing_goes_on_when_saving_fails_and_is_tried_again(self, worker: Worker) -> None:
        worker.store.save_trouble = StoreUnavailable("the store", "gone")
        worker.passes(111 * MINUTE)
        assert worker.authenticator.ensure().action == "refreshed"
        assert worker.authenticator.ensure().action == "reused"
        worker.store.save_trouble = None
        worker.passes(MINUTE)
        with counted(worker.pds) as requests:
            assert worker.authenticator.ensure().action == "reused"
        assert requests == {}
        assert worker.store.saved is not None
        assert worker.store.saved.document.session == worker.authenticator.session()

    def test_a_worker_that_died_before_saving_is_survived_by_the_older_refresh_token(self, worker: Worker) -> None:
        before = worker.store.saved
        worker.passes(111 * MINUTE)
        worker.authenticator.ensure()
        worker.store.saved = before
        with counted(worker.pds) as requests:
            assert worker.restarted().ensure().action == "refreshed"
        assert requests == {REFRESH: 1}

    @pytest.mark.parametrize("trouble", [StoreUnavailable, StoreDamaged, StoreDenied])
    def test_with_a_session_in_hand_a_refresh_does_not_wait_for_the_store(
        self, worker: Worker, trouble: type[StoreError]
    ) -> None:
        worker.store.load_trouble = trouble("the store", "gone")
        worker.passes(111 * MINUTE)
        assert worker.authenticator.ensure().action == "refreshed"

    def test_a_session_that_another_worker_renewed_is_adopted(self, worker: Worker) -> None:
        other = worker.restarted()
        other.ensure()
        worker.passes(111 * MINUTE)
        assert worker.authenticator.ensure().action == "refreshed"
        with counted(worker.pds) as requests:
            assert other.ensure().action == "reused"
        assert requests == {}

    def test_the_slower_of_two_saves_adopts_the_winners_session(self, worker: Worker) -> None:
        worker.passes(111 * MINUTE)
        faster = Worker(worker.pds, FailingStore(saved=worker.store.saved), worker.account)
        faster.time = worker.time
        faster.authenticator.ensure()
        worker.store.overtaken_by = faster.store.saved
        worker.authenticator.ensure()
        assert worker.authenticator.session() == faster.authenticator.session()


class TestLogins:
    """Logins are scarce, and a refused one is not repeated."""

    def test_a_refused_app_password_is_asked_about_once_however_many_gates_come(self, pds: sandbox.Sandbox) -> None:
        worker = Worker(pds, FailingStore())
        pds.revoke_app_password(worker.account)
        with counted(pds) as requests:
            for gate in [worker.authenticator.ensure] * 5 + [worker.restarted().ensure for _ in range(5)]:
                with pytest.raises(AuthError) as failure:
                    gate()
                assert failure.value.problem is AuthProblem.APP_PASSWORD_REJECTED
        assert requests == {LOGIN: 1, **EVIDENCE}

    def test_a_session_whose_app_password_was_refused_since_is_not_used(self, worker: Worker) -> None:
        worker.pds.revoke_app_password(worker.account)
        with pytest.raises(AuthError):
            worker.authenticator.recover(worker.authenticator.session())
        with counted(worker.pds) as requests, pytest.raises(AuthError):
            worker.restarted().ensure()
        assert requests == {}

    def test_after_the_cool_down_it_is_asked_about_once_more(self, pds: sandbox.Sandbox) -> None:
        worker = Worker(pds, FailingStore())
        pds.revoke_app_password(worker.account)
        for expected in ({LOGIN: 1, **EVIDENCE}, {}):
            with counted(pds) as requests, pytest.raises(AuthError):
                worker.authenticator.ensure()
            assert requests == expected
        worker.passes(timedelta(hours=6))
        with counted(pds) as requests, pytest.raises(AuthError):
            worker.authenticator.ensure()
        assert requests == {LOGIN: 1, **EVIDENCE}

    def test_another_app_password_heals_it_with_nothing_to_reset(self, pds: sandbox.Sandbox) -> None:
        worker = Worker(pds, FailingStore())
        pds.revoke_app_password(worker.account)
        with pytest.raises(AuthError):
            worker.authenticator.ensure()
        healed = worker.restarted(pds.create_app_password(worker.account, "new"))
        assert healed.ensure().action == "logged_in"

    def test_a_wrong_app_password_does_not_disturb_the_right_one(self, worker: Worker) -> None:
        wrong = worker.restarted("aaaa-bbbb-cccc-dddd")
        with counted(worker.pds) as requests:
            for _ in range(3):
                with pytest.raises(AuthError):
                    wrong.ensure()
            assert worker.restarted().ensure().action == "reused"
            worker.passes(111 * MINUTE)
            assert worker.authenticator.ensure().action == "refreshed"
            with pytest.raises(AuthError):
                worker.restarted("aaaa-bbbb-cccc-dddd").ensure()
        assert requests == {LOGIN: 1, REFRESH: 1, **EVIDENCE}

    def test_the_days_logins_are_counted_across_workers(self, pds: sandbox.Sandbox) -> None:
        worker = Worker(pds, FailingStore())
        policy = LoginPolicy(max_logins_per_day=3)
        for _ in range(3):
            pds.fail(LOGIN, status=502)
            with pytest.raises(ServiceUnavailable):
                worker.restarted(policy=policy).ensure()
        with counted(pds) as requests, pytest.raises(AuthError) as failure:
            worker.restarted(policy=policy).ensure()
        assert failure.value.problem is AuthProblem.LOGIN_LIMIT_REACHED
        assert requests == {}
        worker.passes(timedelta(days=1))
        assert worker.restarted(policy=policy).ensure().action == "logged_in"

    def test_a_login_that_reached_nobody_is_not_counted(self, pds: sandbox.Sandbox) -> None:
        worker = Worker(pds, FailingStore())
        policy = LoginPolicy(max_logins_per_day=3)
        for _ in range(5):
            with pytest.raises(ServiceUnavailable):
                worker.restarted(policy=policy, service_url="http://127.0.0.1:1").ensure()
        assert worker.restarted(policy=policy).ensure().action == "logged_in"

    def test_a_login_that_cannot_be_counted_is_not_sent(self, pds: sandbox.Sandbox) -> None:
        worker = Worker(pds, FailingStore(save_trouble=StoreUnavailable("the store", "gone")))
        with counted(pds) as requests, pytest.raises(StoreUnavailable):
            worker.authenticator.ensure()
        assert requests == {}

    def test_a_login_that_another_worker_made_meanwhile_is_not_repeated(self, pds: sandbox.Sandbox) -> None:
        faster = Worker(pds, FailingStore())
        faster.authenticator.ensure()
        slower = Worker(pds, FailingStore(overtaken_by=faster.store.saved), faster.account)
        with counted(pds) as requests:
            assert slower.authenticator.ensure().action == "reused"
        assert requests == {}

    def test_a_store_that_always_says_overtaken_is_not_asked_for_ever(self, pds: sandbox.Sandbox) -> None:
        worker = Worker(pds, FailingStore(save_trouble=StoreConflict("the store", "overtaken")))
        with counted(pds) as requests, pytest.raises(StoreConflict) as conflict:
            worker.authenticator.ensure()
        assert conflict.value.retryable
        assert worker.store.calls.count("save") == 3
        assert requests == {}


def test_many_threads_that_start_together_share_one_login(pds: sandbox.Sandbox) -> None:
    worker = Worker(pds, FailingStore())
    with counted(pds) as requests, ThreadPoolExecutor(16) as threads:
        actions = list(threads.map(lambda _: worker.authenticator.ensure().action, range(16)))
    assert requests == {LOGIN: 1}
    assert sorted(actions) == ["logged_in"] + ["reused"] * 15


def test_no_form_of_it_shows_a_secret(worker: Worker) -> None:
    shown = f"{worker.authenticator!r} {worker.authenticator}"
    assert worker.account.handle in shown
    assert worker.account.app_password not in shown
    assert "eyJ" not in shown
