"""Posts that wait for their account: how they are held, and how they go out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.events import ResourceSpecification
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.flow_engine import run_flow

from prefect_bluesky import AuthError, Image, Post, hold, publish_post, sandbox
from prefect_bluesky.planning.held_runs import drop, read_held_runs
from tests import warm
from tests.held import Stopped, deployed_publish, masked, runs, set_held, states
from tests.support import (
    LOGIN,
    RESOLVE,
    WRITE,
    block,
    counted,
    forget_processes_memory,
    planned_deployments,
    run_deployed,
    saved_block,
)
from tests.world import wait_for

pytestmark = pytest.mark.usefixtures("prefect_api")

FLOWS = Path(__file__).parents[1] / "flows"


class TestHolding:
    """The run of an account that cannot sign in."""

    def test_a_held_run_ends_in_a_state_with_the_cause_and_the_remedy(self, stopped: Stopped, publish: Any) -> None:
        with counted(stopped.pds) as requests:
            first, *others = stopped.hold(publish, *[Post(text=f"post {number}") for number in range(4)])
        (run,) = runs([first])
        assert run.state is not None
        assert run.state.type is StateType.FAILED
        assert (run.state.message or "").startswith(f"{stopped.account.handle}: The server does not accept")
        assert "Create a new app password" in (run.state.message or "")
        assert requests == {LOGIN: 1, RESOLVE: 1}
        assert states(others) == ["Held"] * 3

    def test_its_error_reaches_whoever_waits_for_it(self, stopped: Stopped, publish: Any) -> None:
        with pytest.raises(AuthError, match="app_password_rejected"):
            publish(stopped.credentials, Post(text="to whom it may concern"))

    def test_a_held_run_is_found_by_its_account(self, stopped: Stopped, publish: Any) -> None:
        held = stopped.hold(publish, Post(text="mine"))
        assert [run.id for run in read_held_runs(stopped.account.handle)] == held
        assert held[0] in {run.id for run in read_held_runs()}
        assert list(read_held_runs("nobody.test")) == []

    def test_prefect_hears_of_it(self, stopped: Stopped, publish: Any) -> None:
        stopped.hold(publish, Post(text="heard"))
        about = EventResourceFilter(labels=ResourceSpecification({"handle": stopped.account.handle}))
        wanted = EventFilter(event=EventNameFilter(name=["bluesky.post.held"]), resource=about)
        with get_client(sync_client=True) as client:
            wait_for(lambda: client.read_events(wanted, limit=50).events, "the event")
            (event,) = client.read_events(wanted, limit=50).events
        assert event.payload == {"account": stopped.account.handle, "problem": "app_password_rejected"}

    def test_a_preview_is_not_held(self, stopped: Stopped, publish: Any) -> None:
        run = stopped.publish(publish, Post(text="only to look at"), dry_run=True)
        assert (run.state_name, run.state_type) == ("Failed", StateType.FAILED)

    @pytest.mark.parametrize(("status", "writes"), [(429, 4), (503, 8)])
    def test_trouble_that_outlasts_a_run_is_held(
        self, publish: Any, publish_held: Any, monkeypatch: pytest.MonkeyPatch, status: int, writes: int
    ) -> None:
        monkeypatch.setattr(publish_post, "retry_delay_seconds", [0.0])
        with sandbox.run() as failing:
            account = failing.create_account()
            credentials = saved_block(failing, account)
            credentials.ensure_session()
            failing.fail(WRITE, status=status, times=writes)
            run = deployed_publish(publish, credentials, Post(text="later"))
            assert run.state_name == "Held"
            publish_held(account.handle)
            assert [post["value"]["text"] for post in failing.posts(account)] == ["later"]
        assert states([run.id]) == ["Completed"]

    def test_an_error_that_waiting_does_not_fix_is_not_held(self, pds: sandbox.Sandbox, publish: Any) -> None:
        credentials = saved_block(pds, pds.create_account())
        credentials.publish("something else", key="taken")
        assert deployed_publish(publish, credentials, Post(text="another"), key="taken").state_name == "Failed"


@pytest.mark.slow
class TestSending:
    """The fate of held posts."""

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

    def test_a_post_that_is_out_is_found_and_not_sent_again(
        self, stopped: Stopped, publish: Any, publish_held: Any
    ) -> None:
        stopped.mend()
        run = stopped.publish(publish, Post(text="out")).id
        set_held(run)
        publish_held()
        assert stopped.posts() == ["out"]
        assert states([run]) == ["Completed"]

    def test_a_post_with_its_own_key_keeps_the_key(self, stopped: Stopped, publish: Any, publish_held: Any) -> None:
        stopped.hold(publish, Post(text="keyed"), key="my key")
        stopped.mend()
        publish_held(stopped.account.handle)
        stopped.credentials.publish("keyed", key="my key")
        assert stopped.posts() == ["keyed"]

    def test_a_run_of_publish_held_that_was_killed_leaves_the_rest_to_the_next(
        self, stopped: Stopped, publish: Any, publish_held: Any
    ) -> None:
        """The process was killed between the write and the report of it: the run is still held."""
        held = stopped.hold(publish, Post(text="one"), Post(text="two"))
        stopped.mend()
        publish_held(stopped.account.handle)
        set_held(held[0])
        publish_held(stopped.account.handle)
        assert stopped.posts() == ["one", "two"]
        assert states(held) == ["Completed", "Completed"]

    def test_an_unusable_post_fails_and_stops_no_other(self, stopped: Stopped, publish: Any, publish_held: Any) -> None:
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

    def test_the_next_posts_do_not_wait_for_what_one_needs_from_elsewhere(
        self, stopped: Stopped, publish: Any, publish_held: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publish_post, "retry_delay_seconds", [0.0])
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_ALLOW_PRIVATE_ADDRESSES", "true")
        picture_away = Post(text="one", images=[Image(source="http://127.0.0.1:1/cat.png", alt="A cat")])
        held = stopped.hold(publish, picture_away, Post(text="two"))
        stopped.mend()
        publish_held(stopped.account.handle)
        assert (states(held), stopped.posts()) == (["Held", "Completed"], ["two"])
        assert drop(held[0])

    def test_an_account_does_not_wait_for_another(self, pds: sandbox.Sandbox, publish: Any, publish_held: Any) -> None:
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
        preview = stopped.publish(publish, Post(text="look"), dry_run=True).id
        set_held(preview)
        publish_held(return_state=True)
        assert stopped.posts() == []
        assert states([preview]) == ["Failed"]

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

        run, state = run_deployed(announce, {"account": "me"}, account="me")
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

        run = run_deployed(batch, {})[0].id
        for _ in range(starts):
            set_held(run)
            publish_held()
        assert states([run]) == [then]

    def test_a_post_without_a_saved_block_stays_held_until_there_is_one(
        self, pds: sandbox.Sandbox, publish: Any, publish_held: Any
    ) -> None:
        account = pds.create_account()
        wrong = block(pds, account, app_password="aaaa-bbbb-cccc-dddd")
        run = deployed_publish(publish, wrong, Post(text="later"), given=masked(wrong))
        publish_held(account.handle)
        assert states([run.id]) == ["Held"]
        saved_block(pds, account)
        publish_held(account.handle)
        assert states([run.id]) == ["Completed"]


@pytest.mark.slow
class TestTheCommand:
    """`prefect-bluesky held`, and `prefect-bluesky publish --hold`."""

    @staticmethod
    def run(*arguments: str, prefect_api: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [warm.python(), *arguments],
            cwd=FLOWS.parent,
            env=os.environ | {"PREFECT_API_URL": prefect_api} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_the_command_lists_shows_and_drops(self, stopped: Stopped, publish: Any, prefect_api: str) -> None:
        run = str(stopped.hold(publish, Post(text="held back"))[0])
        listed = self.run("flows/held.py", "list", "--account", stopped.account.handle, prefect_api=prefect_api)
        assert (run[:13] in listed.stdout, "held back" in listed.stdout) == (True, True)
        shown = self.run("flows/held.py", "show", run, prefect_api=prefect_api)
        assert "Create a new app password" in shown.stdout
        dropped = self.run("flows/held.py", "drop", run, prefect_api=prefect_api)
        assert (dropped.stdout.strip(), states([UUID(run)])) == (f"Dropped {run}.", ["Dropped"])
        again = self.run("flows/held.py", "drop", run, prefect_api=prefect_api)
        assert (again.returncode, "no held run has such an id" in again.stderr) == (1, True)

    def test_a_script_holds_where_it_is_asked_to_and_says_how_to_drop(
        self, stopped: Stopped, publish_held: Any, prefect_api: str
    ) -> None:
        environment = {
            "prefect_api": prefect_api,
            "BLUESKY_HANDLE": stopped.account.handle,
            "BLUESKY_APP_PASSWORD": stopped.account.app_password,
            "BLUESKY_SERVICE_URL": stopped.pds.url,
        }
        planned_deployments()
        done = self.run("flows/publish.py", "later, please", "--hold", **environment)
        (run,) = read_held_runs(stopped.account.handle)
        assert (done.returncode, f"prefect-bluesky held drop {run.id}" in done.stderr) == (1, True)
        stopped.mend()
        publish_held(stopped.account.handle)
        assert stopped.posts() == ["later, please"]

    def test_a_script_holds_only_what_something_can_send_later(
        self, pds: sandbox.Sandbox, stopped: Stopped, prefect_api: str
    ) -> None:
        environment = {
            "BLUESKY_HANDLE": "nobody.test",
            "BLUESKY_APP_PASSWORD": "aaaa-bbbb-cccc-dddd",
            "BLUESKY_SERVICE_URL": pds.url,
        }
        done = self.run("flows/publish.py", "later", "--hold", prefect_api="", **environment)
        assert (done.returncode, "PREFECT_API_URL is not set" in done.stderr) == (1, True)
