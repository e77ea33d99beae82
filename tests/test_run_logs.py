"""The log of a run of a deployment on a worker: one cause, once, and no traceback for what is expected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import Log
from prefect.client.schemas.sorting import LogSort

from prefect_bluesky import sandbox
from tests.support import block
from tests.world import World, wait_for, world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prefect(no_prefect_api: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A Prefect server with a worker."""
    with world(tmp_path_factory.mktemp("prefect")) as made:
        made.start_worker()
        yield made


def saved(pds: sandbox.Sandbox, account: Any) -> dict[str, Any]:
    """The saved block of an account, as a run's parameter."""
    return {"$ref": {"block_document_id": str(block(pds, account).save(f"account-{uuid4().hex[:8]}"))}}


def log_of(run: UUID) -> list[Log]:
    """Return the log of a run that has ended, with its last line."""

    def read() -> list[Log]:
        with get_client(sync_client=True) as client:
            wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
            return client.read_logs(wanted, limit=200, sort=LogSort.TIMESTAMP_ASC)

    def has_ended() -> bool:
        return any(line.name == "prefect.flow_runs" and "Finished in state" in line.message for line in read())

    wait_for(has_ended, "the end of the log")
    return read()


def test_a_held_run_names_its_cause_once(prefect: World, pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    pds.revoke_app_password(account)
    run = prefect.start_run("publish/publish", credentials=saved(pds, account), post={"text": "Hello"})
    assert prefect.ended([run]) == ["Held"]
    lines = log_of(run)
    assert [line.message for line in lines if "Traceback" in line.message or "exited" in line.message] == []
    (cause,) = [line.message for line in lines if "does not accept this app password" in line.message]
    assert cause.startswith("Finished in state Held(")


def test_a_published_run_shows_the_address_as_its_message(prefect: World, pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    run = prefect.start_run("publish/publish", credentials=saved(pds, account), post={"text": "Hello"})
    assert prefect.ended([run]) == ["Completed"]
    (ended,) = prefect.runs([run])
    rkey = pds.posts(account)[0]["uri"].rpartition("/")[2]
    assert ended.state is not None
    assert ended.state.message == f"Published https://bsky.app/profile/{account.handle}/post/{rkey}"


@pytest.mark.parametrize(
    ("deployment", "parameters", "said"),
    [
        ("publish/publish", {"post": {"text": "x", "images": [{"source": "/nowhere.png"}]}}, "/nowhere.png"),
        (
            "publish/publish",
            {"post": {"text": "x" * 310}},
            "Shorten it, or tick Split a long text (in publish-advanced)",
        ),
        (
            "publish-batch/publish-batch",
            {"items": [{"account": "a", "post": {"text": "x" * 310}}]},
            "tick Split a long",
        ),
        ("publish-batch/publish-batch", {"calendar": "/nowhere.yaml"}, "/nowhere.yaml"),
        ("publish-batch/publish-batch", {"items": [{"account": "nobody", "post": {"text": "x"}}]}, "nobody"),
        ("compose/compose", {"idea": "x", "channels": ["bluesky"], "timezone": "Nowhere"}, "Nowhere"),
        ("compose/compose", {"idea": "x"}, "channels: no channel is given."),
        ("compose-new/compose-new", {"source": "/nowhere"}, "channels: no channel is given."),
        ("publish-variant/publish-variant", {"channel": "x/y", "key": "k"}, "x"),
        ("report/report", {"timezone": "Nowhere"}, "Nowhere"),
    ],
)
def test_a_run_that_fails_for_an_expected_reason_says_it_without_a_traceback(
    prefect: World, pds: sandbox.Sandbox, deployment: str, parameters: dict[str, Any], said: str
) -> None:
    if deployment == "publish/publish":
        parameters = parameters | {"credentials": saved(pds, pds.create_account())}
    if deployment == "publish-variant/publish-variant":
        parameters = parameters | {"variant": {"kind": "hook", "posts": ["x"]}}
    run = prefect.start_run(deployment, **parameters)
    assert prefect.ended([run]) == ["Failed"]
    (ended,) = prefect.runs([run])
    assert ended.state is not None
    assert said in str(ended.state.message)
    assert [line.message for line in log_of(run) if "Traceback" in line.message or "exited" in line.message] == []
