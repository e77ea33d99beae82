"""Planned posts on real servers: what a worker publishes at its time, and what is left when the worker dies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.states import AwaitingRetry, Cancelled

from prefect_bluesky.planning.sign_of_life import living
from tests.pds.server import RealPds
from tests.prefect_server import postgresql
from tests.support import SavedAccount, run_to_state, runs_of
from tests.world import World, wait_for, world

pytestmark = [pytest.mark.slow, pytest.mark.pds]

FLOWS = Path(__file__).parents[1] / "flows"
ACCOUNTS = 3


@pytest.fixture(scope="module")
def there(no_prefect_api: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A Prefect server, set up, without a worker."""
    with postgresql() as database, world(tmp_path_factory.mktemp("world"), database) as made:
        yield made


class Calendar:
    """Posts that are planned for a time, and their runs."""

    def __init__(self, pds: RealPds, at: datetime) -> None:
        self.accounts = [SavedAccount(pds) for _ in range(ACCOUNTS)]
        self.at = at
        with get_client(sync_client=True) as client:
            self._planned = client.read_deployment_by_name("publish/planned").id
            self._due = client.read_deployment_by_name("publish-due/publish-due").id
        before = {run.id for run in runs_of(self._planned)}
        self._earlier = {run.id for run in runs_of(self._due)}
        flow: Flow[Any, Any] = load_flow_from_entrypoint(f"{FLOWS / 'publish_batch.py'}:publish_batch")
        run_to_state(flow, items=[each.item("On time", at=at) for each in self.accounts])
        self.runs = [run.id for run in runs_of(self._planned) if run.id not in before]

    @property
    def dispatchers(self) -> list[UUID]:
        """The runs that publish them."""
        return [run.id for run in runs_of(self._due) if run.id not in self._earlier]

    def wait_for_its_run(self) -> None:
        """Wait until a run is about to publish them."""
        wait_for(lambda: living(self.dispatchers, datetime.now(UTC)), "a run of publish-due")

    @property
    def texts(self) -> list[list[str]]:
        """The texts of each account."""
        return [each.texts for each in self.accounts]


def soon() -> datetime:
    """A time when a worker has started a run by then."""
    return (datetime.now(UTC) + timedelta(seconds=45)).replace(microsecond=0)


def test_a_worker_publishes_at_the_time(there: World, real_pds: RealPds) -> None:
    there.start_worker()
    calendar = Calendar(real_pds, soon())
    assert there.ended(calendar.runs) == ["Completed"] * ACCOUNTS
    assert calendar.texts == [["On time"]] * ACCOUNTS
    messages = [run.state and run.state.message for run in there.runs(calendar.runs)]
    assert not [message for message in messages if "late" in str(message)]
    there.kill_workers()


def test_what_a_person_retries_in_the_ui_goes_out(there: World, real_pds: RealPds) -> None:
    there.start_worker()
    calendar = Calendar(real_pds, datetime.now(UTC) + timedelta(days=1))
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(calendar.runs[0], Cancelled(), force=True)
        # The state that the button gives a run.
        client.set_flow_run_state(calendar.runs[0], AwaitingRetry(), force=True)
    assert there.ended(calendar.runs[:1]) == ["Completed"]
    assert calendar.texts.count(["On time"]) == 1
    there.kill_workers()


def test_what_a_dead_worker_leaves_goes_out_once(there: World, real_pds: RealPds) -> None:
    there.start_worker()
    calendar = Calendar(real_pds, soon())
    calendar.wait_for_its_run()
    there.kill_workers()
    there.start_worker()
    assert there.ended(calendar.runs) == ["Completed"] * ACCOUNTS
    assert calendar.texts == [["On time"]] * ACCOUNTS
    assert datetime.now(UTC) - calendar.at < timedelta(minutes=5)
    there.kill_workers()


def test_a_server_that_is_down_at_the_time_delays_posts_by_no_more_than_that(there: World, real_pds: RealPds) -> None:
    there.start_worker()
    calendar = Calendar(real_pds, soon())
    calendar.wait_for_its_run()
    there.server.kill()
    wait_for(lambda: datetime.now(UTC) > calendar.at + timedelta(seconds=5), "the time of the posts")
    assert calendar.texts == [[]] * ACCOUNTS
    there.server.start()
    assert there.ended(calendar.runs) == ["Completed"] * ACCOUNTS
    assert calendar.texts == [["On time"]] * ACCOUNTS
    there.kill_workers()


def test_posts_go_out_whose_lateness_a_starting_server_tells_nobody(there: World, real_pds: RealPds) -> None:
    calendar = Calendar(real_pds, soon())
    with get_client(sync_client=True) as client:
        for run in there.runs(calendar.dispatchers):
            if run.parameters.get("due"):
                client.delete_flow_run(run.id)
    there.start_worker()
    wait_for(lambda: "Completed" in there.states(calendar.dispatchers), "the run that a worker's start starts")
    there.server.kill()
    wait_for(lambda: datetime.now(UTC) > calendar.at + timedelta(seconds=20), "a time at which Prefect calls runs late")
    there.server.start()
    assert there.ended(calendar.runs) == ["Completed"] * ACCOUNTS
    assert calendar.texts == [["On time"]] * ACCOUNTS
