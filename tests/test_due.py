"""Planned posts: what goes out at its time, what a person can still change, and what takes over from what died."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Running, Scheduled

from prefect_bluesky import sandbox
from prefect_bluesky.planning.dispatchers import minute_of
from prefect_bluesky.planning.due_posts import read_planned
from prefect_bluesky.planning.sign_of_life import living
from tests.support import (
    LOGIN,
    WRITE,
    SavedAccount,
    artifacts_of,
    block,
    counted,
    planned_deployments,
    run_to_state,
    runs_of,
)
from tests.world import wait_for

pytestmark = pytest.mark.usefixtures("prefect_api")

FLOWS = Path(__file__).parents[1] / "flows"


@pytest.fixture(scope="module")
def publish_due() -> Flow[Any, Any]:
    """The flow as a deployment loads it."""
    return load_flow_from_entrypoint(f"{FLOWS / 'publish_due.py'}:publish_due")


class Plan:
    """Posts that are planned by `publish-batch`, and the runs of `publish-due` for them."""

    def __init__(self, publish_batch: Flow[Any, Any], publish_due: Flow[Any, Any]) -> None:
        self._publish_batch, self._publish_due = publish_batch, publish_due
        self._planned, self._due = planned_deployments()
        self._at = datetime.now(UTC)
        self._before = {run.id for deployment in (self._planned, self._due) for run in runs_of(deployment)}

    def plan(self, *items: dict[str, Any]) -> list[FlowRun]:
        """Plan posts; their runs."""
        self._at = items[0]["at"]
        state = run_to_state(self._publish_batch, items=items)
        assert state.is_completed(), state.message
        return self.runs

    @property
    def runs(self) -> list[FlowRun]:
        """The runs of the planned posts, as they are now."""
        return sorted((run for run in runs_of(self._planned) if run.id not in self._before), key=lambda run: run.name)

    @property
    def dispatchers(self) -> list[FlowRun]:
        """The runs that publish them."""
        return [run for run in self._due_runs if run.parameters.get("due")]

    @property
    def second_looks(self) -> list[FlowRun]:
        """The runs that publish what those leave."""
        return [run for run in self._due_runs if "left" in run.name]

    @property
    def _due_runs(self) -> list[FlowRun]:
        return [run for run in runs_of(self._due) if run.id not in self._before]

    def plan_calendar(self, calendar: Path) -> None:
        """Plan the posts of a calendar."""
        state = run_to_state(self._publish_batch, calendar=str(calendar))
        assert state.is_completed(), state.message

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Do the run for the minute in another thread, and wait for its end."""
        with ThreadPoolExecutor(1) as threads:
            run = threads.submit(copy_context().run, self.publish)
            yield
            assert run.result().is_completed()

    def publish(self) -> State[Any]:
        """Do a run for the minute, as a worker does; the state in which it ends.

        A run of its own, as the minute's may have been made by another test's posts.
        """
        return self._do({"due": f"{minute_of(self._at):%Y-%m-%dT%H:%MZ}"})

    def publish_overdue(self) -> State[Any]:
        """Do a run for what is overdue."""
        return self._do({})

    def _do(self, parameters: dict[str, Any]) -> State[Any]:
        with get_client(sync_client=True) as client:
            run = client.create_flow_run_from_deployment(self._due, parameters=parameters)
        state: Any = run_flow(self._publish_due, run, run.parameters, return_type="state")
        assert isinstance(state, State)
        return state


@pytest.fixture
def plan(prefect_api: str, publish_batch: Flow[Any, Any], publish_due: Flow[Any, Any]) -> Plan:
    return Plan(publish_batch, publish_due)


@pytest.fixture(scope="module")
def writes() -> list[datetime]:
    """When the PDS was written to."""
    return []


@pytest.fixture(scope="module")
def pds(writes: list[datetime]) -> Iterator[sandbox.Sandbox]:
    """A sandbox that notes when it was written to."""

    def note(request: sandbox.Request) -> None:
        if request.nsid == WRITE:
            writes.append(datetime.now(UTC))

    with sandbox.run(on_request=note) as own:
        yield own


def soon(seconds: float = 4) -> datetime:
    """A time in a few seconds, in the minute of no other test's posts."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)


def said(run: FlowRun) -> tuple[str | None, str]:
    """The name of a run's state, and the state's message without the end of a link."""
    message = (run.state and run.state.message) or ""
    return run.state_name, message.partition("/post/")[0]


def test_a_post_that_is_worthless_by_then_is_not_sent(plan: Plan, alice: SavedAccount) -> None:
    at = soon(2)
    plan.plan(alice.item("lunch", at=at, expires=at + timedelta(seconds=1)), alice.item("dinner", at=at))
    wait_for(lambda: datetime.now(UTC) > at + timedelta(seconds=1), "the expiry")
    assert str(plan.publish_overdue().message).startswith("1 expired, 1 published")
    assert alice.texts == ["dinner"]
    assert sorted(str(run.state_name) for run in plan.runs) == ["Completed", "Expired"]


def test_posts_go_out_at_their_time(plan: Plan, alice: SavedAccount, bob: SavedAccount, writes: list[datetime]) -> None:
    at = soon()
    plan.plan(*(each.item(f"{number}", at=at) for number in range(2) for each in (alice, bob)))
    with counted(alice.pds) as requests:
        state = plan.publish()
    assert str(state.message).startswith("4 published")
    assert requests == {LOGIN: 2, WRITE: 2}
    assert alice.texts == bob.texts == ["0", "1"]
    assert all(each >= at for each in writes[-2:])
    published = "Published https://bsky.app/profile/"
    assert {said(run) for run in plan.runs} == {("Completed", published + each.account.handle) for each in (alice, bob)}


@pytest.mark.slow
def test_a_post_states_its_planned_time(plan: Plan, alice: SavedAccount) -> None:
    at = soon(15)
    plan.plan(alice.item("first", at=at), alice.item("second", at=at))
    plan.publish()
    posts = sorted(alice.pds.posts(alice.account), key=lambda post: str(post["value"]["createdAt"]))
    assert [(post["value"]["text"], post["value"]["createdAt"]) for post in posts] == [
        ("first", f"{at:%Y-%m-%dT%H:%M:%S}.000Z"),
        ("second", f"{at:%Y-%m-%dT%H:%M:%S}.001Z"),
    ]


def test_posts_of_one_time_are_due_in_the_order_in_which_they_were_planned(plan: Plan, alice: SavedAccount) -> None:
    at, texts = datetime(2027, 12, 3, 8, tzinfo=UTC), [str(number) for number in range(20)]
    plan.plan(*(alice.item(text, at=at) for text in texts))
    due = read_planned(planned_deployments()[0], after=at, before=at)
    assert [run.parameters["post"]["text"] for run in due] == texts


def test_a_run_is_called_for_what_it_says(plan: Plan, alice: SavedAccount, tmp_path: Path) -> None:
    calendar = tmp_path / "december.yaml"
    text = "Good morning to all of you who read this in the small hours of a cold winter's day"
    calendar.write_text(
        f"timezone: Europe/Berlin\nposts:\n  - {{account: {alice.name}, at: 2027-12-01 08:00, text: {text!r}}}"
    )
    plan.plan_calendar(calendar)
    (run,) = plan.runs
    assert run.name == f"{alice.account.handle} · 1 Dec 08:00 · {text[:59]}…"
    assert {f"bluesky.account.{alice.account.handle}", "bluesky.calendar.december.yaml"} <= set(run.tags)


def in_hours(hours: int) -> datetime:
    """A minute of the next day, whose run is planned at once."""
    return (datetime.now(UTC) + timedelta(hours=hours)).replace(second=0, microsecond=0)


def test_one_run_publishes_all_that_is_due_in_a_minute(plan: Plan, alice: SavedAccount, bob: SavedAccount) -> None:
    minute = in_hours(20)
    plan.plan(alice.item("a", at=minute), bob.item("b", at=minute + timedelta(seconds=59)), alice.item("c", at=minute))
    (run,) = plan.dispatchers
    assert run.name == f"publish what is due at {minute:%Y-%m-%d %H:%M} UTC"
    assert run.expected_start_time == minute - timedelta(minutes=2)


def test_a_second_run_publishes_what_the_first_leaves(plan: Plan, alice: SavedAccount) -> None:
    minute = in_hours(21)
    plan.plan(
        alice.item("a", at=minute), alice.item("b", at=minute), alice.item("c", at=minute + timedelta(seconds=59))
    )
    assert {(run.name, tuple(run.parameters)) for run in plan.second_looks} == {
        (f"publish what is left of {minute:%Y-%m-%d %H:%M} UTC", ())
    }
    seconds = [run.expected_start_time and (run.expected_start_time - minute).seconds for run in plan.second_looks]
    assert seconds == [45, 105]


def test_a_run_that_ends_calls_the_second_off(plan: Plan, alice: SavedAccount) -> None:
    plan.plan(alice.item("a", at=soon()))
    plan.publish()
    assert not plan.second_looks


@pytest.fixture(scope="module")
def changed(
    no_prefect_api: None,
    prefect_server: str,
    pds: sandbox.Sandbox,
    publish_batch: Flow[Any, Any],
    publish_due: Flow[Any, Any],
) -> dict[str, tuple[list[str], str | None]]:
    """What a person changes while the run that is to publish it waits: the texts that go out, and the runs' states."""
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        plan = Plan(publish_batch, publish_due)
        # So late that a busy machine has made all changes by then.
        at = soon(40)
        names = ("left", "cancelled", "deleted", "changed", "moved", "added")
        accounts = {name: SavedAccount(pds) for name in names}
        plan.plan(*(accounts[name].item(name, at=at) for name in names[:-1]))
        with plan.publishing(), get_client(sync_client=True) as client:
            wait_for(lambda: living([run.id for run in plan.dispatchers], datetime.now(UTC)), "a sign of life")
            runs = {run.parameters["post"]["text"]: run for run in plan.runs}
            client.set_flow_run_state(runs["cancelled"].id, Cancelled(), force=True)
            client.delete_flow_run(runs["deleted"].id)
            post = {"post": {"text": "changed by a person"}}
            client.update_flow_run(runs["changed"].id, parameters=runs["changed"].parameters | post)
            later: State[Any] = Scheduled(scheduled_time=at + timedelta(days=1))
            client.set_flow_run_state(runs["moved"].id, later, force=True)
            plan.plan(accounts["added"].item("added", at=at))
            assert datetime.now(UTC) < at, "the machine was too busy to make the changes before the time"
        states = {run.parameters["post"]["text"].split()[0]: run.state_name for run in plan.runs}
        return {name: (each.texts, states.get(name)) for name, each in accounts.items()}


CHANGED: dict[str, tuple[list[str], str | None]] = {
    "left": (["left"], "Completed"),
    "cancelled": ([], "Cancelled"),
    "deleted": ([], None),
    "changed": (["changed by a person"], "Completed"),
    "moved": ([], "Scheduled"),
    "added": (["added"], "Completed"),
}


class TestChanges:
    """What a person changes before the time, and after it."""

    @pytest.mark.slow
    @pytest.mark.parametrize("what", CHANGED)
    def test_what_a_person_changes_is_what_goes_out(
        self, what: str, changed: dict[str, tuple[list[str], str | None]]
    ) -> None:
        assert changed[what] == CHANGED[what]

    def test_what_is_planned_after_the_run_has_ended_gets_another_run(self, plan: Plan, alice: SavedAccount) -> None:
        at = soon().replace(second=0) + timedelta(hours=1)
        plan.plan(alice.item("first", at=at))
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(plan.dispatchers[0].id, Cancelled(), force=True)
        plan.plan(alice.item("second", at=at + timedelta(seconds=30)))
        assert len(plan.dispatchers) == 2

    def test_a_time_in_the_past_goes_out_at_once_and_says_so(self, plan: Plan, alice: SavedAccount) -> None:
        (run,) = plan.plan(alice.item("moved", at=datetime(2027, 12, 1, 8, tzinfo=UTC)))
        with get_client(sync_client=True) as client:
            past = datetime.now(UTC) - timedelta(minutes=7)
            client.set_flow_run_state(run.id, Scheduled(scheduled_time=past), force=True)
        assert str(plan.publish_overdue().message).endswith("published, the last 7 min late.")
        assert alice.texts == ["moved"]
        state = plan.runs[0].state
        assert state is not None
        assert str(state.message).endswith(" 7 min late")


UNUSABLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "a text that is too long": ({"post": {"text": "x" * 301}}, "Failed", "post: text"),
    "no post": ({"post": None}, "Failed", "post: "),
    "an unknown field": ({"post": {"text": "x", "colour": "red"}}, "Failed", "post: colour"),
    "a key that cannot be printed": ({"key": "a\nb"}, "Failed", "key: "),
    "a preview": ({"dry_run": True}, "Failed", "dry_run: "),
    "no account": ({"credentials": None}, "Held", "The block cannot be used: "),
}


@pytest.mark.parametrize(("changed", "state", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_run_that_cannot_be_published_ends_alone(
    plan: Plan, alice: SavedAccount, changed: dict[str, Any], state: str, message: str
) -> None:
    runs = plan.plan(*(alice.item(text, at=soon()) for text in ("changed", "good")))
    with get_client(sync_client=True) as client:
        client.update_flow_run(runs[0].id, parameters=runs[0].parameters | changed)
    plan.publish()
    assert alice.texts == ["good"]
    ended = plan.runs[0]
    assert ended.state is not None
    assert ended.state.name == state
    assert str(ended.state.message).startswith(message)
    pages = [str(page.data) for page in artifacts_of(ended.id)]
    assert ["Correct the account's block." in page for page in pages] == ([True] if state == "Held" else [])


def test_a_dead_account_is_held_and_the_others_are_on_time(
    plan: Plan, alice: SavedAccount, bob: SavedAccount, publish_held: Flow[Any, Any]
) -> None:
    alice.pds.revoke_app_password(alice.account)
    plan.plan(*(each.item("Hello", at=soon()) for each in (alice, bob)))
    assert str(plan.publish().message).startswith("1 held, 1 published")
    assert (alice.texts, bob.texts) == ([], ["Hello"])
    held = next(run for run in plan.runs if run.state_name == "Held")
    (page,) = artifacts_of(held.id)
    assert "app password" in str(page.data)
    assert f"bluesky.account.{alice.account.handle}" in held.tags
    new = alice.pds.create_app_password(alice.account, "new")
    block(alice.pds, alice.account, app_password=new).save(alice.name, overwrite=True)
    run_to_state(publish_held)
    assert alice.texts == ["Hello"]


@pytest.mark.slow
class TestTwoAtOnce:
    """Runs of `publish-due` that know of each other, or do not."""

    def test_each_post_goes_out_once(self, plan: Plan, alice: SavedAccount, bob: SavedAccount) -> None:
        at = soon(5)
        plan.plan(*(each.item(f"{number}", at=at) for number in range(3) for each in (alice, bob)))
        with ThreadPoolExecutor() as threads:
            both = [threads.submit(copy_context().run, plan.publish) for _ in range(2)]
            assert all(each.result().is_completed() for each in both)
        assert alice.texts == bob.texts == ["0", "1", "2"]
        assert {run.state_name for run in plan.runs} == {"Completed"}

    def test_what_a_living_run_is_about_to_publish_is_left_to_it(
        self, plan: Plan, alice: SavedAccount, pds: sandbox.Sandbox, writes: list[datetime]
    ) -> None:
        pds.fail(WRITE, 429, headers={"retry-after": "5"})
        plan.plan(alice.item("once", at=soon()))
        before = len(writes)
        with plan.publishing():
            wait_for(lambda: len(writes) > before, "the first attempt")
            plan.publish_overdue()
        assert alice.texts == ["once"]

    def test_a_run_that_died_before_its_minute_is_replaced(self, plan: Plan, alice: SavedAccount) -> None:
        # So late that the minute is no other test's.
        plan.plan(alice.item("Hello", at=soon(110)))
        (dead,) = plan.dispatchers
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(dead.id, Running(), force=True)
            plan.publish_overdue()
            for run in plan.runs:
                client.delete_flow_run(run.id)
        assert [run.parameters for run in plan.dispatchers] == [dead.parameters] * 2

    def test_parts_whose_runs_do_not_begin_are_taken_over(
        self, plan: Plan, monkeypatch: pytest.MonkeyPatch, pds: sandbox.Sandbox
    ) -> None:
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_ACCOUNTS_PER_RUN", "2")
        accounts = [SavedAccount(pds) for _ in range(5)]
        plan.plan(*(each.item("Hello", at=soon(15)) for each in accounts))
        assert str(plan.publish().message).startswith("5 published")
        assert [each.texts for each in accounts] == [["Hello"]] * 5
        assert [run.state_name for run in plan.dispatchers if "part" in run.name] == ["Cancelled"] * 2
