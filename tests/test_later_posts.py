"""The posts of a large calendar that wait in bundles until they come near."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow
from prefect.states import Cancelled

from prefect_bluesky import sandbox
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning import change, drop_plan, find_plan, move, next_slots, plan_ahead, read_plans
from prefect_bluesky.planning.scheduled_runs import planned_time, text_of
from tests.support import SavedAccount, later_deployment, planned_deployments, run_to_state, runs_of

pytestmark = pytest.mark.usefixtures("prefect_api")

SOON = (datetime.now(UTC) + timedelta(days=3)).replace(minute=0, second=0, microsecond=0)
FAR = SOON + timedelta(days=30)


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A calendar whose first two posts alone have runs at once."""
    monkeypatch.setattr("prefect_bluesky.planning.later_posts.MOST_RUNS", 2)


@pytest.fixture(autouse=True)
def later(prefect_api: str) -> Iterator[UUID]:
    """The deployment `publish-batch/later`, without the bundles of other tests."""
    deployment = later_deployment()
    _delete_bundles(deployment)
    yield deployment
    _delete_bundles(deployment)


def _delete_bundles(deployment: UUID) -> None:
    with get_client(sync_client=True) as client:
        for bundle in runs_of(deployment):
            client.delete_flow_run(bundle.id)


@pytest.fixture
def apply(tmp_path: Path, publish_batch: Flow[Any, Any], prefect_api: str) -> Callable[..., str]:
    """Read a calendar of some posts, as the deployment does, and return what the run says."""
    planned_deployments()
    path = tmp_path / f"{tmp_path.name}.yaml"

    def read(posts: list[dict[str, Any]], **options: Any) -> str:
        path.write_text(yaml.safe_dump({"posts": posts}))
        return str(run_to_state(publish_batch, calendar=str(path), **options).message)

    return read


def posts(account: SavedAccount, count: int = 6, first: datetime = FAR) -> list[dict[str, Any]]:
    """Posts of a calendar, each an hour after the last."""
    return [
        account.item(f"Post number {number}") | {"at": f"{first + timedelta(hours=number):%Y-%m-%d %H:%M}"}
        for number in range(count)
    ]


def planned(account: SavedAccount) -> list[tuple[str, str]]:
    """What is planned for an account: times and texts."""
    return [(f"{planned_time(run):%d %H:%M}", text_of(run)) for run in read_plans(account.account.handle)]


def own_runs(account: SavedAccount) -> list[FlowRun]:
    """The posts of an account that have runs of their own and wait for their time."""
    of_account = [run for run in runs_of(planned_deployments()[0]) if run.name.startswith(account.account.handle)]
    return [run for run in of_account if run.state_name == "Scheduled"]


def test_posts_after_the_first_wait_in_a_bundle_and_are_listed(
    apply: Callable[..., str], alice: SavedAccount, later: UUID
) -> None:
    assert apply(posts(alice)) == "6 scheduled"
    assert sorted(map(text_of, own_runs(alice))) == ["Post number 0", "Post number 1"]
    (bundle,) = runs_of(later)
    first = FAR + timedelta(hours=2)
    assert bundle.name == f"4 posts from {first.day} {first:%b %Y} on"
    assert bundle.next_scheduled_start_time == first - timedelta(days=8)
    assert planned(alice) == [
        (f"{FAR + timedelta(hours=number):%d %H:%M}", f"Post number {number}") for number in range(6)
    ]
    assert apply(posts(alice)) == "6 unchanged"


def test_the_earliest_posts_have_runs_wherever_they_stand_in_the_calendar(
    apply: Callable[..., str], alice: SavedAccount
) -> None:
    apply(posts(alice)[::-1])
    assert sorted(map(text_of, own_runs(alice))) == ["Post number 0", "Post number 1"]


def test_a_bundled_post_follows_each_edit_of_its_calendar(
    apply: Callable[..., str], alice: SavedAccount, pds: sandbox.Sandbox
) -> None:
    bob, edited = SavedAccount(pds), posts(alice)
    apply(edited)
    edited[2]["text"] = "Another text"
    edited[3]["at"] = f"{FAR + timedelta(days=20):%Y-%m-%d %H:%M}"
    edited[4]["account"] = bob.name
    del edited[5]
    assert apply(edited, prune=True) == "3 changed, 1 removed, 2 unchanged"
    texts = ["Post number 0", "Post number 1", "Another text", "Post number 3"]
    assert [text for _, text in planned(alice)] == texts
    assert [text for _, text in planned(bob)] == ["Post number 4"]
    assert apply(edited, prune=True) == "5 unchanged"


def test_a_bundled_post_that_was_removed_can_come_back(apply: Callable[..., str], alice: SavedAccount) -> None:
    apply(posts(alice))
    assert apply(posts(alice, 2), prune=True) == "4 removed, 2 unchanged"
    assert len(planned(alice)) == 2
    assert apply(posts(alice)) == "4 scheduled, 2 unchanged"
    assert len(planned(alice)) == 6


def test_posts_that_come_near_get_their_own_runs_in_order(
    apply: Callable[..., str], alice: SavedAccount, later: UUID
) -> None:
    together = [post | {"at": f"{SOON:%Y-%m-%d %H:%M}"} for post in posts(alice)]
    apply(together)
    before = planned(alice)
    plan_ahead()
    assert runs_of(later) == []
    assert [text_of(run) for run in sorted(own_runs(alice), key=lambda run: str(run.created))] == [
        post["text"] for post in together
    ]
    assert planned(alice) == before
    assert apply(together) == "6 unchanged"


def test_what_is_far_away_stays_in_its_bundle(apply: Callable[..., str], alice: SavedAccount, later: UUID) -> None:
    apply(posts(alice))
    plan_ahead()
    assert len(runs_of(later)) == 1
    assert len(own_runs(alice)) == 2


def test_what_is_due_within_two_hours_never_waits_in_a_bundle(apply: Callable[..., str], alice: SavedAccount) -> None:
    at = datetime.now(UTC) + timedelta(minutes=90)
    apply([post | {"at": f"{at:%Y-%m-%d %H:%M}"} for post in posts(alice)])
    assert len(own_runs(alice)) == 6


def test_a_person_moves_changes_and_drops_bundled_posts(apply: Callable[..., str], alice: SavedAccount) -> None:
    apply(posts(alice))
    plans = {text_of(run): run for run in read_plans(alice.account.handle)}
    move(plans["Post number 3"], f"{FAR + timedelta(days=2):%Y-%m-%d %H:%M}")
    change(plans["Post number 4"], {"text": "By a person"})
    drop_plan(plans["Post number 5"])
    assert [text for _, text in planned(alice)] == [
        "Post number 0", "Post number 1", "Post number 2", "By a person", "Post number 3",
    ]  # fmt: skip
    assert apply(posts(alice)) == "3 unchanged, 1 cancelled, 2 edited by a person"


def test_a_bundled_post_is_found_by_its_key(apply: Callable[..., str], alice: SavedAccount) -> None:
    keyed = [post | {"key": f"later {alice.name} {number}"} for number, post in enumerate(posts(alice))]
    apply(keyed)
    assert text_of(find_plan(f"later {alice.name} 5")) == "Post number 5"


def test_a_post_that_left_its_bundle_meanwhile_is_not_changed(
    apply: Callable[..., str], alice: SavedAccount, later: UUID
) -> None:
    apply(posts(alice))
    last = read_plans(alice.account.handle)[-1]
    with get_client(sync_client=True) as client:
        client.delete_flow_run(runs_of(later)[0].id)
    with pytest.raises(InvalidInput, match="Look at what is planned, and try again"):
        change(last, {"text": "Too late"})


def test_a_bundle_that_a_person_cancels_comes_back_only_if_told(
    apply: Callable[..., str], alice: SavedAccount, later: UUID
) -> None:
    apply(posts(alice))
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(runs_of(later)[0].id, Cancelled(), force=True)
    assert apply(posts(alice)) == "2 unchanged, 4 cancelled"
    assert len(planned(alice)) == 2
    assert apply(posts(alice), overwrite=True) == "4 scheduled, 2 unchanged"
    assert len(planned(alice)) == 6


def test_the_slots_of_bundled_posts_are_taken(apply: Callable[..., str], alice: SavedAccount) -> None:
    daily = [alice.item(f"In turn {number}") for number in range(6)]
    apply(daily, schedule="daily 09:00")
    (_, last), slots = planned(alice)[-1], next_slots("daily 09:00", "UTC")(f"bluesky-credentials/{alice.name}")
    assert last == "In turn 5"
    assert next(slots) - (planned_time(read_plans(alice.account.handle)[-1]) or FAR) == timedelta(days=1)


def test_posts_before_the_first_of_a_queue_move_the_bundled_ones(
    apply: Callable[..., str], alice: SavedAccount
) -> None:
    daily = [alice.item(f"In turn {number}") for number in range(6)]
    apply(daily, schedule="daily 09:00")
    in_front = [alice.item("The first now"), *daily]
    assert apply(in_front, schedule="daily 09:00") == "1 scheduled, 6 changed"
    assert [text for _, text in planned(alice)] == [post["text"] for post in in_front]
    assert apply(in_front, schedule="daily 09:00") == "7 unchanged"


def test_long_threads_are_shared_by_bundles(apply: Callable[..., str], alice: SavedAccount, later: UUID) -> None:
    thread = "\n\n".join(["word " * 50] * 80)
    apply([post | {"text": f"{post['text']} {thread}", "split_long_text": True} for post in posts(alice, 14)])
    sizes = [len(str(bundle.parameters)) for bundle in runs_of(later)]
    assert len(sizes) > 1
    assert max(sizes) < 512_000  # what Prefect takes


def test_a_worker_that_died_with_a_bundle_leaves_no_second_runs(
    apply: Callable[..., str], alice: SavedAccount, later: UUID
) -> None:
    apply(posts(alice, first=SOON))
    (bundle,) = runs_of(later)
    with get_client(sync_client=True) as client:
        # As the worker had made the runs, and not yet deleted the bundle.
        client.create_flow_run_from_deployment(later, parameters=bundle.parameters, tags=bundle.tags)
    assert apply(posts(alice, first=SOON)) == "6 unchanged"
    plan_ahead()
    assert runs_of(later) == []
    assert len(own_runs(alice)) == 6
    assert apply(posts(alice, first=SOON)) == "6 unchanged"


def test_without_the_deployment_each_post_has_a_run_at_once(
    apply: Callable[..., str], alice: SavedAccount, later: UUID
) -> None:
    with get_client(sync_client=True) as client:
        client.delete_deployment(later)
    apply(posts(alice))
    assert len(own_runs(alice)) == 6
