"""What becomes of posts that could not go out in time: apart, in order, expired, set aside, or found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.events import Event, ReceivedEvent, Resource, ResourceSpecification
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.states import Running

from prefect_bluesky import PlannedPost, Post, sandbox
from prefect_bluesky.errors import Expired
from prefect_bluesky.planning import held_sender, lost_runs
from prefect_bluesky.planning.held_runs import held_because, tags_of
from prefect_bluesky.planning.keyed_runs import schedule_run
from prefect_bluesky.planning.lost_runs import end_lost_runs
from prefect_bluesky.planning.saved_accounts import as_parameter
from tests import proxy
from tests.held import Stopped, deployed_publish, runs, set_held, states
from tests.proxy import Answer, Phase, Step
from tests.support import WRITE, block, deployment_of, run_to_state, saved_block
from tests.world import wait_for

pytestmark = pytest.mark.usefixtures("prefect_api", "without_pauses")

AN_HOUR = timedelta(hours=1)
ERROR = Answer(500, b'{"error": "InternalServerError", "message": "Internal Server Error"}')


def told(handle: str) -> list[ReceivedEvent]:
    """Return the events of an account's expired posts."""
    about = EventResourceFilter(labels=ResourceSpecification({"handle": handle}))
    wanted = EventFilter(event=EventNameFilter(name=["bluesky.post.expired"]), resource=about)
    with get_client(sync_client=True) as client:
        return client.read_events(wanted, limit=50).events


def message_of(run: UUID) -> str:
    (found,) = runs([run])
    assert found.state is not None
    return found.state.message or ""


def times_of(stopped: Stopped) -> list[datetime]:
    return sorted(datetime.fromisoformat(post["value"]["createdAt"]) for post in stopped.pds.posts(stopped.account))


class TestSpacing:
    """Held posts do not all come at once."""

    @pytest.fixture(autouse=True)
    def spacing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_HELD_SPACING", "PT1S")

    @pytest.mark.slow
    def test_the_posts_of_an_account_go_out_in_order_and_apart(
        self, stopped: Stopped, publish: Any, publish_held: Any
    ) -> None:
        stopped.hold(publish, *[Post(text=f"post {number}") for number in range(4)])
        stopped.mend()
        run_to_state(publish_held, account=stopped.account.handle)
        assert stopped.posts() == [f"post {number}" for number in range(4)]
        gaps = [later - earlier for earlier, later in pairwise(times_of(stopped))]
        assert min(gaps) >= timedelta(seconds=1)

    @pytest.mark.slow
    def test_accounts_do_not_wait_for_each_other(self, pds: sandbox.Sandbox, publish: Any, publish_held: Any) -> None:
        accounts = [Stopped(pds) for _ in range(2)]
        for each in accounts:
            each.hold(publish, Post(text="first"), Post(text="second"))
            each.mend()
        run_to_state(publish_held)
        first, second = (max(times_of(each)[number] for each in accounts) for number in (0, 1))
        assert first < second
        assert [each.posts() for each in accounts] == [["first", "second"]] * 2


class TestExpiry:
    """A post may say until when it makes sense."""

    def test_a_post_that_comes_too_late_ends_in_a_state_of_its_own_and_people_are_told(
        self, pds: sandbox.Sandbox, publish: Any
    ) -> None:
        credentials = saved_block(pds, pds.create_account())
        run = deployed_publish(publish, credentials, Post(text="lunch", expires=datetime.now(UTC) - AN_HOUR))
        assert (run.state_name, run.state_type) == ("Expired", StateType.CANCELLED)
        wait_for(lambda: told(credentials.handle), "the event")
        (event,) = told(credentials.handle)
        assert event.payload["run"] == run.name
        assert "made sense until" in event.payload["reason"]

    def test_a_post_that_is_in_time_goes_out(self, pds: sandbox.Sandbox, publish: Any) -> None:
        credentials = saved_block(pds, pds.create_account())
        run = deployed_publish(publish, credentials, Post(text="lunch", expires=datetime.now(UTC) + AN_HOUR))
        assert run.state_name == "Completed"

    def test_outside_a_deployment_it_is_an_error(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        with pytest.raises(Expired, match=r"^expires: the post made sense until 2026-11-01 12:00 UTC"):
            block(pds, account).publish(Post(text="lunch", expires="2026-11-01 12:00"))
        assert pds.posts(account) == []

    def test_a_post_that_is_out_is_found_whenever_it_is_asked_for(self, pds: sandbox.Sandbox, publish: Any) -> None:
        credentials = saved_block(pds, pds.create_account())
        late = Post(text="lunch", expires=datetime.now(UTC) - AN_HOUR)
        published = credentials.publish("lunch", key="lunch")
        set_held(run := deployed_publish(publish, credentials, late, key="lunch").id)
        assert states([run]) == ["Held"]
        assert credentials.publish_many([("lunch", "lunch")])[0] == published

    def test_of_held_posts_the_expired_ones_are_told_and_not_sent(
        self, stopped: Stopped, publish: Any, publish_held: Any
    ) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=1)
        held = stopped.hold(publish, Post(text="one"), Post(text="too late", expires=soon), Post(text="three"))
        stopped.mend()
        wait_for(lambda: datetime.now(UTC) > soon, "the expiry")
        run_to_state(publish_held, account=stopped.account.handle)
        assert stopped.posts() == ["one", "three"]
        assert states(held) == ["Completed", "Expired", "Completed"]
        wait_for(lambda: told(stopped.account.handle), "the event")
        assert len(told(stopped.account.handle)) == 1

    def test_a_held_post_expires_although_its_account_cannot_sign_in(
        self, stopped: Stopped, publish: Any, publish_held: Any
    ) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=1)
        held = stopped.hold(publish, Post(text="waits"), Post(text="too late", expires=soon))
        wait_for(lambda: datetime.now(UTC) > soon, "the expiry")
        run_to_state(publish_held, account=stopped.account.handle)
        assert states(held) == ["Held", "Expired"]

    def test_in_a_calendar_it_is_in_the_calendars_time_zone(self) -> None:
        planned = PlannedPost.model_validate({"account": "alice", "text": "lunch", "expires": "2026-12-01 14:00"})
        post = planned.with_time_and_key(ZoneInfo("Europe/Berlin")).post
        assert post.expires == datetime(2026, 12, 1, 13, tzinfo=UTC)

    def test_it_does_not_make_another_post(self) -> None:
        written = {"account": "alice", "text": "lunch", "at": "2026-12-01 12:00"}
        keys = {
            PlannedPost.model_validate(written | more).with_time_and_key(ZoneInfo("UTC")).key
            for more in ({}, {"expires": "2026-12-01 14:00"})
        }
        assert len(keys) == 1


class TestSteppingAside:
    """One post must not keep the others from going out."""

    @pytest.fixture(autouse=True)
    def hurried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(held_sender, "_BETWEEN_LOOKS", timedelta(seconds=0.1))

    @pytest.fixture
    def poisoned(self, pds: sandbox.Sandbox) -> Iterator[str]:
        """The URL of a PDS that answers with an internal error to one post, and to nothing else."""

        def on_step(step: Step, phase: Phase) -> Answer | None:
            is_poison = step.method == WRITE and b"poison" in step.body
            return ERROR if is_poison and phase is Phase.BEFORE else None

        with proxy.run(pds.url, on_step) as url:
            yield url

    def held(self, pds: sandbox.Sandbox, url: str, publish: Any, *texts: str) -> tuple[Any, list[UUID]]:
        """Let posts be held, of an account whose PDS is behind the URL."""
        account = pds.create_account()
        credentials = block(pds, account).model_copy(update={"service_url": url})
        credentials.save(f"account-{account.handle.partition('.')[0]}")
        deployment, state, tags = deployment_of(publish), held_because("There was an outage."), tags_of(credentials)
        ids = [
            schedule_run(
                deployment,
                {"credentials": as_parameter(credentials), "post": {"text": text}},
                key=uuid4().hex,
                name=text,
                state=state,
                tags=tags,
            ).id
            for text in texts
        ]
        return account, ids

    @pytest.mark.slow
    def test_a_post_that_its_server_never_takes_steps_aside_and_is_named(
        self, pds: sandbox.Sandbox, poisoned: str, publish: Any, publish_held: Any
    ) -> None:
        account, held = self.held(pds, poisoned, publish, "poison", "sound")
        run_to_state(publish_held, account=account.handle)
        assert states(held) == ["Failed", "Completed"]
        assert "internal error" in message_of(held[0])

    @pytest.mark.slow
    def test_a_server_that_takes_nothing_condemns_no_post(
        self, pds: sandbox.Sandbox, poisoned: str, publish: Any, publish_held: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(held_sender, "_LONGEST", timedelta(seconds=3))
        account, held = self.held(pds, poisoned, publish, "poison one", "poison two")
        run_to_state(publish_held, account=account.handle)
        assert states(held) == ["Held", "Held"]


class TestOtherTeams:
    """Held runs of flows that others wrote."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Do not wait for the end of a run."""
        monkeypatch.setattr(held_sender, "_LONGEST", timedelta())

    def test_they_start_again_one_after_the_other(self, stopped: Stopped, publish_held: Any) -> None:
        @flow
        def team() -> None:
            pass

        deployment = deployment_of(team)
        with get_client(sync_client=True) as client:
            made = [
                client.create_flow_run_from_deployment(deployment, tags=tags_of(stopped.credentials)).id for _ in "ab"
            ]
        for run in made:
            set_held(run)
        stopped.mend()
        run_to_state(publish_held, account=stopped.account.handle)
        assert states(made) == ["Scheduled", "Held"]
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(made[0], State(type=StateType.COMPLETED), force=True)
        run_to_state(publish_held, account=stopped.account.handle)
        assert states(made) == ["Completed", "Scheduled"]


class TestLostRuns:
    """A run whose process is gone, and of which no automation heard."""

    @pytest.fixture(autouse=True)
    def hurried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("_SILENCE", "_SECOND_LOOK"):
            monkeypatch.setattr(lost_runs, name, timedelta(seconds=1))

    @pytest.fixture
    def beat(self) -> Callable[[UUID], None]:
        """Send a heartbeat of a run."""

        def beat(run: UUID) -> None:
            resource = Resource({"prefect.resource.id": f"prefect.flow-run.{run}"})
            event = Event(event="prefect.flow-run.heartbeat", resource=resource)
            with get_client(sync_client=True) as client:
                client.request("POST", "/events", json=[event.model_dump(mode="json")])
            wait_for(lambda: lost_runs._has_heartbeat(run, event.occurred - timedelta(seconds=1)), "the heartbeat")

        return beat

    @staticmethod
    def running(flow: Any) -> UUID:
        with get_client(sync_client=True) as client:
            run = client.create_flow_run_from_deployment(deployment_of(flow)).id
            client.set_flow_run_state(run, Running(), force=True)
        return run

    @pytest.mark.slow
    def test_a_run_without_heartbeats_is_held_or_ended(
        self, publish: Any, publish_held: Any, beat: Callable[[UUID], None]
    ) -> None:
        lost = [self.running(publish), self.running(publish_held)]
        for run in lost:
            beat(run)

        def are_ended() -> bool:
            end_lost_runs()
            return states(lost) == ["Held", "Crashed"]

        wait_for(are_ended, "the end of the lost runs")

    @pytest.mark.slow
    def test_a_run_that_may_live_is_left_alone(self, publish: Any, beat: Callable[[UUID], None]) -> None:
        """Of one kind of worker no heartbeat ever comes, and the run that asks lives."""
        silent, asking = self.running(publish), self.running(publish)
        beat(asking)
        end_lost_runs(but=asking)
        assert states([silent, asking]) == ["Running", "Running"]
