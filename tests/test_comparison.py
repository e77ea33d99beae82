"""What becomes of a calendar's posts, for what is planned and out: `compare`, without a server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from prefect_bluesky.planning.comparison import Row, Terms, compare
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.planned_run import PlannedRun
from prefect_bluesky.planning.scheduled_runs import fingerprint, post_parameter

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
NINE = NOW + timedelta(days=1)
TEN = NINE + timedelta(hours=1)
TERMS = Terms({"alice": "block of alice", "bob": "block of bob"}, NOW, timedelta(days=1))


def entry(text: str, at: datetime | None = NINE, account: str = "alice", key: str | None = None) -> PlannedPost:
    """A post of a calendar."""
    return PlannedPost(account=account, post=text, at=at, key=key).with_time_and_key(ZoneInfo("UTC"))


def run(planned: PlannedPost, state: str = "SCHEDULED", **others: Any) -> PlannedRun:
    """The run that a post has got."""
    post = post_parameter(planned)
    applied = fingerprint(post, planned.at)
    made = PlannedRun(
        id=uuid4(),
        name=f"{planned.account} · {planned.post.text}",
        account=TERMS.accounts[planned.account],
        key=str(planned.key),
        post=post,
        at=planned.at,
        state_type=state,
        state_name=state.title(),
        message="",
        applied=applied,
        tags=(),
        created="2027-02-01",
        idempotency_key="",
        parameters={},
    )
    return replace(made, **others)


@dataclass(frozen=True)
class Case:
    """A calendar, what is planned of it, and what becomes of each post: its fate, and what changes."""

    entries: list[PlannedPost]
    runs: list[PlannedRun]
    fates: list[str]
    options: dict[str, Any] = field(default_factory=dict)


HELLO = entry("Hello")
EDITED = run(HELLO, post={"text": "Edited by a person"})
CANCELLED = run(HELLO, "CANCELLED")
WEEKLY = [entry("Weekly", NINE + timedelta(weeks=week)) for week in range(3)]

CASES = {
    "a new post": Case([HELLO], [], ["plan"]),
    "a post that is due": Case([entry("Hello", NOW - timedelta(hours=1))], [], ["publish"]),
    "an unchanged post": Case([HELLO], [run(HELLO)], ["unchanged"]),
    "another text at its time": Case([entry("Good morning")], [run(HELLO)], ["change text"]),
    "another time for its text": Case([entry("Hello", TEN)], [run(HELLO)], ["change time"]),
    "another account": Case([entry("Hello", account="bob")], [run(HELLO)], ["change account"]),
    "another time and a similar text": Case([entry("Hello!", TEN)], [run(HELLO)], ["change time, text"]),
    "another time and another text": Case([entry("Bye", TEN)], [run(HELLO)], ["plan", "left"]),
    "a time in the past": Case([entry("Hello", NOW - timedelta(minutes=5))], [run(HELLO)], ["change time"]),
    "a time long ago": Case([entry("Hello", NOW - timedelta(days=365))], [run(HELLO)], ["too late time"]),
    "a text under a key": Case([entry("New", key="k")], [run(entry("Old", key="k"))], ["change text"]),
    "all but the key": Case([entry("New", TEN, key="k")], [run(entry("Old", key="k"))], ["change time, text"]),
    "a key that is given later": Case([entry("Hello", key="k")], [run(HELLO)], ["unchanged"]),
    "a keyed post of another account": Case(
        [entry("Hello", key="k", account="bob")], [run(entry("Hello", key="k"))], ["change account"]
    ),
    "posts of two accounts under one key": Case(
        [entry("Hello", key="k"), entry("Hello", key="k", account="bob")], [run(entry("Hello", key="k"))],
        ["unchanged", "plan"],
    ),
    "a post that the calendar no longer has": Case([], [run(HELLO)], ["left"]),
    "such a post, pruned": Case([], [run(HELLO)], ["remove"], {"prune": True}),
    "such a post that a person edited": Case([], [EDITED], ["left"], {"prune": True}),
    "such a post that is held": Case([], [run(HELLO, "FAILED", state_name="Held")], ["left"], {"prune": True}),
    "such a post beside an entry that cannot be read": Case(
        [], [run(HELLO)], ["left"], {"prune": True, "unreadable": frozenset({"alice"})}
    ),
    "such a post beside an entry of nobody knows whom": Case(
        [], [run(HELLO)], ["left"], {"prune": True, "unreadable": frozenset({""})}
    ),
    "such a post beside an unreadable entry of another": Case(
        [], [run(HELLO)], ["remove"], {"prune": True, "unreadable": frozenset({"bob"})}
    ),
    "what the calendar removed comes back": Case([HELLO], [run(HELLO, "CANCELLED", state_name="Removed")], ["plan"]),
    "what was moved, with its new run": Case(
        [HELLO],
        [run(HELLO, "CANCELLED", state_name="Moved"), run(HELLO, at=TEN, created="2027-02-02")], ["edited time"],
    ),
    "what was moved, without its new run": Case([HELLO], [run(HELLO, "CANCELLED", state_name="Moved")], ["plan"]),
    "a person's edit": Case([HELLO], [EDITED], ["edited text"]),
    "a person's edit, overwritten": Case([HELLO], [EDITED], ["change text"], {"overwrite": True}),
    "a person's edit that the calendar has now": Case([entry("Edited by a person")], [EDITED], ["adopt"]),
    "a person's edit, and another of the calendar": Case([entry("Third")], [EDITED], ["edited text"]),
    "a person's edit of the text, and another account": Case(
        [entry("Hello", account="bob")], [EDITED], ["edited text, account"]
    ),
    "a person's other time, and another text": Case(
        [entry("Good morning")], [run(HELLO, at=TEN)], ["edited time, text"]
    ),
    "a cancelled post": Case([HELLO], [CANCELLED], ["cancelled"]),
    "a cancelled post, overwritten": Case([HELLO], [CANCELLED], ["plan"], {"overwrite": True}),
    "a cancelled post with another text": Case([entry("Hello!")], [CANCELLED], ["cancelled text"]),
    "a post that is out": Case([HELLO], [run(HELLO, "COMPLETED")], ["out"]),
    "a text that changes after it is out": Case([entry("Good morning")], [run(HELLO, "COMPLETED")], ["out text"]),
    "a time that changes after it is out": Case([entry("Hello", TEN)], [run(HELLO, "COMPLETED")], ["out time"]),
    "next week's occurrence beside one that is cancelled": Case(
        [entry("Hello", NINE + timedelta(weeks=4))], [CANCELLED], ["plan"]
    ),
    "next week's occurrence beside one that is held": Case(
        [entry("Hello", NINE + timedelta(weeks=4))], [run(HELLO, "FAILED", state_name="Held")], ["plan", "left"]
    ),
    "such a post beside an entry of an account that is not saved": Case(
        [], [run(HELLO)], ["left"], {"prune": True, "unreadable": frozenset({"alcie"})}
    ),
    "an account that changes after it is out": Case(
        [entry("Hello", account="bob")], [run(HELLO, "COMPLETED")], ["out account"]
    ),
    "next week's text over this week's, which is out": Case(
        [entry("Hello", NINE + timedelta(weeks=1))], [run(HELLO, "COMPLETED")], ["plan"]
    ),
    "a like text next week": Case(
        [entry("Part 13 is out", NINE + timedelta(weeks=1))], [run(entry("Part 12 is out"), "COMPLETED")], ["plan"]
    ),
    "another post at the time of a cancelled one": Case([entry("Something else")], [CANCELLED], ["plan"]),
    "an out post that the calendar no longer has": Case([], [run(HELLO, "COMPLETED")], [], {"prune": True}),
    "out, and planned a second time": Case([HELLO], [run(HELLO), run(HELLO, "COMPLETED")], ["out"]),
    "a post that is being published": Case([HELLO], [run(HELLO, "RUNNING")], ["going out"]),
    "a change of a post that is due": Case(
        [entry("Good morning", NOW)], [run(entry("Hello", NOW))], ["going out text"]
    ),
    "a held post": Case([HELLO], [run(HELLO, "FAILED", state_name="Held")], ["held"]),
    "a held post with another text": Case([entry("New")], [run(HELLO, "FAILED", state_name="Held")], ["held text"]),
    "a held post that a person edited": Case(
        [HELLO], [replace(EDITED, state_type="FAILED", state_name="Held")], ["held"]
    ),
    "a failed post": Case([HELLO], [run(HELLO, "FAILED")], ["plan"]),
    "an expired post": Case([HELLO], [run(HELLO, "FAILED", state_name="Expired")], ["expired"]),
    "an expired post with another time": Case(
        [entry("Hello", TEN)], [run(HELLO, "FAILED", state_name="Expired")], ["plan time"]
    ),
    "one text at several times": Case(WEEKLY, list(map(run, WEEKLY)), ["unchanged"] * 3),
    "one text at several times, one of them moved": Case(
        [entry("Weekly", TEN), *WEEKLY[1:]], list(map(run, WEEKLY)), ["change time", "unchanged", "unchanged"]
    ),
    "two texts at one time, one of them changed": Case(
        [entry("One"), entry("Three")], [run(entry("One")), run(entry("Two"))], ["unchanged", "change text"]
    ),
    "a run of an earlier version": Case([HELLO], [run(HELLO, applied=None)], ["unchanged"]),
    "a changed run of an earlier version": Case([entry("New")], [run(HELLO, applied=None)], ["change text"]),
}  # fmt: skip


def fate(row: Row) -> str:
    """A row in words."""
    return f"{row.fate} {', '.join(row.changes)}".strip()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_becomes_of_a_post(case: Case) -> None:
    places = [(f"post {number}", planned) for number, planned in enumerate(case.entries, 1)]
    rows = compare(places, case.runs, replace(TERMS, **case.options))
    assert [fate(row) for row in rows] == case.fates


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELLED", "SCHEDULED"])
def test_thousands_of_posts_of_one_text_are_compared(state: str) -> None:
    hours = [timedelta(hours=hour) for hour in range(3000)]
    runs = [run(entry("The same", NINE - timedelta(minutes=5) - hour), state) for hour in hours]
    places = [(f"post {hour}", entry("The same", NINE + hour)) for hour in hours]
    assert len(compare(places, runs, TERMS)) >= 3000


def test_a_changed_post_keeps_its_key() -> None:
    (row,) = compare([("post 1", entry("Good morning"))], [run(HELLO)], TERMS)
    assert row.planned is not None
    assert (row.planned.post.text, row.planned.key) == ("Good morning", HELLO.key)
