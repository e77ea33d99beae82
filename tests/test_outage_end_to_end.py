"""Thirty posts were held in an outage: a real Prefect server and worker, both killed on the way, and a real PDS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter

from prefect_bluesky import BlueskyCredentials
from prefect_bluesky.planning.held_runs import held_because, tags_of
from prefect_bluesky.planning.keyed_runs import schedule_run
from prefect_bluesky.planning.saved_accounts import as_parameter
from tests import proxy
from tests.pds.server import RealPds
from tests.prefect_server import postgresql
from tests.proxy import Answer, Phase, Step
from tests.support import WRITE, block, forget_processes_memory
from tests.world import World, wait_for, world

pytestmark = [pytest.mark.pds, pytest.mark.slow]

COUNT, SPACING = 30, timedelta(seconds=1)
POISON, EXPIRED = 10, {5, 20}

_ERROR = Answer(500, b'{"error": "InternalServerError", "message": "Internal Server Error"}')


@pytest.fixture
def prefect(no_prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_HELD_SPACING", "PT1S")
    with postgresql() as database, world(tmp_path, database) as made:
        yield made
    forget_processes_memory()


def hold_all(credentials: BlueskyCredentials) -> list[UUID]:
    """Have held runs of `publish` for thirty posts, of which one is poison and two have expired."""
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("publish/publish").id
    held = []
    for number in range(COUNT):
        post: dict[str, Any] = {"text": "poison" if number == POISON else f"post {number:02}"}
        if number in EXPIRED:
            post["expires"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        parameters = {"credentials": as_parameter(credentials), "post": post}
        state, tags = held_because("There was an outage."), tags_of(credentials)
        run = schedule_run(deployment, parameters, key=uuid4().hex, name=post["text"], state=state, tags=tags)
        held.append(run.id)
    return held


def test_they_go_out_once_in_order_and_apart(prefect: World, real_pds: RealPds) -> None:
    def on_step(step: Step, phase: Phase) -> Answer | None:
        return _ERROR if step.method == WRITE and b"poison" in step.body and phase is Phase.BEFORE else None

    account = real_pds.create_account()
    with proxy.run(real_pds.url, on_step) as url:
        credentials = block(real_pds, account).model_copy(update={"service_url": url})
        credentials.save("alice")
        held = hold_all(credentials)

        def out() -> list[dict[str, Any]]:
            posts = [post["value"] for post in real_pds.posts(account)]
            return sorted(posts, key=lambda post: str(post["createdAt"]))

        prefect.start_worker()
        prefect.start_run("publish-held/publish-held")
        wait_for(lambda: len(out()) >= 7, "the first posts")
        prefect.kill_workers()
        prefect.start_worker()
        prefect.start_run("publish-held/publish-held")
        wait_for(lambda: len(out()) >= 15, "more posts")
        prefect.server.kill()
        prefect.server.start()

        def all_have_ended() -> bool:
            with suppress(Exception):
                prefect.ended([prefect.start_run("publish-held/publish-held")])
            return "Held" not in prefect.states(held)

        wait_for(all_have_ended, "the end of the held runs")
        sent = [number for number in range(COUNT) if number != POISON and number not in EXPIRED]
        assert [post["text"] for post in out()] == [f"post {number:02}" for number in sent]
        times = [datetime.fromisoformat(post["createdAt"]) for post in out()]
        assert min(later - earlier for earlier, later in pairwise(times)) >= SPACING
    names = [
        "Failed" if number == POISON else "Expired" if number in EXPIRED else "Completed" for number in range(COUNT)
    ]
    assert prefect.states(held) == names
    with get_client(sync_client=True) as client:
        told = client.read_events(EventFilter(event=EventNameFilter(name=["bluesky.post.expired"])), limit=50).events
    assert {event.payload["run"] for event in told} == {f"post {number:02}" for number in EXPIRED}
    subjects = [message.subject for message in prefect.receiver.messages]
    assert subjects.count(f"Bluesky: a post of {account.handle} has expired") == len(EXPIRED)
