"""The budget of writes: no window of an hour or a day finds more spent than may be."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_bluesky import SessionStatus, sandbox
from prefect_bluesky.errors import BudgetSpent
from prefect_bluesky.publishing import budget
from prefect_bluesky.publishing.budget import Allowance
from tests.support import WRITE, block, counted
from tests.worker import Worker

HOUR, DAY = 3600, 24 * 3600


def account() -> SessionStatus:
    """A budget of which nothing is spent."""
    return SessionStatus.model_validate(
        {
            "did": f"did:plc:{uuid4().hex[:24]}",
            "handle": "alice.test",
            "pds_url": "https://pds.test",
            "expires_at": "2026-11-22T12:00:00Z",
            "action": "reused",
        }
    )


def spend(of: SessionStatus, points: int) -> None:
    budget.spend(of, points, method=WRITE)


def spend_much(of: SessionStatus) -> int:
    """Spend 300 points as often as they can be had; how often."""
    times = 0
    while True:
        try:
            spend(of, 300)
        except BudgetSpent:
            return times
        times += 1


class TestAllowance:
    """The size of the budget."""

    def test_bluesky_s_limits_leave_a_burst_and_a_steady_stream(self) -> None:
        allowance = Allowance.of(5_000, 35_000)
        assert allowance.capacity // budget.CREATE == 1_231
        assert allowance.per_second * HOUR / budget.CREATE == pytest.approx(434.8, abs=0.1)

    @given(
        st.integers(1_000, 100_000),
        st.integers(1_000, 1_000_000),
        st.lists(st.tuples(st.floats(0, DAY), st.integers(1, 600)), max_size=300),
    )
    def test_whenever_it_is_spent_no_hour_and_no_day_has_too_much(
        self, per_hour: int, per_day: int, wishes: list[tuple[float, int]]
    ) -> None:
        allowance = Allowance.of(per_hour, per_day)
        taken: list[tuple[float, int]] = []
        used = now = 0.0
        for pause, points in wishes:
            # As much as can be had, at moments far apart or close together.
            now += pause / 100
            used = max(0.0, used - pause / 100 * allowance.per_second)
            if used + points <= allowance.capacity:
                used += points
                taken.append((now, points))
        for window, most in ((HOUR, per_hour), (DAY, per_day)):
            for start, _ in taken:
                assert sum(points for at, points in taken if start <= at < start + window) <= most


@pytest.fixture(params=["Prefect", "this process"])
def place(request: pytest.FixtureRequest) -> str:
    """The place of the budget."""
    if request.param == "Prefect":
        request.getfixturevalue("prefect_api")
    return str(request.param)


@pytest.mark.usefixtures("place")
class TestSpending:
    """Return the remaining points."""

    def test_missing_points_are_refused_with_the_time_to_wait(self) -> None:
        alice = account()
        for _ in range(6):
            spend(alice, 600)
        with pytest.raises(BudgetSpent) as spent:
            spend(alice, 600)
        assert spent.value.retryable
        assert spent.value.retry_after is not None
        assert 1_300 < spent.value.retry_after.total_seconds() <= 1_657

    def test_the_remaining_points_can_be_taken(self) -> None:
        alice = account()
        for _ in range(6):
            spend(alice, 600)
        with pytest.raises(BudgetSpent):
            spend(alice, 600)
        spend(alice, 90)

    def test_the_budget_refills_however_often_it_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_POINTS_PER_HOUR", "20000")
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_POINTS_PER_DAY", "1000000")
        alice = account()
        spend(alice, 10_000)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                spend(alice, 3)
                break
            except BudgetSpent:
                time.sleep(0.1)
        assert time.monotonic() < deadline

    def test_each_account_has_its_own(self) -> None:
        spend(account(), 3_600)
        spend(account(), 3_600)


@pytest.mark.slow
def test_all_processes_share_it(prefect_api: str) -> None:
    alice = account()
    workers = [Worker() for _ in range(2)]
    try:
        assert sum(worker.do(spend_much, alice) for worker in workers) == 12
    finally:
        for worker in workers:
            worker.close()


def active_slots(of: SessionStatus) -> int:
    """The points of an account that Prefect counts as taken."""
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(f"bluesky-points-{of.did}").active_slots


def test_points_of_many_accounts_are_taken_together(prefect_api: str) -> None:
    accounts = [account() for _ in range(3)]
    for each in accounts:
        spend(each, 30)
    purses = [budget.Purse(each) for each in accounts]
    budget.reserve_together(purses, 300)
    taken = [active_slots(each) for each in accounts]
    assert all(300 < each <= 330 for each in taken)
    for purse in purses:
        purse.spend(300, method=WRITE)
    # They were taken already.
    assert all(after <= before for before, after in zip(taken, map(active_slots, accounts), strict=True))


def test_what_cannot_be_taken_together_is_taken_when_it_is_spent(prefect_api: str) -> None:
    spent, new = account(), account()
    spend_much(spent)
    purses = [budget.Purse(each) for each in (spent, new)]
    budget.reserve_together(purses, 300)
    with pytest.raises(BudgetSpent):
        purses[0].spend(300, method=WRITE)
    purses[1].spend(300, method=WRITE)
    assert active_slots(new) == 300


def test_where_the_api_fails_the_work_goes_on(prefect_api: str, caplog: pytest.LogCaptureFixture) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        spend(account(), 3)
    assert "Going on without the limit" in caplog.text


def test_a_person_sees_it_in_prefect(prefect_api: str) -> None:
    alice = account()
    spend(alice, 300)
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(f"bluesky-points-{alice.did}")
    assert (limit.limit, limit.active_slots) == (3_695, 300)


def test_a_limit_that_somebody_has_deleted_is_made_again(prefect_api: str) -> None:
    alice = account()
    spend_much(alice)
    name = f"bluesky-points-{alice.did}"
    with get_client(sync_client=True) as client:
        client.delete_global_concurrency_limit_by_name(name)
        spend(alice, 300)
        assert client.read_global_concurrency_limit_by_name(name).active_slots == 300


def test_posts_and_deletions_are_counted(prefect_api: str) -> None:
    with sandbox.run() as pds:
        credentials = block(pds, pds.create_account())
        published = credentials.publish(["one", "two"])
        credentials.delete_post(published)
        did = credentials.ensure_session().did
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(f"bluesky-points-{did}")
    assert 10 <= limit.active_slots <= 12  # two posts at 3, six deletions at 1, less what has run in since


def test_a_backlog_goes_out_as_far_as_the_budget_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_POINTS_PER_HOUR", "1000")
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_POINTS_PER_DAY", "1000")
    with sandbox.run() as pds:
        account = pds.create_account()
        with counted(pds) as requests:
            done = block(pds, account).publish_many([(f"{n}", f"{n}") for n in range(400)])
        posted = len(pds.posts(account))
    assert posted == 166
    assert {type(each).__name__ for each in done[:posted]} == {"PublishedPost"}
    assert {type(each).__name__ for each in done[posted:]} == {"BudgetSpent"}
    assert requests[WRITE] < 12
