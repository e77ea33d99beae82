"""The runs of `publish-due` for posts that were planned long ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.flows import Flow

from prefect_bluesky import sandbox
from prefect_bluesky.planning import plan_ahead
from tests.support import SavedAccount, planned_deployments, run_to_state, runs_of

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(autouse=True)
def _deployed(prefect_api: str) -> None:
    planned_deployments()


def names() -> set[str]:
    """The names of the runs that publish planned posts."""
    return {run.name for run in runs_of(planned_deployments()[1])}


def minute(at: datetime) -> str:
    """The name of a minute's run."""
    return f"publish what is due at {at:%Y-%m-%d %H:%M} UTC"


def in_time(**ahead: int) -> datetime:
    """A minute that is so far ahead."""
    return (datetime.now(UTC) + timedelta(**ahead)).replace(second=0, microsecond=0)


def test_a_minute_of_the_next_day_has_its_run_at_once_and_a_later_one_not_yet(
    pds: sandbox.Sandbox, publish_batch: Flow[Any, Any]
) -> None:
    alice, (soon, later) = SavedAccount(pds), (in_time(hours=20), in_time(hours=50))
    state = run_to_state(publish_batch, items=[alice.item("soon", at=soon), alice.item("later", at=later)])
    assert state.message == "2 scheduled"
    assert (minute(soon) in names(), minute(later) in names()) == (True, False)


def test_a_minute_that_comes_near_gets_its_run(
    pds: sandbox.Sandbox, publish_batch: Flow[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the post had been planned two days before.
    monkeypatch.setattr("prefect_bluesky.planning.dispatchers._PLANNED_AHEAD", timedelta())
    alice, at = SavedAccount(pds), in_time(minutes=22)
    run_to_state(publish_batch, items=[alice.item("near", at=at)])
    assert minute(at) not in names()
    plan_ahead()
    assert minute(at) in names()
