"""From one idea to posts on two channels, read back on both: drafted, reviewed, published or scheduled, each once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.states import AwaitingRetry, Crashed, Scheduled
from pydantic import SecretStr

from prefect_bluesky.channels import MastodonCredentials
from tests import mastodon_server
from tests.mastodon_server import MastodonServer
from tests.support import Pds, block, planned_deployments, run_to_state, runs_of, texts
from tests.worker import Worker, asks, attempt, run_in
from tests.world import wait_for

pytestmark = [pytest.mark.pds, pytest.mark.usefixtures("prefect_api")]

FLOWS = Path(__file__).parents[1] / "flows"
IDEA = """Release 2.0 is out. It is twice as fast, and half as large.

We rewrote the scheduler, which took a year. It was worth it.

https://example.com/2.0"""

COMPOSE = f"{FLOWS / 'compose.py'}:compose"
STATUSES = "POST /api/v1/statuses"


@pytest.fixture(scope="module")
def compose() -> Flow[Any, Any]:
    """The flow as a deployment loads it."""
    return load_flow_from_entrypoint(f"{FLOWS / 'compose.py'}:compose")


@pytest.fixture
def mastodon() -> Iterator[MastodonServer]:
    with mastodon_server.run() as instance:
        yield instance


class Team:
    """An account on Bluesky and one on Mastodon, with their saved blocks."""

    def __init__(self, pds: Pds, mastodon: MastodonServer) -> None:
        self.pds, self.mastodon = pds, mastodon
        self.account = pds.create_account()
        name = f"team-{uuid4().hex[:8]}"
        block(pds, self.account).save(name)
        MastodonCredentials(instance_url=mastodon.url, access_token=SecretStr("good-token")).save(name)
        self.bluesky, self.mastodon_block = f"bluesky-credentials/{name}", f"mastodon-credentials/{name}"
        self.channels = (self.bluesky, self.mastodon_block)

    @property
    def posts(self) -> list[str]:
        """Return the published texts, in alphabetical order."""
        return texts(self.pds, self.account)


@pytest.fixture
def team(real_pds: Pds, mastodon: MastodonServer) -> Team:
    return Team(real_pds, mastodon)


# So close that all are due at once.
AT_ONCE: dict[str, Any] = {"review": False, "every_hours": 1e-9, "count": 3}

_BOTH = "Release 2.0 is out. It is twice as fast, and half as large.\n\n"
_SECOND = "We rewrote the scheduler, which took a year. It was worth it."
ON_BLUESKY = ["Release 2.0 is out.", _BOTH + _SECOND, _SECOND]
ON_MASTODON = [f"{text}\n\nhttps://example.com/2.0" for text in ON_BLUESKY]


def test_an_idea_goes_out_on_both_as_each_takes_it(compose: Flow[Any, Any], team: Team) -> None:
    state = run_to_state(compose, idea=IDEA, channels=team.channels, **AT_ONCE)
    assert state.is_completed(), state.message
    assert team.posts == ON_BLUESKY
    assert team.mastodon.texts() == ON_MASTODON


@pytest.mark.slow  # a killed run keeps the account's lock until its lease is over
def test_a_killed_run_that_is_resumed_publishes_what_is_missing_and_nothing_twice(
    compose: Flow[Any, Any], team: Team
) -> None:
    parameters = {"idea": IDEA, "channels": team.channels, **AT_ONCE}
    with get_client(sync_client=True) as client:
        flow_run = client.create_flow_run(compose, parameters=parameters, state=Scheduled())
    first, second = Worker(), Worker()

    def after(request: str) -> bool:
        if request == STATUSES and len(team.mastodon.statuses) == 2:
            # And the server forgets the keys: the run is resumed the next day.
            team.mastodon.an_hour_later()
            first.shoot()
            return True
        return False

    team.mastodon.after = after
    first.prepare(run_in, f"{FLOWS / 'compose.py'}:compose", flow_run.id)
    first.go()
    assert first.exit_code()
    team.mastodon.after = lambda request: False
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, Crashed(), force=True)
        client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
    assert second.do(run_in, f"{FLOWS / 'compose.py'}:compose", flow_run.id) == "Completed"
    second.kill()
    assert team.mastodon.texts() == ON_MASTODON
    assert team.posts == ON_BLUESKY


def test_a_later_variant_gets_a_separate_run(compose: Flow[Any, Any], team: Team) -> None:
    deployments = {"planned": planned_deployments()[0], "publish-variant": deploy(variant(), "publish-variant")}
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    parameters = {"idea": IDEA, "channels": team.channels, "review": False, "count": 2, "start": start}
    state = run_to_state(compose, **parameters)
    assert state.is_completed(), state.message
    assert (team.posts, team.mastodon.texts()) == ([], [])
    for deployment in deployments.values():
        assert [each.expected_start_time for each in runs_of(deployment)] == [start, start + timedelta(days=1)]
    # What such a run does when its time has come.
    run_of_mastodon = runs_of(deployments["publish-variant"])[0]
    assert run_to_state(variant(), **run_of_mastodon.parameters).is_completed()
    assert team.mastodon.texts() == ON_MASTODON[:1]


@pytest.mark.slow
def test_a_retried_run_leaves_scheduled_variants_to_their_runs(compose: Flow[Any, Any], team: Team) -> None:
    planned_deployments()
    deployment = deploy(variant(), "publish-variant")
    start = datetime.now(UTC) + timedelta(days=2)
    channels = (*team.channels, "mastodon-credentials/nobody")
    parameters = {"idea": IDEA, "channels": channels, "review": False, "count": 1, "start": start.isoformat()}
    with get_client(sync_client=True) as client:
        flow_run = client.create_flow_run(compose, parameters=parameters, state=Scheduled())
    worker = Worker()
    entrypoint = f"{FLOWS / 'compose.py'}:compose"
    assert worker.do(run_in, entrypoint, flow_run.id) == "Failed"
    assert len(runs_of(deployment)) == 1
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
    worker.do(run_in, entrypoint, flow_run.id)
    worker.kill()
    assert len(runs_of(deployment)) == 1
    assert (team.posts, team.mastodon.texts()) == ([], [])


@pytest.mark.slow
def test_a_channel_that_fails_stops_no_other_and_a_retry_publishes_what_is_missing(
    compose: Flow[Any, Any], team: Team
) -> None:
    team.mastodon.before = lambda request: 422 if request == STATUSES else None
    parameters = {"idea": IDEA, "channels": team.channels, **AT_ONCE}
    with get_client(sync_client=True) as client:
        flow_run = client.create_flow_run(compose, parameters=parameters, state=Scheduled())
    worker = Worker()
    entrypoint = f"{FLOWS / 'compose.py'}:compose"
    assert worker.do(run_in, entrypoint, flow_run.id) == "Failed"
    assert team.posts == ON_BLUESKY
    team.mastodon.before = lambda request: None
    with get_client(sync_client=True) as client:
        failed = client.read_flow_run(flow_run.id)
        assert failed.state
        assert "answered a status with 422" in str(failed.state.message)
        client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
    assert worker.do(run_in, entrypoint, flow_run.id) == "Completed"
    worker.kill()
    assert (team.posts, team.mastodon.texts()) == (ON_BLUESKY, ON_MASTODON)


def test_a_channel_that_is_not_there_is_named_and_stops_no_other(compose: Flow[Any, Any], team: Team) -> None:
    state = run_to_state(compose, idea=IDEA, channels=(team.bluesky, "mastodon-credentials/nobody"), **AT_ONCE)
    assert state.is_failed()
    assert "there is no block mastodon-credentials/nobody" in str(state.message)
    assert team.posts == ON_BLUESKY


def test_a_dry_run_publishes_nothing(compose: Flow[Any, Any], team: Team) -> None:
    state = run_to_state(compose, idea=IDEA, channels=team.channels, dry_run=True)
    assert state.is_completed()
    assert (team.posts, team.mastodon.texts()) == ([], [])


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "idea: nothing is given. Write an idea, or name a file with one."),
        ({"idea": "Hi", "file": "a.md"}, "idea: an idea and a file are given. Leave one of them out."),
        ({"idea": "Hi", "generator": "ai-generator/nobody"}, "generator: there is no block ai-generator/nobody"),
    ],
)
def test_unusable_parameters_are_refused_by_their_field(
    compose: Flow[Any, Any], parameters: dict[str, Any], said: str
) -> None:
    state = run_to_state(compose, channels=("bluesky",), dry_run=True, **parameters)
    assert state.is_failed()
    assert said in str(state.message)


@pytest.mark.slow
def test_a_parent_that_is_tried_again_composes_nothing_twice(compose: Flow[Any, Any], team: Team) -> None:
    team.mastodon.before = lambda request: 422 if request == STATUSES else None
    attempts: list[str | None] = []

    @flow(retries=1)
    def parent() -> None:
        state: Any = compose(idea=IDEA, channels=team.channels, return_state=True, **AT_ONCE)
        attempts.append(state.message)
        team.mastodon.before = lambda request: None
        if not state.is_completed():
            raise RuntimeError(state.message)

    parent()
    assert len(attempts) == 2
    assert (team.posts, team.mastodon.texts()) == (ON_BLUESKY, ON_MASTODON)


@pytest.mark.slow
class TestReview:
    """A person looks at it first."""

    @staticmethod
    def begun(compose: Flow[Any, Any], team: Team, **parameters: Any) -> UUID:
        """A run of one hook on each channel that is yet to be done."""
        given = {"idea": "Good morning.", "channels": team.channels, **parameters}
        with get_client(sync_client=True) as client:
            return client.create_flow_run(compose, parameters=given, state=Scheduled()).id

    def reviewed(self, compose: Flow[Any, Any], team: Team, *answers: dict[str, Any], **parameters: Any) -> FlowRun:
        """A run, with what a person answers."""
        return attempt(COMPOSE, self.begun(compose, team, **parameters), *answers)

    def test_people_are_told_that_drafts_wait_and_find_them_among_the_runs_artifacts(
        self, compose: Flow[Any, Any], team: Team
    ) -> None:
        done = self.reviewed(compose, team, {"decision": "drop everything"})
        resource = EventResourceFilter(id=[f"bluesky.review.{done.id}"])
        with get_client(sync_client=True) as client:
            wanted = EventFilter(event=EventNameFilter(name=["bluesky.review.waits"]), resource=resource)
            wait_for(lambda: client.read_events(wanted, limit=50).events, "the event")
            (event,) = client.read_events(wanted, limit=50).events
            of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[done.id]))
            (drafts,) = [each for each in client.read_artifacts(artifact_filter=of_run) if each.key == "bluesky-review"]
        assert (event.payload["run"], event.payload["drafts"]) == (done.name, 2)
        assert str(done.id) in event.payload["link"]
        assert "> Good morning." in str(drafts.data)

    def test_earlier_decisions_are_published_and_only_the_rest_is_reviewed(
        self, compose: Flow[Any, Any], team: Team
    ) -> None:
        missing = f"later-{uuid4().hex[:8]}"
        channels = (team.bluesky, f"mastodon-credentials/{missing}")
        flow_run = self.begun(compose, team, channels=channels)
        first = attempt(COMPOSE, flow_run, {"decision": "approve", "variant_1": {"posts": ["On Bluesky."]}})
        assert (first.state_name, team.posts) == ("Failed", ["On Bluesky."])
        MastodonCredentials(instance_url=team.mastodon.url, access_token=SecretStr("good-token")).save(missing)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run, AwaitingRetry(), force=True)
        second = attempt(COMPOSE, flow_run, {"decision": "approve", "variant_1": {"posts": ["On Mastodon."]}})
        assert second.state_name == "Completed", second.state
        assert (team.posts, team.mastodon.texts()) == (["On Bluesky."], ["On Mastodon."])

    def test_an_answer_that_was_given_when_the_worker_was_dead_is_not_lost(
        self, compose: Flow[Any, Any], team: Team
    ) -> None:
        flow_run = self.begun(compose, team)
        doomed = Worker()
        doomed.prepare(run_in, f"{FLOWS / 'compose.py'}:compose", flow_run)
        doomed.go()
        wait_for(lambda: asks(flow_run), "the form")
        doomed.kill()
        edited = {"decision": "approve", "variant_1": {"posts": ["Edited."]}, "variant_2": {"posts": ["Too."]}}
        with get_client(sync_client=True) as client:
            assert client.resume_flow_run(flow_run, run_input=edited).status == SetStateStatus.ACCEPT
            client.set_flow_run_state(flow_run, Crashed(), force=True)
            client.set_flow_run_state(flow_run, AwaitingRetry(), force=True)
        assert attempt(COMPOSE, flow_run).state_name == "Completed"
        assert (team.posts, team.mastodon.texts()) == (["Edited."], ["Too."])

    def test_an_edited_text_is_what_goes_out_and_a_dropped_one_does_not(
        self, compose: Flow[Any, Any], team: Team
    ) -> None:
        edited = {"publish": True, "posts": ["Good evening."]}
        answer = {"decision": "approve", "variant_1": edited, "variant_2": {"publish": False, "posts": ["x"]}}
        done = self.reviewed(compose, team, answer)
        assert done.state_name == "Completed", done.state
        assert (team.posts, team.mastodon.texts()) == (["Good evening."], [])

    def test_an_edit_that_does_not_fit_is_asked_about_again(self, compose: Flow[Any, Any], team: Team) -> None:
        too_long = {"decision": "approve", "variant_1": {"posts": ["x" * 301]}, "variant_2": {"posts": ["Hi"]}}
        # What fits is asked about no more.
        better = {"decision": "approve", "variant_1": {"posts": ["Hello"]}}
        self.reviewed(compose, team, too_long, better)
        assert (team.posts, team.mastodon.texts()) == (["Hello"], ["Hi"])

    def test_everything_can_be_dropped(self, compose: Flow[Any, Any], team: Team) -> None:
        answer = {"decision": "drop everything", "variant_1": {"posts": ["x"]}, "variant_2": {"posts": ["x"]}}
        done = self.reviewed(compose, team, answer)
        assert done.state_name == "Completed"
        assert (team.posts, team.mastodon.texts()) == ([], [])

    def test_without_an_answer_nothing_is_published(self, compose: Flow[Any, Any], team: Team) -> None:
        done = self.reviewed(compose, team, review_hours=1 / 3600)
        assert done.state_name == "Cancelled"
        assert (team.posts, team.mastodon.texts()) == ([], [])


def variant() -> Flow[Any, Any]:
    return load_flow_from_entrypoint(f"{FLOWS / 'publish_variant.py'}:publish_variant")


def deploy(flow: Flow[Any, Any], name: str) -> UUID:
    """A deployment that no worker serves here, anew."""
    with get_client(sync_client=True) as client:
        made = client.create_deployment(
            client.create_flow(flow), name, entrypoint=f"flows/{name}.py", enforce_parameter_schema=False
        )
        for each in runs_of(made):
            client.delete_flow_run(each.id)
        return made
