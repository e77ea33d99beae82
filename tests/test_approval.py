"""A person approves a batch, or drops it, before anything of it is published."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.flows import Flow
from prefect.states import AwaitingRetry, Crashed, Scheduled

from prefect_bluesky import BlueskyCredentials, Post
from prefect_bluesky.planning import not_approved
from prefect_bluesky.planning.saved_accounts import as_parameter
from tests.support import SavedAccount, planned_deployments, run_deployed, run_to_state, runs_of
from tests.worker import Worker, asks, attempt, run_in
from tests.world import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]

BATCH = f"{Path(__file__).parents[1] / 'flows' / 'publish_batch.py'}:publish_batch"

APPROVE, DROP = {"decision": "approve"}, {"decision": "drop everything"}


@pytest.fixture
def begun(alice: SavedAccount, publish_batch: Flow[Any, Any]) -> UUID:
    """A batch of a post for now and one for later, which is to be approved, and yet to be done."""
    planned_deployments()
    later = datetime.now(UTC) + timedelta(days=2)
    given = {"items": [alice.item("now"), alice.item("later", at=later.isoformat())], "approve": True}
    with get_client(sync_client=True) as client:
        return client.create_flow_run(publish_batch, parameters=given, state=Scheduled()).id


def planned(account: SavedAccount) -> int:
    """How many posts of an account have runs."""
    return len([run for run in runs_of(planned_deployments()[0]) if run.name.startswith(account.account.handle)])


def test_what_is_approved_is_published_and_planned(begun: UUID, alice: SavedAccount) -> None:
    done = attempt(BATCH, begun, APPROVE)
    assert done.state_name == "Completed", done.state
    assert (alice.texts, planned(alice)) == (["now"], 1)


def test_what_is_dropped_is_not(begun: UUID, alice: SavedAccount) -> None:
    done = attempt(BATCH, begun, DROP)
    assert done.state is not None
    assert (done.state.name, done.state.message) == ("Cancelled", "A person has dropped it. Nothing was published.")
    assert (alice.texts, planned(alice)) == ([], 0)


def test_an_answer_that_was_given_when_the_worker_was_dead_counts(begun: UUID, alice: SavedAccount) -> None:
    doomed = Worker()
    doomed.prepare(run_in, BATCH, begun)
    doomed.go()
    wait_for(lambda: asks(begun), "the form")
    doomed.kill()
    with get_client(sync_client=True) as client:
        assert client.resume_flow_run(begun, run_input=APPROVE).status == SetStateStatus.ACCEPT
        client.set_flow_run_state(begun, Crashed(), force=True)
        client.set_flow_run_state(begun, AwaitingRetry(), force=True)
    assert attempt(BATCH, begun).state_name == "Completed"
    assert (alice.texts, planned(alice)) == (["now"], 1)


def test_a_single_post_waits_too(alice: SavedAccount, publish: Flow[Any, Any]) -> None:
    account: Any = BlueskyCredentials.load(alice.name)
    given = {"credentials": as_parameter(account), "post": {"text": "one post"}, "approve": True}
    about: dict[str, Any] = {"credentials": account, "post": Post(text="one post"), "approve": True}
    with ThreadPoolExecutor(1) as thread, get_client(sync_client=True) as client:
        running = thread.submit(copy_context().run, partial(run_deployed, publish, given, **about))
        wait_for(lambda: paused(alice), "the pause")
        (run,) = paused(alice)
        wait_for(lambda: asks(run.id), "the form")
        client.resume_flow_run(run.id, run_input=DROP)
        _, state = running.result()
    assert state.name == "Cancelled"
    assert alice.texts == []


def paused(account: SavedAccount) -> list[FlowRun]:
    """The runs of an account that wait for a person."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state))
    return [run for run in found if account.account.handle in run.name]


def test_a_run_that_nobody_answers_is_cancelled() -> None:
    @flow
    def asking() -> State[Any] | None:
        return not_approved(["a post"], timedelta(seconds=1))

    state = run_to_state(asking)
    said = "Nobody has approved this within 0:00:01. Run it again to ask once more."
    assert (state.name, state.message) == ("Cancelled", said)


def test_a_preview_asks_nobody(alice: SavedAccount, publish_batch: Flow[Any, Any]) -> None:
    state = run_to_state(publish_batch, items=[alice.item("now")], approve=True, dry_run=True)
    assert state.message == "1 due"
