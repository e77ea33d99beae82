"""Who may hold a post, and what is sent: each post goes out once or never, as the person meant it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from pydantic import SecretStr

from prefect_bluesky import AuthError, BlueskyCredentials, Post, hold, publish_post, sandbox
from prefect_bluesky.planning.held_runs import drop, find_held_run
from prefect_bluesky.planning.scheduled_runs import ScriptHolder
from tests.held import Stopped, deployed_publish, masked, runs, set_held, states
from tests.support import block, forget_processes_memory, planned_deployments, run_deployed, run_to_state, saved_block

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]

HELLO = Post(text="hello")


@dataclass
class Stage:
    """An account that cannot sign in, and who else is there.

    Attributes:
        stopped: the account.
        publish: the flow `publish`.
        others: other accounts, at which a post might go out by mistake.
        settings: settings for the time after the account is mended.
    """

    stopped: Stopped
    publish: Flow[Any, Any]
    elsewhere: sandbox.Sandbox
    others: list[tuple[sandbox.Sandbox, sandbox.Account]] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    def run_of_a_script(self) -> UUID:
        """Let a script run the flow; the run."""
        run = run_to_state(self.publish, credentials=self.stopped.credentials, post=HELLO).state_details.flow_run_id
        assert run is not None
        return run

    def run_of_a_deployment(self, post: Post = HELLO, **parameters: Any) -> UUID:
        return self.stopped.publish(self.publish, post, **parameters).id

    def run_with_an_object(self) -> UUID:
        """Let a deployment's run fail that was given a block as an object, which the server has masked; the run."""
        wrong = block(self.stopped.pds, self.stopped.account, app_password="aaaa-bbbb-cccc-dddd")
        return deployed_publish(self.publish, wrong, HELLO, given=masked(wrong)).id

    def save_other(self, pds: sandbox.Sandbox, handle: str | None = None) -> None:
        """Save the block of another account that can sign in."""
        other = pds.create_account(handle)
        saved_block(pds, other)
        self.others.append((pds, other))


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[sandbox.Sandbox]:
    """Another service."""
    with sandbox.run() as pds:
        yield pds


@pytest.fixture
def stage(stopped: Stopped, publish: Flow[Any, Any], elsewhere: sandbox.Sandbox) -> Stage:
    return Stage(stopped, publish, elsewhere)


def a_script(stage: Stage) -> UUID:
    return stage.run_of_a_script()


def a_script_that_an_earlier_version_held(stage: Stage) -> UUID:
    run = stage.run_of_a_script()
    set_held(run)
    return run


def a_script_that_is_asked_to_hold(stage: Stage) -> UUID:
    planned_deployments()
    with pytest.raises(AuthError) as failure:
        stage.stopped.credentials.publish(HELLO)
    said = ScriptHolder(stage.stopped.credentials, None).hold(HELLO, failure.value)
    return UUID(said.split()[-1])


def a_subflow(stage: Stage) -> UUID:
    @flow
    def announce() -> None:
        stage.publish(stage.stopped.credentials, HELLO, return_state=True)

    parent, _ = run_deployed(announce, {})
    with get_client(sync_client=True) as client:
        children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent.id]))
        (run,) = client.read_flow_runs(flow_run_filter=children)
    return run.id


def a_deployment(stage: Stage) -> UUID:
    return stage.run_of_a_deployment()


def a_preview(stage: Stage) -> UUID:
    return stage.run_of_a_deployment(dry_run=True)


def a_flow_of_another_team(stage: Stage) -> UUID:
    @flow
    def announce(credentials: str, post: str) -> Any:
        try:
            return publish_post(stage.stopped.credentials, f"{post} by {credentials}")
        except AuthError as error:
            return hold(error, stage.stopped.credentials)

    # Its parameters are called as those of `publish` are.
    given = {"credentials": "us", "post": "hello"}
    return run_deployed(announce, given, **given)[0].id


def an_object_of_the_same_account(stage: Stage) -> UUID:
    return stage.run_with_an_object()


def an_object_whose_account_has_another_service(stage: Stage) -> UUID:
    stage.stopped.delete_block()
    stage.save_other(stage.elsewhere, stage.stopped.account.handle)
    return stage.run_with_an_object()


def an_object_of_another_handle(stage: Stage) -> UUID:
    stage.stopped.delete_block()
    stage.save_other(stage.stopped.pds)
    return stage.run_with_an_object()


def a_block_that_is_another_accounts_by_now(stage: Stage) -> UUID:
    run = stage.run_of_a_deployment()
    other = stage.stopped.pds.create_account()
    stage.others.append((stage.stopped.pds, other))
    block(stage.stopped.pds, other).save(stage.stopped.name, overwrite=True)
    return run


def a_block_beside_one_that_can_sign_in(stage: Stage) -> UUID:
    run = stage.run_of_a_deployment()
    new = stage.stopped.pds.create_app_password(stage.stopped.account, "other")
    saved_block(stage.stopped.pds, stage.stopped.account, app_password=new)
    return run


def a_post_that_was_dropped(stage: Stage) -> UUID:
    run = stage.run_of_a_deployment()
    assert drop(find_held_run(str(run)[:20]).id)
    return run


def a_post_that_was_held_for_too_long(stage: Stage) -> UUID:
    stage.settings["PREFECT_INTEGRATIONS_BLUESKY_HOLD_FOR"] = "PT0.001S"
    return stage.run_of_a_deployment()


@dataclass(frozen=True)
class Case:
    """A post, and what becomes of it.

    Args:
        arrange: lets the post fail; its run.
        at_first: the name of the run's state then.
        at_last: the name of the run's state once the account is mended and `publish-held` has run twice.
        is_out: whether the account has the post then.
        is_mended: whether the account's own block gets a new app password.
        by_hand: whether the person has posted the same text by hand meanwhile.
    """

    arrange: Callable[[Stage], UUID]
    at_first: str
    at_last: str
    is_out: bool
    is_mended: bool = True
    by_hand: bool = False


CASES = [
    Case(a_script, "Failed", "Failed", is_out=False),
    Case(a_script, "Failed", "Failed", is_out=True, by_hand=True),
    Case(a_script_that_an_earlier_version_held, "Held", "Held", is_out=False),
    Case(a_script_that_an_earlier_version_held, "Held", "Held", is_out=True, by_hand=True),
    Case(a_script_that_is_asked_to_hold, "Held", "Completed", is_out=True),
    Case(a_subflow, "Failed", "Failed", is_out=False),
    Case(a_deployment, "Held", "Completed", is_out=True),
    Case(a_deployment, "Held", "Held", is_out=False, is_mended=False),
    Case(a_preview, "Failed", "Failed", is_out=False),
    # Whoever holds in a flow of their own has it started again.
    Case(a_flow_of_another_team, "Held", "Scheduled", is_out=False),
    Case(an_object_of_the_same_account, "Held", "Completed", is_out=True),
    Case(an_object_whose_account_has_another_service, "Held", "Held", is_out=False, is_mended=False),
    Case(an_object_of_another_handle, "Held", "Held", is_out=False, is_mended=False),
    Case(a_block_that_is_another_accounts_by_now, "Held", "Held", is_out=False, is_mended=False),
    Case(a_block_beside_one_that_can_sign_in, "Held", "Held", is_out=False, is_mended=False),
    Case(a_block_beside_one_that_can_sign_in, "Held", "Completed", is_out=True),
    Case(a_post_that_was_dropped, "Dropped", "Dropped", is_out=False),
    Case(a_post_that_was_held_for_too_long, "Held", "Expired", is_out=False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.arrange.__name__)
def test_a_post_goes_out_once_or_never(
    case: Case, stage: Stage, publish_held: Flow[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = case.arrange(stage)
    assert states([run]) == [case.at_first]
    for name, value in stage.settings.items():
        monkeypatch.setenv(name, value)
    if case.is_mended:
        stage.stopped.mend()
    if case.by_hand:
        stage.stopped.credentials.publish(HELLO)
    for _ in range(2):
        publish_held(return_state=True)
    assert states([run]) == [case.at_last]
    assert stage.stopped.posts() == ["hello"] * case.is_out
    assert [post for pds, account in stage.others for post in pds.posts(account)] == []


def test_a_flow_of_another_team_publishes_once_when_it_starts_again(stage: Stage, publish_held: Flow[Any, Any]) -> None:
    @flow
    def announce() -> Any:
        try:
            return publish_post(stage.stopped.credentials, HELLO)
        except AuthError as error:
            return hold(error, stage.stopped.credentials)

    run, _ = run_deployed(announce, {})
    stage.stopped.mend()
    publish_held(stage.stopped.account.handle)
    forget_processes_memory()
    run_flow(announce, runs([run.id])[0], {})
    publish_held(stage.stopped.account.handle)
    assert (states([run.id]), stage.stopped.posts()) == (["Completed"], ["hello"])


def test_what_an_earlier_version_held_of_a_script_can_be_dropped(stage: Stage, publish_held: Flow[Any, Any]) -> None:
    run = a_script_that_an_earlier_version_held(stage)
    assert drop(run)
    stage.stopped.mend()
    publish_held(return_state=True)
    assert (states([run]), stage.stopped.posts()) == (["Dropped"], [])


def test_an_account_that_has_another_handle_by_now_sends(
    stage: Stage, publish: Flow[Any, Any], publish_held: Flow[Any, Any]
) -> None:
    pds, account, name = stage.stopped.pds, stage.stopped.pds.create_account(), f"account-{uuid4().hex[:8]}"
    by_did = BlueskyCredentials(handle=account.did, app_password=SecretStr("aaaa-bbbb-cccc-dddd"), service_url=pds.url)
    by_did.save(name)
    run = deployed_publish(publish, by_did, HELLO)
    assert run.state_name == "Held"
    block(pds, account).save(name, overwrite=True)
    publish_held()
    assert states([run.id]) == ["Completed"]
