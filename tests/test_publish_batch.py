"""Many posts of many accounts in one run: what goes out, what is scheduled, what is held, and what it says of each."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import ArtifactSort
from prefect.flows import Flow
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled

from prefect_bluesky import PlannedPost, sandbox
from prefect_bluesky.planning import read_entries
from prefect_bluesky.planning.scheduled_runs import text_of
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

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)


@pytest.fixture
def deployment(prefect_api: str) -> UUID:
    """The deployment `publish/planned`, whose runs no worker takes."""
    planned, _ = planned_deployments()
    return planned


def artifact(key: str) -> str:
    """The artifact that the last run has made."""
    with get_client(sync_client=True) as client:
        (found,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), sort=ArtifactSort.CREATED_DESC, limit=1
        )
    return str(found.data)


def table(key: str) -> list[dict[str, Any]]:
    """The table that the last run has made."""
    rows: list[dict[str, Any]] = json.loads(artifact(key))
    return rows


def test_posts_of_one_account_share_a_commit_and_a_login(
    alice: SavedAccount, bob: SavedAccount, publish_batch: Flow[Any, Any]
) -> None:
    items = [saved.item(f"{number}") for number in range(3) for saved in (alice, bob)]
    with counted(alice.pds) as requests:
        state = run_to_state(publish_batch, items=items)
    assert (state.name, state.message) == ("Completed", "6 published")
    assert requests == {LOGIN: 2, WRITE: 2}
    assert alice.texts == bob.texts == ["0", "1", "2"]


def test_the_table_tells_of_each_account(alice: SavedAccount, publish_batch: Flow[Any, Any]) -> None:
    run_to_state(publish_batch, items=[alice.item("Hello")])
    (row,) = table("bluesky-batch")
    assert row.pop("session expires").endswith("UTC")
    assert row.pop("last post").startswith(f"https://bsky.app/profile/{alice.account.handle}/post/")
    counts = {"published": 1, "already out": 0, "scheduled": 0, "held": 0, "failed": 0, "expired": 0, "too late": 0}
    assert row == {"account": alice.name, **counts}


class TestTrouble:
    """Trouble of one account or one post, which no other has to bear."""

    @pytest.mark.slow
    def test_a_dead_account_is_held_and_the_others_are_out(
        self,
        alice: SavedAccount,
        bob: SavedAccount,
        deployment: UUID,
        publish_batch: Flow[Any, Any],
        publish_held: Flow[Any, Any],
    ) -> None:
        before = runs_of(deployment)
        alice.pds.revoke_app_password(alice.account)
        items = [saved.item(f"{number}") for number in range(2) for saved in (alice, bob)]
        state = run_to_state(publish_batch, items=items)
        assert state.name == "Failed"
        assert state.message is not None
        assert state.message.startswith(f"2 published, 2 held. {alice.name}, items[0], items[2]: ")
        assert "app_password_rejected" in state.message
        assert (alice.texts, bob.texts) == ([], ["0", "1"])
        held = [each for each in runs_of(deployment) if each not in before]
        assert [each.state_name for each in held] == ["Held", "Held"]
        assert [len(artifacts_of(each.id)) for each in held] == [1, 1]

        new = alice.pds.create_app_password(alice.account, "new")
        block(alice.pds, alice.account, app_password=new).save(alice.name, overwrite=True)
        run_to_state(publish_held)
        assert alice.texts == ["0", "1"]

    def test_without_the_deployment_it_says_that_nothing_is_kept(
        self, alice: SavedAccount, publish_batch: Flow[Any, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("prefect_bluesky.planning.scheduled_runs.DEPLOYMENT", "publish/nowhere")
        state = run_to_state(publish_batch, items=[alice.item("now"), alice.item("later", at=SOON)])
        assert state.name == "Failed"
        assert alice.texts == ["now"]
        (problem,) = table("bluesky-batch-problems")
        assert "prefect-bluesky setup" in problem["what"]

    def test_an_unknown_account_is_named(self, alice: SavedAccount, publish_batch: Flow[Any, Any]) -> None:
        state = run_to_state(publish_batch, items=[{"account": "nobody", "text": "lost?"}, alice.item("out")])
        assert alice.texts == ["out"]
        assert state.message is not None
        assert "nobody, items[0]: no block nobody is saved. Save it." in state.message

    def test_a_post_that_cannot_go_out_stops_none_of_the_others(
        self, alice: SavedAccount, publish_batch: Flow[Any, Any]
    ) -> None:
        broken = alice.item("picture", images=[{"source": "/nowhere.png", "alt": "none"}])
        state = run_to_state(publish_batch, items=[alice.item("first"), broken, alice.item("last")])
        assert alice.texts == ["first", "last"]
        assert state.message is not None
        assert state.message.startswith(f"2 published, 1 failed. {alice.name}, items[1]: images[0]")

    def test_passing_trouble_is_waited_for(
        self, alice: SavedAccount, publish_batch: Flow[Any, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice.pds.fail(WRITE, status=503, times=2)
        assert run_to_state(publish_batch, items=[alice.item("after all")]).name == "Completed"
        assert alice.texts == ["after all"]

    def test_a_limit_that_the_server_names_is_waited_for(
        self, alice: SavedAccount, publish_batch: Flow[Any, Any]
    ) -> None:
        alice.pds.fail(WRITE, status=429, error="RateLimitExceeded", headers={"retry-after": "1"})
        assert run_to_state(publish_batch, items=[alice.item("after all")]).name == "Completed"
        assert alice.texts == ["after all"]

    def test_who_would_have_to_wait_for_hours_is_held(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any]
    ) -> None:
        before = runs_of(deployment)
        alice.pds.fail(WRITE, status=429, error="RateLimitExceeded", headers={"retry-after": "7200"})
        state = run_to_state(publish_batch, items=[alice.item("tomorrow")])
        assert state.message is not None
        assert state.message.startswith("1 held")
        assert [each.state_name for each in runs_of(deployment) if each not in before] == ["Held"]


class TestSchedule:
    """Posts that are due later."""

    def test_later_posts_become_runs_of_publish(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any]
    ) -> None:
        before = runs_of(deployment)
        items = [
            alice.item("now"),
            alice.item("later", at=SOON, key="k"),
            alice.item("even later", at=SOON + timedelta(1)),
        ]
        state = run_to_state(publish_batch, items=items)
        assert (state.name, state.message) == ("Completed", "1 published, 2 scheduled")
        assert alice.texts == ["now"]
        first, second = [each for each in runs_of(deployment) if each not in before]
        assert (first.state_name, first.expected_start_time, first.parameters["key"]) == ("Scheduled", SOON, "k")
        assert first.parameters["credentials"].keys() == {"$ref"}
        assert second.parameters["post"] == {"text": "even later"}

    def test_a_calendar_twice_publishes_and_schedules_nothing_twice(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any], tmp_path: Path
    ) -> None:
        before = runs_of(deployment)
        file = tmp_path / f"{tmp_path.name}.json"
        file.write_text(json.dumps([alice.item("now"), alice.item("later", at=SOON.isoformat())]))
        messages = [run_to_state(publish_batch, calendar=str(file)).message for _ in range(2)]
        assert messages == ["1 published, 1 scheduled", "1 already out, 1 unchanged"]
        assert alice.texts == ["now"]
        assert len(runs_of(deployment)) == len(before) + 2

    def test_a_cancelled_post_stays_cancelled(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any]
    ) -> None:
        later = [alice.item("never", at=SOON)]
        run_to_state(publish_batch, items=later)
        with get_client(sync_client=True) as client:
            (run_of_it,) = [each for each in runs_of(deployment) if each.parameters["post"] == {"text": "never"}]
            client.set_flow_run_state(run_of_it.id, Cancelled(), force=True)
        assert run_to_state(publish_batch, items=later).message == "1 cancelled"

    def test_a_post_under_its_key_follows_what_is_given_later(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any]
    ) -> None:
        run_to_state(publish_batch, items=[alice.item("as it was", at=SOON, key="k")])
        state = run_to_state(publish_batch, items=[alice.item("as it shall be", at=SOON, key="k")])
        assert state.message == "1 changed"
        texts = set(map(text_of, runs_of(deployment)))
        assert ("as it was" in texts, "as it shall be" in texts) == (False, True)

    def test_a_time_without_an_offset_holds_in_the_timezone(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any]
    ) -> None:
        run_to_state(publish_batch, items=[alice.item("morning", at="2099-07-01T08:00:00")], timezone="Europe/Berlin")
        assert runs_of(deployment)[-1].expected_start_time == datetime(2099, 7, 1, 6, tzinfo=UTC)

    def test_a_failed_run_is_another_attempt(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any]
    ) -> None:
        now = datetime.now(UTC)
        with get_client(sync_client=True) as client:
            run_to_state(publish_batch, items=[alice.item("due", at=now + timedelta(seconds=2), key="k")])
            (run_of_it,) = [each for each in runs_of(deployment) if each.parameters["post"] == {"text": "due"}]
            client.set_flow_run_state(run_of_it.id, State(type="FAILED"), force=True)
        assert run_to_state(publish_batch, items=[alice.item("due", at=now, key="k")]).message == "1 published"
        assert alice.texts == ["due"]

    def test_a_failed_run_of_a_later_post_is_planned_again(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any]
    ) -> None:
        later = [alice.item("again", at=SOON)]
        run_to_state(publish_batch, items=later)
        (run_of_it,) = [each for each in runs_of(deployment) if each.parameters["post"] == {"text": "again"}]
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_of_it.id, State(type="FAILED"), force=True)
            assert run_to_state(publish_batch, items=later).message == "1 scheduled"
            assert client.read_flow_run(run_of_it.id).state_name == "Scheduled"

    def test_more_posts_than_prefect_takes_in_a_request_are_all_planned(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any]
    ) -> None:
        items = [alice.item(f"one of many: {number}", at=SOON) for number in range(101)]
        assert run_to_state(publish_batch, items=items).message == "101 scheduled"
        assert {item["text"] for item in items} <= set(map(text_of, runs_of(deployment)))

    def test_a_post_that_the_database_refuses_fails_alone(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any], tmp_path: Path
    ) -> None:
        at, image = SOON.isoformat(), {"source": "cat.png", "alt": "a \0"}
        items = [alice.item("kept", at=at), alice.item("not", at=at, images=[image]), alice.item("kept too", at=at)]
        file = tmp_path / f"{tmp_path.name}.json"
        file.write_text(json.dumps(items))
        # Prefect's client takes what PostgreSQL refuses for a server that is busy, and asks for a minute.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            state = run_to_state(publish_batch, calendar=str(file))
        assert str(state.message).startswith(f"2 scheduled, 1 failed. {alice.name}, post 2: The post could not be kept")
        assert {"kept", "kept too"} <= set(map(text_of, runs_of(deployment)))

    def test_two_posts_under_one_key_are_told(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any]
    ) -> None:
        items = [alice.item("one", at=SOON, key="same"), alice.item("two", at=SOON, key="same")]
        state = run_to_state(publish_batch, items=items)
        assert str(state.message).startswith("1 scheduled, 1 failed")
        assert f"items[1]: key: items[0] of {alice.name} also has 'same'." in str(state.message)

    def test_a_failed_run_of_an_account_that_died_is_held_and_not_forgotten(
        self, alice: SavedAccount, deployment: UUID, publish_batch: Flow[Any, Any]
    ) -> None:
        alice.pds.revoke_app_password(alice.account)
        soon = datetime.now(UTC) + timedelta(seconds=2)
        run_to_state(publish_batch, items=[alice.item("lost?", at=soon, key="k")])
        (run_of_it,) = [each for each in runs_of(deployment) if each.parameters["post"] == {"text": "lost?"}]
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_of_it.id, State(type="FAILED"), force=True)
            wait_for(lambda: datetime.now(UTC) > soon, "the planned time")
            state = run_to_state(publish_batch, items=[alice.item("lost?", at=soon, key="k")])
            assert str(state.message).startswith("1 held")
            assert client.read_flow_run(run_of_it.id).state_name == "Held"


class TestInput:
    """The flow's parameters."""

    @pytest.mark.parametrize("given", [{}, {"items": [{"account": "a", "text": "Hi"}], "calendar": "c.yaml"}])
    def test_the_flow_takes_posts_or_a_calendar(self, publish_batch: Flow[Any, Any], given: dict[str, Any]) -> None:
        assert "pass items or a calendar, not both. Pass exactly one of them." in str(
            run_to_state(publish_batch, **given).message
        )

    def test_an_unknown_timezone_is_named(self, alice: SavedAccount, publish_batch: Flow[Any, Any]) -> None:
        items = [alice.item("Hi"), alice.item("Later", at="2099-07-01 08:00"), alice.item("Then", at=SOON)]
        state = run_to_state(publish_batch, items=items, timezone="Mars")
        assert str(state.message).startswith(f"1 published, 1 scheduled, 1 failed. {alice.name}, items[1]: timezone: ")
        assert "there is no time zone 'Mars'" in str(state.message)

    def test_a_dry_run_sends_nothing(self, alice: SavedAccount, publish_batch: Flow[Any, Any]) -> None:
        with counted(alice.pds) as requests:
            state = run_to_state(publish_batch, items=[alice.item("now"), alice.item("later", at=SOON)], dry_run=True)
        assert (state.message, requests) == ("1 due, 1 due later", {})
        page = artifact("bluesky-batch-preview")
        unbroken = str.maketrans(" -", "\N{NO-BREAK SPACE}\N{NON-BREAKING HYPHEN}")
        when = f"{SOON:%a %Y-%m-%d %H:%M} UTC".translate(unbroken)
        assert f"| `+` | now | {alice.name} | now |" in page
        assert f"| `+` | {when} | {alice.name} | later |" in page

    def test_a_bad_row_of_a_calendar_stops_no_other(
        self, alice: SavedAccount, publish_batch: Flow[Any, Any], tmp_path: Path
    ) -> None:
        file = tmp_path / f"{tmp_path.name}.csv"
        file.write_text(f"account,text\n{alice.name},good\n{alice.name},{'x' * 301}\n{alice.name},also good\n")
        state = run_to_state(publish_batch, calendar=str(file))
        assert alice.texts == ["also good", "good"]
        assert "row 3: post: text: it has 301 characters" in str(state.message)


class TestTooLate:
    """Posts of a calendar that were due long ago."""

    @staticmethod
    def calendar(folder: Path, account: SavedAccount, *days: int) -> str:
        """A calendar with a post for each number of days before today."""
        now = datetime.now(UTC)
        file = folder / f"{folder.name}.json"
        times = {day: (now - timedelta(days=day)).strftime("%Y-%m-%d %H:%M") for day in days}
        file.write_text(json.dumps([account.item(f"{day} days", at=at) for day, at in times.items()]))
        return str(file)

    def test_a_year_that_is_mistyped_publishes_nothing(
        self, pds: sandbox.Sandbox, publish_batch: Any, tmp_path: Path
    ) -> None:
        alice = SavedAccount(pds)
        state = run_to_state(publish_batch, calendar=self.calendar(tmp_path, alice, 366, 365, 0))
        assert alice.texts == ["0 days"]
        assert (state.name, state.message) == (
            "Completed",
            "1 published, 2 too late (due more than 24 hours ago, see the setting SEND_LATE)",
        )

    def test_a_late_post_that_is_out_is_not_called_changed(
        self, pds: sandbox.Sandbox, deployment: UUID, publish_batch: Any, tmp_path: Path
    ) -> None:
        alice = SavedAccount(pds)
        calendar = self.calendar(tmp_path, alice, 30)
        ((_, planned),) = read_entries((), calendar, "", "UTC").entries
        assert isinstance(planned, PlannedPost)
        block(pds, alice.account).publish(planned.post, key=planned.key)
        messages = [run_to_state(publish_batch, calendar=calendar).message for _ in range(2)]
        assert messages == ["1 already out", "1 already out"]

    def test_what_is_out_is_called_out(
        self, pds: sandbox.Sandbox, publish_batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice = SavedAccount(pds)
        calendar = self.calendar(tmp_path, alice, 30)
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_SEND_LATE", "P60D")
        assert run_to_state(publish_batch, calendar=calendar).message == "1 published"
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_SEND_LATE", "P1D")
        assert run_to_state(publish_batch, calendar=calendar).message == "1 already out"
