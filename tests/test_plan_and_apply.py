"""A calendar that is changed and read again: what is planned follows, but for what people have done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow
from prefect.states import Cancelled, Failed

from prefect_bluesky import BlueskyCredentials
from prefect_bluesky.planning import Options, change, find_plan, move, plan_lines, preview_batch, read_entries
from prefect_bluesky.planning.scheduled_runs import text_of
from tests.support import SavedAccount, planned_deployments, run_to_state, runs_of

pytestmark = pytest.mark.usefixtures("prefect_api")

FIRST = (datetime.now(UTC) + timedelta(days=30)).replace(hour=8, minute=0, second=0, microsecond=0)


@pytest.fixture
def deployment(prefect_api: str) -> UUID:
    """The deployment `publish/planned`."""
    return planned_deployments()[0]


class Calendar:
    """A YAML calendar of some accounts, and what Prefect has of it."""

    def __init__(self, path: Path, publish_batch: Flow[Any, Any], deployment: UUID) -> None:
        self.path = path
        self.posts: list[dict[str, Any]] = []
        self._publish_batch, self._deployment = publish_batch, deployment
        self._before = {run.id for run in runs_of(deployment)}

    def write(self) -> None:
        """Write the file."""
        self.path.write_text(yaml.safe_dump({"posts": self.posts}))

    def apply(self, **options: Any) -> str:
        """Read the calendar, as the deployment does, and return what the run says."""
        self.write()
        return str(run_to_state(self._publish_batch, calendar=str(self.path), **options).message)

    def lines(self, **options: Any) -> Counter[str]:
        """What a dry run shows, as signs with their notes."""
        self.write()
        preview = preview_batch(read_entries((), str(self.path), "", "UTC"), Options(**options))
        return Counter(f"{line.sign} {line.note}".strip() for line in plan_lines(preview.rows))

    @property
    def runs(self) -> list[FlowRun]:
        """The runs of posts that are planned, the earliest first."""
        new = [run for run in runs_of(self._deployment) if run.id not in self._before]
        planned = [run for run in new if run.state_name == "Scheduled"]
        return sorted(planned, key=lambda run: str(run.next_scheduled_start_time))

    @property
    def planned(self) -> list[tuple[str, str]]:
        """The texts that are planned, with their times."""
        return [(f"{run.next_scheduled_start_time:%d %H:%M}", text_of(run)) for run in self.runs]


@pytest.fixture
def calendar(tmp_path: Path, publish_batch: Flow[Any, Any], deployment: UUID) -> Calendar:
    return Calendar(tmp_path / f"{tmp_path.name}.yaml", publish_batch, deployment)


def post(account: SavedAccount, number: int, **others: Any) -> dict[str, Any]:
    """A post of a calendar, each at another hour."""
    at = FIRST + timedelta(hours=number)
    return account.item(f"Post number {number}") | {"at": f"{at:%Y-%m-%d %H:%M}"} | others


def test_five_edits_of_each_kind_are_named_and_done_once(
    calendar: Calendar, alice: SavedAccount, bob: SavedAccount
) -> None:
    calendar.posts = [post(alice, number) for number in range(35)]
    assert calendar.apply() == "35 scheduled"
    for number in range(5):
        calendar.posts[number]["text"] = f"Another text {number}"
        later = FIRST + timedelta(days=9, hours=number)
        calendar.posts[5 + number]["at"] = f"{later:%Y-%m-%d %H:%M}"
        calendar.posts[10 + number]["images"] = [{"source": f"https://pictures.test/{number}.png", "alt": "A picture"}]
        calendar.posts[15 + number]["account"] = bob.name
        change(calendar.runs[20 + number], {"text": f"By a person {number}"})
    calendar.posts[25:30] = []
    calendar.posts += [post(bob, 50 + number) for number in range(5)]

    shown = calendar.lines(prune=True)
    assert sum(times for line, times in shown.items() if line.startswith("~ text (was “Post number")) == 5
    assert sum(times for line, times in shown.items() if line.startswith("~ time (was ")) == 5
    assert shown["~ images"] == 5
    assert shown[f"~ account (was {alice.account.handle})"] == 5
    assert (shown["+"], shown["-"]) == (5, 5)
    edited = "! a person has changed it; `overwrite` brings it in line (text: “By a person "
    assert sum(times for line, times in shown.items() if line.startswith(edited)) == 5
    assert shown.total() == 35

    done = "5 scheduled, 20 changed, 5 removed, 5 unchanged, 5 edited by a person"
    assert calendar.apply(prune=True) == done
    texts = [text for _, text in calendar.planned]
    assert len(texts) == len(set(texts)) == 35
    planned = calendar.planned

    assert calendar.apply(prune=True) == "30 unchanged, 5 edited by a person"
    assert calendar.lines(prune=True).total() == 5
    assert calendar.planned == planned


def test_what_a_person_cancelled_comes_back_only_if_told(calendar: Calendar, alice: SavedAccount) -> None:
    calendar.posts = [post(alice, 1)]
    calendar.apply()
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(calendar.runs[0].id, Cancelled(), force=True)
    assert calendar.apply() == "1 cancelled"
    assert calendar.planned == []
    assert calendar.apply(overwrite=True) == "1 scheduled"
    assert [text for _, text in calendar.planned] == ["Post number 1"]
    assert calendar.apply() == "1 unchanged"


def test_what_a_person_moved_goes_back_only_if_told(calendar: Calendar, alice: SavedAccount) -> None:
    calendar.posts = [post(alice, 1)]
    calendar.apply()
    planned = calendar.planned
    move(calendar.runs[0], f"{FIRST:%Y-%m-%d} 23:00")
    assert calendar.apply() == "1 edited by a person"
    assert calendar.planned != planned
    assert calendar.apply(overwrite=True) == "1 changed"
    assert calendar.planned == planned


def test_a_post_that_is_removed_and_comes_back_is_planned_again(calendar: Calendar, alice: SavedAccount) -> None:
    both = [post(alice, 1), post(alice, 2)]
    calendar.posts = both
    calendar.apply()
    calendar.posts = both[:1]
    assert calendar.apply() == "1 unchanged, 1 no longer in the calendar"
    assert calendar.apply(prune=True) == "1 removed, 1 unchanged"
    calendar.posts = both
    assert calendar.apply() == "1 scheduled, 1 unchanged"
    assert [text for _, text in calendar.planned] == ["Post number 1", "Post number 2"]


def test_a_text_that_is_changed_after_it_is_out_is_no_second_post(calendar: Calendar, alice: SavedAccount) -> None:
    just_now = datetime.now(UTC) - timedelta(minutes=5)
    calendar.posts = [
        post(alice, 1, at=f"{just_now:%Y-%m-%d %H:%M}"),
        alice.item("A text without a time, which has a tpyo"),
    ]
    assert calendar.apply() == "2 published"
    calendar.posts[0]["text"] = "Corrected"
    calendar.posts[1]["text"] = "A text without a time, which has a typo"
    said = calendar.apply()
    assert said.startswith("2 already out. post 1: it is out, and its text changed after that, too late.")
    assert sorted(alice.texts) == ["A text without a time, which has a tpyo", "Post number 1"]


def test_a_planned_post_whose_time_is_moved_into_the_past_goes_out_at_once(
    calendar: Calendar, alice: SavedAccount
) -> None:
    calendar.posts = [post(alice, 1)]
    calendar.apply()
    calendar.posts[0]["at"] = f"{datetime.now(UTC) - timedelta(minutes=5):%Y-%m-%d %H:%M}"
    assert calendar.apply() == "1 changed"
    (run,) = calendar.runs
    assert run.next_scheduled_start_time is not None
    assert run.next_scheduled_start_time <= datetime.now(UTC)
    with get_client(sync_client=True) as client:
        client.delete_flow_run(run.id)  # else the next test's run of publish-due would publish it


def test_a_failed_post_that_was_moved_is_planned_again(calendar: Calendar, alice: SavedAccount) -> None:
    calendar.posts = [post(alice, 1)]
    calendar.apply()
    calendar.posts = [post(alice, 3, text="Post number 1")]
    assert calendar.apply() == "1 changed"
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(calendar.runs[0].id, Failed(), force=True)
    assert calendar.apply() == "1 scheduled"
    assert [text for _, text in calendar.planned] == ["Post number 1"]


def test_a_post_of_an_account_that_is_gone_is_removed(
    calendar: Calendar, alice: SavedAccount, bob: SavedAccount
) -> None:
    calendar.posts = [post(alice, 1), post(bob, 2)]
    calendar.apply()
    BlueskyCredentials.delete(f"{alice.name}")
    calendar.posts = calendar.posts[1:]
    assert calendar.apply(prune=True) == "1 removed, 1 unchanged"


class TestTwoCalendars:
    """Calendars side by side, of which each removes its own posts alone."""

    @pytest.fixture
    def other(self, tmp_path: Path, publish_batch: Flow[Any, Any], deployment: UUID) -> Calendar:
        """A calendar with the same file name in another folder."""
        folder = tmp_path / "other"
        folder.mkdir()
        return Calendar(folder / f"{tmp_path.name}.yaml", publish_batch, deployment)

    def test_of_two_files_of_one_name_none_removes_the_others_posts(
        self, calendar: Calendar, other: Calendar, alice: SavedAccount
    ) -> None:
        calendar.posts, other.posts = [post(alice, 1)], [post(alice, 2)]
        calendar.apply()
        said = other.apply(prune=True)
        assert said.startswith("prune: none of the 1 posts that are planned from ")
        assert said.endswith("If this is another calendar, give it a name, which is then its own.")
        assert other.apply(prune=True, name=f"other of {alice.name}") == "1 scheduled"
        assert calendar.apply(prune=True) == "1 unchanged"

    def test_a_name_outlives_the_file_s(self, calendar: Calendar, other: Calendar, alice: SavedAccount) -> None:
        calendar.posts, other.posts = [post(alice, 1)], []
        name = f"advent of {alice.name}"
        calendar.apply(name=name)
        other.posts = [post(alice, 1, text="After the file was moved")]
        assert other.apply(name=name, prune=True) == "1 changed"


Script = Callable[..., tuple[object, str]]


def test_a_dry_run_in_a_terminal_prints_a_line_for_each_post(
    calendar: Calendar, alice: SavedAccount, script: Script
) -> None:
    calendar.posts = [post(alice, 1), post(alice, 2)]
    calendar.apply()
    calendar.posts = [
        post(alice, 1, text="Changed"),
        post(alice, 3, text="A new one"),
        {"account": alice.name, "text": "x" * 301},
    ]
    calendar.write()
    ended, printed = script("publish_batch.py", str(calendar.path), "--dry-run")
    assert ended == 1  # as one post cannot be published
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert f"~ {FIRST + timedelta(hours=1):%a %Y-%m-%d %H:%M} UTC {alice.name} Changed post 1" in lines
    assert "text (was “Post number 1”)" in lines
    assert f"+ {FIRST + timedelta(hours=3):%a %Y-%m-%d %H:%M} UTC {alice.name} A new one post 2" in lines
    assert any(line.startswith("! ") and "Post number 2" in line for line in lines)
    assert "the calendar no longer has it, and it still goes out; --prune removes it" in " ".join(lines)
    assert f"{alice.name}, post 3: post: text: it has 301 characters" in printed
    assert lines[-1] == "1 failed, 1 no longer in the calendar, 1 due later, 1 to change"
    assert find_plan(str(calendar.runs[0].id)).name.endswith("Post number 1")


class TestQueue:
    """Posts without a time, which take the next free slots of their account."""

    @pytest.fixture
    def queue(self, calendar: Calendar) -> Calendar:
        """A calendar whose slots are far enough ahead that none goes by in a test."""
        return calendar

    SLOTS = "daily 09:00, 17:00"

    def plan(self, queue: Calendar, account: SavedAccount, *texts: str) -> str:
        """Write the posts of the queue, and apply the calendar."""
        queue.posts = [account.item(text) for text in texts]
        return queue.apply(schedule=self.SLOTS, prune=True)

    @staticmethod
    def in_order(queue: Calendar) -> list[str]:
        """The texts in the order in which they go out, of which no two go out at the same time."""
        times = [at for at, _ in queue.planned]
        assert len(set(times)) == len(times)
        assert {at[-5:] for at in times} <= {"09:00", "17:00"}
        return [text for _, text in queue.planned]

    def test_each_takes_the_next_free_slot(self, queue: Calendar, alice: SavedAccount) -> None:
        assert self.plan(queue, alice, "one", "two", "three") == "3 scheduled"
        assert self.in_order(queue) == ["one", "two", "three"]
        assert self.plan(queue, alice, "one", "two", "three") == "3 unchanged"

    def test_one_at_the_front_goes_out_first(self, queue: Calendar, alice: SavedAccount) -> None:
        self.plan(queue, alice, "one", "two")
        self.plan(queue, alice, "breaking", "one", "two")
        assert self.in_order(queue) == ["breaking", "one", "two"]

    def test_one_that_is_dropped_leaves_its_slot(self, queue: Calendar, alice: SavedAccount) -> None:
        self.plan(queue, alice, "one", "two", "three")
        slots = [at for at, _ in queue.planned]
        assert self.plan(queue, alice, "one", "three") == "1 changed, 1 removed, 1 unchanged"
        assert [at for at, _ in queue.planned] == slots[:2]

    def test_two_may_change_places(self, queue: Calendar, alice: SavedAccount) -> None:
        self.plan(queue, alice, "one", "two")
        slots = [at for at, _ in queue.planned]
        self.plan(queue, alice, "two", "one")
        assert queue.planned == list(zip(slots, ["two", "one"], strict=True))

    def test_a_text_may_change_in_its_place(self, queue: Calendar, alice: SavedAccount) -> None:
        self.plan(queue, alice, "one", "a long text with a tpyo in it", "three")
        assert self.plan(queue, alice, "one", "a long text with a typo in it", "three") == "1 changed, 2 unchanged"
        assert self.in_order(queue) == ["one", "a long text with a typo in it", "three"]

    def test_a_slot_that_another_calendar_has_is_not_free(
        self, queue: Calendar, alice: SavedAccount, publish_batch: Flow[Any, Any]
    ) -> None:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(hour=9, minute=0, second=0, microsecond=0)
        run_to_state(publish_batch, items=[alice.item("by itself", at=tomorrow)])
        self.plan(queue, alice, "one", "two", "three", "four")
        (by_itself,) = [at for at, text in queue.planned if text == "by itself"]
        assert [text for at, text in queue.planned if at == by_itself] == ["by itself"]
        assert len(queue.planned) == 5

    def test_a_post_with_a_time_keeps_it(self, queue: Calendar, alice: SavedAccount) -> None:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(hour=17, minute=0, second=0, microsecond=0)
        queue.posts = [alice.item(text) for text in ("one", "two", "three", "four")]
        queue.posts.append(alice.item("at five", at=f"{tomorrow:%Y-%m-%d %H:%M}"))
        assert queue.apply(schedule=self.SLOTS) == "5 scheduled"
        assert (f"{tomorrow:%d %H:%M}", "at five") in queue.planned
        assert sorted(self.in_order(queue)) == ["at five", "four", "one", "three", "two"]

    def test_what_a_person_moved_stays_there_and_the_others_close_up(
        self, queue: Calendar, alice: SavedAccount
    ) -> None:
        self.plan(queue, alice, "one", "two", "three")
        slots = [at for at, _ in queue.planned]
        move(queue.runs[0], f"{FIRST:%Y-%m-%d} 12:00")
        assert self.plan(queue, alice, "one", "two", "three") == "2 changed, 1 edited by a person"
        assert queue.planned[:2] == [(slots[0], "two"), (slots[1], "three")]

    def test_slots_stand_in_the_calendar_too(self, queue: Calendar, alice: SavedAccount) -> None:
        content = {"timezone": "Asia/Tokyo", "slots": ["daily 18:00"], "posts": [alice.item("one"), alice.item("two")]}
        for jitter, times in ((0, {"18:00 JST"}), (9, {f"18:0{minute} JST" for minute in range(10)})):
            queue.path.write_text(yaml.safe_dump({**content, "jitter": jitter}))
            preview = preview_batch(read_entries((), str(queue.path), "", "UTC"), Options())
            assert {line.when[-9:] for line in plan_lines(preview.rows)} <= times

    def test_a_line_that_is_no_slot_is_named(self, queue: Calendar, alice: SavedAccount) -> None:
        queue.posts = [alice.item("one"), post(alice, 1)]
        said = queue.apply(schedule="mun 09:00")
        assert said.startswith(f"1 scheduled, 1 failed. {alice.name}, post 1: slots: 'mun 09:00': 'mun' is not a day.")
        assert "schedule: there is no block posting-schedule/nobody." in queue.apply(schedule="nobody")


@pytest.mark.parametrize(
    ("at", "note"),
    [
        ("2027-03-28 02:30", "02:30 does not exist on that day, as the clocks change: taken as 03:30 CEST."),
        ("2027-10-31 02:30", "02:30 comes twice on that day, as the clocks change: taken as the first, 02:30 CEST."),
    ],
)
def test_a_time_that_its_day_does_not_have_once_is_planned_and_named(
    calendar: Calendar, alice: SavedAccount, at: str, note: str
) -> None:
    calendar.posts = [post(alice, 1, at=at)]
    assert calendar.apply(timezone="Europe/Berlin") == f"1 scheduled. post 1: {note}"


def test_a_planned_post_whose_picture_is_not_there_yet_is_planned_and_named(
    calendar: Calendar, alice: SavedAccount
) -> None:
    picture = calendar.path.with_name("later.png")
    calendar.posts = [post(alice, 1, images=[{"source": picture.name, "alt": "Later"}])]
    missing = f"post 1: there is no file {picture} on this machine yet. The post needs it when it is published."
    assert calendar.apply() == f"1 scheduled. {missing}"
    picture.write_bytes(b"")
    calendar.posts[0]["text"] = "With its picture"
    assert calendar.apply() == "1 changed"


def test_a_repeated_post_is_planned_four_weeks_ahead_once(calendar: Calendar, alice: SavedAccount) -> None:
    calendar.posts = [post(alice, 1, at="2026-12-01 09:00", repeat="weekly", variants=["Another", "A third"])]
    said = calendar.apply()
    assert said in {"4 scheduled", "5 scheduled"}
    assert {at[-5:] for at, _ in calendar.planned} == {"09:00"}
    assert calendar.apply() == said.replace("scheduled", "unchanged")
    calendar.posts[0]["variants"] = ["Another", "A third and better one"]
    assert "1 changed" in calendar.apply()
    assert "A third and better one" in [text for _, text in calendar.planned]


def test_two_readings_at_once_change_each_post_once(calendar: Calendar, alice: SavedAccount) -> None:
    calendar.posts = [post(alice, number) for number in range(6)]
    calendar.apply()
    for each in calendar.posts:
        each["at"] = each["at"].replace(":00", ":30")
    calendar.write()
    with ThreadPoolExecutor(2) as threads:
        said = list(threads.map(lambda context: context.run(calendar.apply), [copy_context(), copy_context()]))
    assert sorted(said) == ["6 changed", "6 unchanged"]
    assert len(calendar.planned) == 6
