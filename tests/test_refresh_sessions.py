"""The flow that keeps sessions warm, and the page that shows how the accounts are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.flows import Flow, load_flow_from_entrypoint

from prefect_bluesky import AuthProblem, BlueskyCredentials, sandbox
from prefect_bluesky.alerts.status_page import AccountHealth, Check, State, picture, status_page
from prefect_bluesky.planning.saved_accounts import saved_names
from tests.support import LOGIN, REFRESH, block, change_saved, counted, forget_processes_memory
from tests.world import wait_for

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)


def account(name: str, state: State = "well") -> AccountHealth:
    problem = AuthProblem.APP_PASSWORD_REJECTED if state == "stopped" else None
    return AccountHealth(
        account=f"{name}.test", block=name, state=state, problem=problem, remark=problem.remedy if problem else ""
    )


class TestPage:
    """The page itself."""

    def test_accounts_that_need_a_person_are_named_with_the_remedy(self) -> None:
        page = status_page([account("alice"), account("bob", "stopped")], [], NOW)
        assert "**1 of 2 accounts are well**, 2026-11-23 06:00 UTC." in page
        assert "| bob.test | stopped | app_password_rejected | Create a new app password" in page
        assert "| alice.test" not in page

    def test_healthy_accounts_are_reported_as_well(self) -> None:
        assert "**All accounts are well**" in status_page([account("alice")], [], NOW)

    def test_it_says_how_old_its_knowledge_is(self) -> None:
        page = status_page([account("alice"), account("bob", "not due")], [], NOW)
        assert "**All accounts were well when they were last asked**" in page

    def test_without_accounts_it_says_what_to_do_first(self) -> None:
        assert "save a Bluesky Credentials block" in status_page([], [], NOW)

    def test_of_a_thousand_accounts_it_shows_the_troubled_ones_first(self) -> None:
        accounts = [account(f"a{number}") for number in range(1000)] + [account("bob", "stopped")]
        page = status_page(accounts, [], NOW)
        assert "The last 1 checks of 40 accounts" in page
        assert "The other 961 accounts" in page
        assert len(page) < 100_000

    def test_its_picture_has_a_square_for_each_check(self) -> None:
        states: list[dict[str, State]] = [{"alice": "well"}, {"alice": "stopped"}, {}, {"alice": "well"}]
        history = [Check(NOW + timedelta(minutes=10 * number), found) for number, found in enumerate(states)]
        image = Image.open(BytesIO(picture([account("alice")], history))).convert("RGB")
        colours = {colour for _, colour in image.getcolors(1 << 16) or []}
        assert {(45, 164, 78), (207, 34, 46), (234, 238, 242)} <= colours


@pytest.fixture(scope="module")
def refresh_sessions() -> Flow[Any, Any]:
    """The flow as a deployment loads it."""
    flows = Path(__file__).parents[1] / "flows"
    return load_flow_from_entrypoint(f"{flows / 'refresh_sessions.py'}:refresh_sessions")


@pytest.mark.usefixtures("prefect_api")
class TestFlow:
    """The flow on a Prefect server."""

    @pytest.fixture
    def pds(self) -> Iterator[sandbox.Sandbox]:
        """A sandbox, whose accounts are the only saved ones."""
        for name in saved_names():
            BlueskyCredentials.delete(name)
        forget_processes_memory()
        with sandbox.run() as own:
            yield own
        for name in saved_names():
            BlueskyCredentials.delete(name)

    def test_old_sessions_are_refreshed_and_young_ones_left(self, pds: sandbox.Sandbox, refresh_sessions: Any) -> None:
        for name in ("one", "two"):
            block(pds, pds.create_account()).save(name)
        with counted(pds) as requests:
            refresh_sessions()
            refresh_sessions()
            refresh_sessions(max_age=timedelta())
        assert requests == {LOGIN: 2, REFRESH: 2}

    def test_only_what_was_asked_now_is_called_well(self, pds: sandbox.Sandbox, refresh_sessions: Any) -> None:
        block(pds, pds.create_account()).save("one")
        found = [refresh_sessions(return_state=True).message for _ in range(2)]
        assert found == ["1 well", "1 not due"]

    def test_a_dead_app_password_is_found_before_a_publish(self, pds: sandbox.Sandbox, refresh_sessions: Any) -> None:
        dead, well = pds.create_account(), pds.create_account()
        block(pds, dead).save("dead")
        block(pds, well).save("well")
        refresh_sessions()
        pds.revoke_app_password(dead)
        state = refresh_sessions(max_age=timedelta(), return_state=True)
        assert (state.name, state.message) == ("Completed", "1 stopped, 1 well")
        stopped, fine = latest_table()
        assert stopped == {
            "account": dead.handle,
            "DID": dead.did,
            "expiry": "",
            "state": "stopped",
            "problem": "app_password_revoked",
            "what to do": AuthProblem.APP_PASSWORD_REVOKED.remedy,
            "block": "dead",
        }
        assert (fine["account"], fine["state"], fine["problem"]) == (well.handle, "well", "")
        assert fine["expiry"].endswith("UTC")

    def test_an_account_whose_server_is_away_is_no_incident(self, pds: sandbox.Sandbox, refresh_sessions: Any) -> None:
        block(pds, pds.create_account()).save("one")
        refresh_sessions()
        pds.fail(REFRESH, status=503)
        refresh_sessions(max_age=timedelta())
        (row,) = latest_table()
        assert (row["state"], row["problem"]) == ("not reached", "service_unavailable")

    @pytest.mark.parametrize("broken_by", [{"handle": "no handle at all"}, {"unknown_field": 1}])
    def test_a_block_that_cannot_be_used_stops_no_other(
        self, pds: sandbox.Sandbox, refresh_sessions: Any, broken_by: dict[str, Any]
    ) -> None:
        block(pds, pds.create_account()).save("fine")
        broken = f"broken-{uuid4().hex[:8]}"
        block(pds, pds.create_account()).save(broken)
        change_saved(broken, broken_by)
        refresh_sessions()
        assert [row["state"] for row in latest_table()] == ["unusable", "well"]

    def test_a_block_that_cannot_be_used_is_told_of_once_and_so_is_its_end(
        self, pds: sandbox.Sandbox, refresh_sessions: Any
    ) -> None:
        broken = f"broken-{uuid4().hex[:8]}"
        credentials = block(pds, pds.create_account())
        credentials.save(broken)
        change_saved(broken, {"handle": "no handle at all"})
        for expected in (["unusable"], ["unusable"]):
            refresh_sessions()
            wait_for(lambda: told_of(broken) == expected, "the event")  # noqa: B023
        credentials.save(broken, overwrite=True)
        refresh_sessions()
        wait_for(lambda: told_of(broken) == ["unusable", "usable"], "the event")

    def test_its_page_is_kept_current_under_one_key_and_remembers(
        self, pds: sandbox.Sandbox, refresh_sessions: Any
    ) -> None:
        block(pds, pds.create_account()).save("one")
        for _ in range(2):
            refresh_sessions()
        page = str(latest("bluesky-accounts"))
        assert "All accounts were well when they were last asked" in page
        assert "data:image/png;base64," in page
        checks = int(page.partition("![The last ")[2].partition(" checks")[0])
        assert checks >= 2


def told_of(block: str) -> list[str]:
    """Return what Prefect heard of a saved block, the oldest first."""
    wanted = EventFilter(
        event=EventNameFilter(prefix=["bluesky.block."]), resource=EventResourceFilter(id=[f"bluesky.block.{block}"])
    )
    with get_client(sync_client=True) as client:
        found = client.read_events(wanted, limit=50).events
    return [event.event.rpartition(".")[2] for event in sorted(found, key=lambda event: event.occurred)]


def latest(key: str) -> Any:
    """Return the data of the latest artifact of a key."""
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), sort=ArtifactSort.CREATED_DESC, limit=1
        )
    return artifact.data


def latest_table() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(latest("bluesky-sessions"))
    return rows
