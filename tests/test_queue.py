"""A year of a queue, without a server: each post at its slot, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from prefect_bluesky import PostingSchedule
from prefect_bluesky.planning.comparison import Terms, compare
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.queue import Queue

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YEAR = datetime(2027, 1, 1, tzinfo=BERLIN)


def test_each_of_500_posts_of_a_year_is_at_its_slot() -> None:
    schedule = PostingSchedule(slots=("mon-fri 09:00, 13:00",), timezone="Europe/Berlin")
    entries = [
        (f"post {number}", PlannedPost(account="alice", post=f"{number}").with_time_and_key(BERLIN))
        for number in range(500)
    ]
    terms = Terms({"alice": "block"}, NEW_YEAR.astimezone(UTC), timedelta(days=1), queue=Queue(schedule, {}))
    planned = [row.planned.at for row in compare(entries, [], terms) if row.planned and row.planned.at]

    working_days = [day for number in range(400) if (day := NEW_YEAR.date() + timedelta(days=number)).weekday() < 5]
    wanted = [datetime(day.year, day.month, day.day, hour, tzinfo=BERLIN) for day in working_days for hour in (9, 13)]
    assert planned == wanted[:500]
    assert {at.utcoffset() for at in planned} == {timedelta(hours=1), timedelta(hours=2)}
    assert planned[-1] - planned[0] > timedelta(days=340)


def test_accounts_have_queues_of_their_own() -> None:
    schedule = PostingSchedule(slots=("daily 09:00",))
    entries = [
        (f"post {number}", PlannedPost(account=account, post=f"{number}").with_time_and_key(BERLIN))
        for number, account in enumerate(["alice", "bob", "alice", "bob"])
    ]
    terms = Terms({"alice": "a", "bob": "b"}, NEW_YEAR.astimezone(UTC), timedelta(days=1), queue=Queue(schedule, {}))
    days = [row.planned.at.day for row in compare(entries, [], terms) if row.planned and row.planned.at]
    assert days == [1, 1, 2, 2]
