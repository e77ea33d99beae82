"""Posts that wait for their account: how they are held, and how they go out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events import ResourceSpecification
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.flow_engine import run_flow
from prefect.flows import Flow

from prefect_bluesky import AuthError, BlueskyCredentials, Post, hold, publish_post, sandbox
from prefect_bluesky.held import held_runs
from tests.support import LOGIN, WRITE, block, counted, forget_processes_memory
from tests.world import wait_for

pytestmark = pytest.mark.usefixtures("prefect_api")

FLOWS = Path(__file__).parents[1] / "flows"


@pytest.fixture(scope="module")
def pds() -> Iterator[sandbox.Sandbox]:
    """A sandbox whose accounts are this module's."""
    with sandbox.run() as own:
        yield own


class Stopped:
    """An account whose app password is dead, with its saved block."""

    def __init__(self, pds: sandbox.Sandbox) -> None:
        self.pds = pds
        self.account = pds.create_account()
        self.name = f"account-{uuid4().hex[:8]}"
        block(pds, self.account).save(self.name)
        pds.revoke_app_password(self.account)

    @property
    def credentials(self) -> BlueskyCredentials:
        """Its block, as a flow loads it."""
        loaded = BlueskyCredentials.load(self.name)
        assert isinstance(loaded, BlueskyCredentials)
        return loaded

    def hold(self, publish: Flow[Any, Any], *posts: Post, **parameters: Any) -> list[UUID]:
        """Let runs of `publish` end held; their ids."""
        held: list[Any] = [publish(self.credentials, post, return_state=True, **parameters) for post in posts]
        assert [state.name for state in held] == ["Held"] * len(posts)
        return [run for state in held if (run := state.state_details.flow_run_id)]

    def mend(self) -> None:
        """Put a new app password into the block."""
        new = self.pds.create_app_password(self.account, uuid4().hex)
        block(self.pds, self.account, app_password=new).save(self.name, overwrite=True)

    def posts(self) -> list[str]:
        """What it has posted, as a feed shows it, the oldest first."""
        posts = sorted(self.pds.posts(self.account), key=lambda post: post["value"]["createdAt"])
        return [post["value"]["text"] for post in posts]


@pytest.fixture
def stopped(pds: sandbox.Sandbox) -> Stopped:
    return Stopped(pds)


def runs(ids: list[UUID]) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return [client.read_flow_run(each) for each in ids]


def states(ids: list[UUID]) -> list[str | None]:
    return [run.state_name for run in runs(ids)]


def set_held(run: UUID) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, State(type=StateType.FAILED, name="Held"), force=True)


class TestHolding:
    """What a run becomes whose account cannot sign in."""

    def test_it_ends_in_a_state_that_says_why_and_what_to_do(self, stopped: Stopped, publish: Any) -> None:
        with counted(stopped.pds) as requests:
            first, *others = stopped.hold(publish, *[Post(text=f"post {number}") for number in range(4)])
        (run,) = runs([first])
        assert run.state is not None
        assert run.state.type is StateType.FAILED
        assert (run.state.message or "").startswith(f"{stopped.account.handle}: The server does not accept")
        assert "Create a new app password" in (run.state.message or "")
        assert requests == {LOGIN: 1}
        assert states(others) == ["Held"] * 3

    def test_its_error_reaches_whoever_waits_for_it(self, stopped: Stopped, publish: Any) -> None:
        with pytest.raises(AuthError, match="app_password_rejected"):
            publish(stopped.credentials, Post(text="to whom it may concern"))

    def test_it_is_found_by_its_account(self, stopped: Stopped, publish: Any) -> None:
        held = stopped.hold(publish, Post(text="mine"))
        assert [run.id for run in held_runs(stopped.account.handle)] == held
        assert held[0] in {run.id for run in held_runs()}
        assert list(held_runs("nobody.test")) == []

    def test_prefect_hears_of_it(self, stopped: Stopped, publish: Any) -> None:
        stopped.hold(publish, Post(text="heard"))
        about = EventResourceFilter(labels=ResourceSpecification({"handle": stopped.account.handle}))
        wanted = EventFilter(event=EventNameFilter(name=["bluesky.post.held"]), resource=about)
        with get_client(sync_client=True) as client:
            wait_for(lambda: client.read_events(wanted, limit=50).events, patience=120)
            (event,) = client.read_events(wanted, limit=50).events
        assert event.payload == {"account": stopped.account.handle, "problem": "app_password_rejected"}

    def test_a_preview_is_not_held(self, stopped: Stopped, publish: Any) -> None:
        state = publish(stopped.credentials, Post(text="only to look at"), dry_run=True, return_state=True)
        assert (state.name, state.type) == ("Failed", StateType.FAILED)

    @pytest.mark.parametrize(("status", "writes"), [(429, 4), (503, 8)])
    def test_what_passes_later_than_a_run_waits_is_held(
        self, publish: Any, publish_held: Any, monkeypatch: pytest.MonkeyPatch, status: int, writes: int
    ) -> None:
        monkeypatch.setattr(publish_post, "retry_delay_seconds", [0.0])
        with sandbox.run() as failing:
            account = failing.create_account()
            credentials = block(failing, account)
            name = f"account-{uuid4().hex[:8]}"
            credentials.save(name)
            credentials.ensure_session()
            failing.fail(WRITE, status=status, times=writes)
            run = publish(BlueskyCredentials.load(name), Post(text="later"), return_state=True)
            assert run.name == "Held"
            publish_held(account.handle)
            assert [post["value"]["text"] for post in failing.posts(account)] == ["later"]
        assert states([run.state_details.flow_run_id]) == ["Completed"]

    def test_what_no_waiting_mends_is_not_held(self, pds: sandbox.Sandbox, publish: Any) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        credentials.ensure_session()
        credentials.publish("something else", key="taken")
        state = publish(credentials, Post(text="another"), key="taken", return_state=True)
        assert state.name == "Failed"


class TestSending:
    """What happens to held posts."""

    def test_they_stay_held_as_long_as_the_account_cannot_sign_in(
        self, stopped: Stopped, publish: Any, publish_held: Any
    ) -> None:
        held = stopped.hold(publish, Post(text="one"), Post(text="two"))
        with counted(stopped.pds) as requests:
            state = publish_held(stopped.account.handle, return_state=True)
        assert (state.name, state.message) == ("Completed", "2 held")
        assert states(held) == ["Held", "Held"]
        assert requests == {}

    def test_they_go_out_once_and_oldest_first(self, stopped: Stopped, publish: Any, publish_held: Any) -> None:
        held = stopped.hold(publish, *[Post(text=f"post {number}") for number in range(5)])
        stopped.mend()
        for _ in range(2):
            publish_held(stopped.account.handle)
        assert stopped.posts() == [f"post {number}" for number in range(5)]
        assert states(held) == ["Completed"] * 5
        assert "https://bsky.app/profile/" in (runs(held)[0].state or State(type="FAILED")).message  # type: ignore[operator]

    def test_one_that_was_out_already_is_found_and_not_sent_again(
        self, stopped: Stopped, publish: Any, publish_held: Any
    ) -> None:
        stopped.mend()
        run = publish(stopped.credentials, Post(text="out"), return_state=True).state_details.flow_run_id
        set_held(run)
        publish_held()
        assert stopped.posts() == ["out"]
        assert states([run]) == ["Completed"]

    def test_one_with_a_key_of_its_own_keeps_it(self, stopped: Stopped, publish: Any, publish_held: Any) -> None:
        stopped.hold(publish, Post(text="keyed"), key="my key")
        stopped.mend()
        publish_held(stopped.account.handle)
        stopped.credentials.publish("keyed", key="my key")
        assert stopped.posts() == ["keyed"]

    def test_a_run_of_publish_held_that_was_killed_leaves_the_rest_to_the_next(
        self, stopped: Stopped, publish: Any, publish_held: Any
    ) -> None:
        """It was killed between the write and the word that it is done: the run is held still."""
        held = stopped.hold(publish, Post(text="one"), Post(text="two"))
        stopped.mend()
        publish_held(stopped.account.handle)
        set_held(held[0])
        publish_held(stopped.account.handle)
        assert stopped.posts() == ["one", "two"]
        assert states(held) == ["Completed", "Completed"]

    def test_one_that_cannot_be_published_fails_and_stops_no_other(
        self, stopped: Stopped, publish: Any, publish_held: Any
    ) -> None:
        held = stopped.hold(publish, Post(text="one"), Post(text="two", images=["/nowhere.png"]), Post(text="three"))
        stopped.mend()
        state = publish_held(stopped.account.handle, return_state=True)
        assert stopped.posts() == ["one", "three"]
        assert states(held) == ["Completed", "Failed", "Completed"]
        assert "/nowhere.png" in (runs(held)[1].state or State(type="FAILED")).message  # type: ignore[operator]
        assert (state.name, state.message) == ("Failed", "1 failed, 2 published")

    def test_while_the_server_is_away_the_later_ones_wait_for_the_earlier(
        self, stopped: Stopped, publish: Any, publish_held: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publish_post, "retry_delay_seconds", [0.0])
        held = stopped.hold(publish, Post(text="one"), Post(text="two"))
        stopped.mend()
        stopped.pds.fail("com.atproto.repo.applyWrites", status=503, times=8)
        publish_held(stopped.account.handle)
        assert states(held) == ["Held", "Held"]
        publish_held(stopped.account.handle)
        assert stopped.posts() == ["one", "two"]

    def test_one_account_does_not_wait_for_another(self, pds: sandbox.Sandbox, publish: Any, publish_held: Any) -> None:
        dead, mended = Stopped(pds), Stopped(pds)
        dead.hold(publish, Post(text="waits"))
        mended.hold(publish, Post(text="goes out"))
        mended.mend()
        publish_held()
        assert (dead.posts(), mended.posts()) == ([], ["goes out"])

    def test_a_preview_that_was_held_with_its_worker_is_not_sent(
        self, stopped: Stopped, publish: Any, publish_held: Any
    ) -> None:
        stopped.mend()
        preview = publish(stopped.credentials, Post(text="look"), dry_run=True, return_state=True)
        set_held(preview.state_details.flow_run_id)
        publish_held(return_state=True)
        assert stopped.posts() == []
        assert states([preview.state_details.flow_run_id]) == ["Failed"]

    def test_a_thread_goes_out_whole(self, stopped: Stopped, publish: Any, publish_held: Any) -> None:
        stopped.hold(publish, Post(text="first", thread=["second", "third"]))
        stopped.mend()
        publish_held(stopped.account.handle)
        assert stopped.posts() == ["first", "second", "third"]

    def test_a_flow_of_somebody_s_own_is_started_again(
        self, stopped: Stopped, publish_held: Any, prefect_api: str
    ) -> None:
        @flow
        def announce(account: str) -> Any:
            credentials = stopped.credentials
            try:
                return publish_post(credentials, f"by {account}")
            except AuthError as error:
                return hold(error, credentials)

        with get_client(sync_client=True) as client:
            flow_id = client.create_flow(announce)
            deployment = client.create_deployment(flow_id, f"announce-{uuid4().hex[:8]}", paused=True)
            run = client.create_flow_run_from_deployment(deployment, parameters={"account": "me"})
        state = run_flow(announce, run, {"account": "me"}, return_type="state")
        assert isinstance(state, State)
        assert state.name == "Held"
        publish_held(stopped.account.handle)
        assert states([run.id]) == ["Held"]
        stopped.mend()
        publish_held(stopped.account.handle)
        assert states([run.id]) == ["Scheduled"]
        forget_processes_memory()
        run_flow(announce, runs([run.id])[0], {"account": "me"})
        assert stopped.posts() == ["by me"]

    @pytest.mark.parametrize(("starts", "then"), [(5, "Scheduled"), (6, "Held")])
    def test_a_batch_whose_worker_died_is_started_again_but_not_for_ever(
        self, publish_held: Any, starts: int, then: str
    ) -> None:
        @flow
        def batch() -> None:
            pass

        with get_client(sync_client=True) as client:
            deployment = client.create_deployment(client.create_flow(batch), f"batch-{uuid4().hex[:8]}", paused=True)
            run = client.create_flow_run_from_deployment(deployment).id
        for _ in range(starts):
            set_held(run)
            publish_held()
        assert states([run]) == [then]

    def test_one_that_no_saved_block_is_there_for_says_so(
        self, pds: sandbox.Sandbox, publish: Any, publish_held: Any
    ) -> None:
        account = pds.create_account()
        credentials = block(pds, account, app_password="aaaa-bbbb-cccc-dddd")
        run = publish(credentials, Post(text="from a script"), return_state=True).state_details.flow_run_id
        publish_held(account.handle)
        assert states([run]) == ["Held"]
        block(pds, account).save(f"account-{uuid4().hex[:8]}")
        publish_held(account.handle)
        assert states([run]) == ["Completed"]
