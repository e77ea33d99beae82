"""Planned posts as a person sees and changes them: `prefect-bluesky planned`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import ArtifactSort
from prefect.flows import Flow
from prefect.states import Completed

from prefect_bluesky import sandbox
from prefect_bluesky.planning import find_plan
from tests.support import SavedAccount, planned_deployments, run_to_state, runs_of

pytestmark = pytest.mark.usefixtures("prefect_api")

CHRISTMAS = datetime(2027, 12, 24, 18, tzinfo=UTC)

Script = Callable[..., tuple[object, str]]


@pytest.fixture
def planned(prefect_api: str) -> UUID:
    """The deployment `publish/planned`."""
    return planned_deployments()[0]


@pytest.fixture
def alice(pds: sandbox.Sandbox, planned: UUID) -> SavedAccount:
    return SavedAccount(pds)


@pytest.fixture
def run(alice: SavedAccount, planned: UUID, publish_batch: Flow[Any, Any]) -> FlowRun:
    """The run of a planned post."""
    before = {each.id for each in runs_of(planned)}
    run_to_state(publish_batch, items=[alice.item("Merry Christmas", at=CHRISTMAS, key=f"christmas of {alice.name}")])
    (new,) = (each for each in runs_of(planned) if each.id not in before)
    return new


@pytest.fixture
def command(script: Callable[..., tuple[object, str]]) -> Script:
    """Run `planned.py` with arguments; its exit (None: well) and what it printed."""

    def run_it(*arguments: str) -> tuple[object, str]:
        return script("planned.py", *arguments)

    return run_it


def now(run: FlowRun) -> FlowRun:
    """A run as it is now."""
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.id)


def dispatchers() -> list[str]:
    """The names of the runs that publish planned posts."""
    return [run.name for run in runs_of(planned_deployments()[1])]


def test_list_and_show_say_what_goes_out_when(run: FlowRun, alice: SavedAccount, command: Script) -> None:
    _, listed = command("list", "--account", alice.account.handle)
    assert all(each in listed for each in (str(run.id)[:13], "2027-12-24 18:00", "Merry Christmas"))
    _, shown = command("show", str(run.id)[:20])
    assert all(each in shown for each in (str(run.id), f"christmas of {alice.name}", '"text": "Merry Christmas"'))


def test_another_accounts_list_does_not_have_it(run: FlowRun, command: Script) -> None:
    assert command("list", "--account", "nobody.test") == (None, "Nothing is planned.\n")


def test_move_gives_another_time_by_key(run: FlowRun, alice: SavedAccount, command: Script) -> None:
    key = f"christmas of {alice.name}"
    _, said = command("move", key, "2027-12-25 08:00", "--timezone", "Europe/Berlin")
    moved = find_plan(key)
    assert said == f"Moved to 2027-12-25 08:00 CET. Its run is now {str(moved.id)[:13]}.\n"
    assert now(run).state_name == "Moved"
    assert moved.expected_start_time == datetime(2027, 12, 25, 7, tzinfo=UTC)
    assert moved.name == f"{alice.account.handle} · 25 Dec 08:00 · Merry Christmas"
    assert (moved.parameters, moved.tags) == (run.parameters, run.tags)
    assert "publish what is due at 2027-12-25 07:00 UTC" in dispatchers()


def test_a_moved_post_stays_moved_when_its_calendar_is_read_again(
    run: FlowRun, alice: SavedAccount, command: Script, publish_batch: Flow[Any, Any]
) -> None:
    key = f"christmas of {alice.name}"
    command("move", key, "2027-12-25 08:00")
    again = run_to_state(publish_batch, items=[alice.item("Merry Christmas", at=CHRISTMAS, key=key)])
    assert again.message == "1 edited by a person"
    assert find_plan(key).expected_start_time == datetime(2027, 12, 25, 8, tzinfo=UTC)


def test_move_into_the_past_says_that_the_post_goes_out_at_once(
    run: FlowRun, alice: SavedAccount, command: Script
) -> None:
    _, said = command("move", str(run.id), "2026-01-01 08:00")
    assert said.startswith("2026-01-01 08:00 UTC has passed: the post goes out at once. Its run is now ")
    assert "publish what is overdue" in dispatchers()
    with get_client(sync_client=True) as client:
        client.delete_flow_run(find_plan(f"christmas of {alice.name}").id)


def test_change_gives_another_text_and_other_fields(run: FlowRun, alice: SavedAccount, command: Script) -> None:
    command("change", str(run.id), "--text", "Happy · New Year", "--fields", '{"languages": ["en"]}')
    changed = now(run)
    assert changed.parameters["post"] == {"text": "Happy · New Year", "languages": ["en"]}
    assert changed.parameters["key"] == run.parameters["key"]
    assert changed.name == f"{alice.account.handle} · 24 Dec 18:00 · Happy · New Year"


def test_drop_cancels_it(run: FlowRun, command: Script) -> None:
    assert command("drop", str(run.id)) == (None, f"Dropped: {run.name}\n")
    assert now(run).state_name == "Dropped"


BAD: dict[str, tuple[list[str], str]] = {
    "a text that is too long": (["change", "RUN", "--text", "x" * 301], "post: text: "),
    "an unknown field": (["change", "RUN", "--fields", '{"colour": "red"}'], "post: colour: "),
    "no JSON": (["change", "RUN", "--fields", "{"], "--fields: this is not JSON"),
    "no object": (["change", "RUN", "--fields", "[]"], "--fields: this is not a JSON object."),
    "no change": (["change", "RUN"], "change: nothing to change was given."),
    "no time": (["move", "RUN", "soon"], "time: 'soon' is not a time. Write a time such as 2026-12-01 08:00."),
    "an unknown zone": (["move", "RUN", "2027-01-01", "--timezone", "Mars"], "timezone: there is no time zone 'Mars'."),
    "an unknown run": (["drop", "nothing"], "run: 'nothing': no post that is still planned has such an id or key."),
}


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_named_and_changes_nothing(run: FlowRun, command: Script, arguments: list[str], said: str) -> None:
    ended, _ = command(*(str(run.id) if each == "RUN" else each for each in arguments))
    assert str(ended).startswith(said)
    assert (now(run).parameters, now(run).state_name) == (run.parameters, "Scheduled")


def test_what_is_out_cannot_be_changed(run: FlowRun, command: Script) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Completed(), force=True)
    ended, _ = command("drop", str(run.id))
    assert str(ended).startswith(f"run: {str(run.id)!r}: no post that is still planned")


def test_the_calendar_shows_it(run: FlowRun, alice: SavedAccount, command: Script) -> None:
    at = datetime.now(UTC).replace(microsecond=0, second=0)
    command("move", str(run.id), f"{at.replace(year=at.year):%Y-%m-%d} 23:59")
    with get_client(sync_client=True) as client:
        (page,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["bluesky-calendar"])),
            sort=ArtifactSort.CREATED_DESC,
            limit=1,
        )
    assert f"| {alice.account.handle} | Merry Christmas |" in str(page.data)
