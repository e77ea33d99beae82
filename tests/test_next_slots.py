"""Ideas whose posts take the next free slots of their channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow, load_flow_from_entrypoint
from pydantic import SecretStr

from prefect_bluesky import MastodonCredentials, PostingSchedule, sandbox
from tests import mastodon_server
from tests.support import SavedAccount, planned_deployments, run_to_state, runs_of

pytestmark = pytest.mark.usefixtures("prefect_api")

FLOWS = Path(__file__).parents[1] / "flows"
IDEA = "Release 2.0 is out. It is twice as fast.\n\nWe rewrote the scheduler, which took a year, and was worth it."
SLOTS = "daily 09:00, 17:00"


@pytest.fixture
def channels(pds: sandbox.Sandbox) -> Iterator[tuple[str, str]]:
    """An account on Bluesky and one on Mastodon."""
    with mastodon_server.run() as mastodon:
        name = SavedAccount(pds).name
        MastodonCredentials(instance_url=mastodon.url, access_token=SecretStr("good-token")).save(name)
        yield f"bluesky-credentials/{name}", f"mastodon-credentials/{name}"


@pytest.fixture
def compose() -> Flow[Any, Any]:
    """The flow as a deployment loads it."""
    return load_flow_from_entrypoint(f"{FLOWS / 'compose.py'}:compose")


class Planned:
    """What is planned from now on, by channel."""

    def __init__(self) -> None:
        flow: Any = load_flow_from_entrypoint(f"{FLOWS / 'publish_variant.py'}:publish_variant")
        with get_client(sync_client=True) as client:
            variants = client.create_deployment(client.create_flow(flow), "publish-variant", paused=True)
        self._deployments = (planned_deployments()[0], variants)
        self._before = {run.id for run in self._all()}

    def _all(self) -> list[FlowRun]:
        return [run for deployment in self._deployments for run in runs_of(deployment)]

    @property
    def times(self) -> dict[str, list[str]]:
        """The times of new posts in their order, by whether they are on Bluesky or on Mastodon."""
        found: dict[str, list[str]] = {"bluesky": [], "mastodon": []}
        for run in sorted(self._all(), key=lambda run: str(run.next_scheduled_start_time)):
            if run.id not in self._before:
                where = "mastodon" if "channel" in run.parameters else "bluesky"
                found[where].append(f"{run.next_scheduled_start_time:%Y-%m-%d %H:%M}")
        return found


def test_each_post_takes_the_next_free_slot_of_its_channel(compose: Flow[Any, Any], channels: tuple[str, str]) -> None:
    planned = Planned()
    for idea in (IDEA, f"{IDEA} And again."):
        state = run_to_state(compose, idea=idea, channels=channels, review=False, count=2, schedule=SLOTS)
        assert state.is_completed(), state.message
    times = planned.times
    assert times["bluesky"] == times["mastodon"]
    assert len(set(times["bluesky"])) == 4
    assert {time[-5:] for time in times["bluesky"]} == {"09:00", "17:00"}


def test_a_schedule_may_be_a_block(compose: Flow[Any, Any], channels: tuple[str, str]) -> None:
    name = f"team-{uuid4().hex[:8]}"
    PostingSchedule(slots=("daily 12:00",), timezone="Asia/Tokyo").save(name)
    planned = Planned()
    state = run_to_state(compose, idea=IDEA, channels=channels[:1], review=False, count=1, schedule=name)
    assert state.is_completed(), state.message
    assert [time[-5:] for time in planned.times["bluesky"]] == ["03:00"]
