"""Slots: the times of the week at which posts without a time go out."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_bluesky import PostingSchedule
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning.slots import free_slots, read_slots

MONDAY = datetime(2027, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "slots"),
    [
        ("mon 09:00", "mon 09:00"),
        ("mon-wed 9:00, 13:30", "mon 09:00, mon 13:30, tue 09:00, tue 13:30, wed 09:00, wed 13:30"),
        ("sat, sun 11:00", "sat 11:00, sun 11:00"),
        ("Saturday and Sunday 11:00", "sat 11:00, sun 11:00"),
        ("sat-mon 8am", "sat 08:00, sun 08:00, mon 08:00"),
        ("mon & thu 12:15 pm", "mon 12:15, thu 12:15"),
        ("weekends 10:00", "sat 10:00, sun 10:00"),
        ("weekdays 10:00", "mon 10:00, tue 10:00, wed 10:00, thu 10:00, fri 10:00"),
        ("7:00", "mon 07:00, tue 07:00, wed 07:00, thu 07:00, fri 07:00, sat 07:00, sun 07:00"),
    ],
)
def test_a_line_names_days_and_times(line: str, slots: str) -> None:
    assert ", ".join(map(str, read_slots(line))) == slots


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"slots": []}, "slots: there is none. Write slots such as mon-fri 09:00, 13:00 or sat 11:00."),
        ({"slots": ["mon"]}, "'mon' has no time. Write slots such as"),
        ({"slots": ["mun 09:00"]}, "'mun 09:00': 'mun' is not a day. Write sun."),
        ({"slots": ["mon 25:00"]}, "'mon 25:00': '25:00' is not a time of the day."),
        ({"slots": ["mon 9"]}, "'mon 9': '9' is not a time of the day."),
        ({"slots": ["mon-fri 09:00", "wed 09:00"]}, "slots: wed 09:00 is there twice. Remove one of them."),
        ({"slots": ["mon 09:00, 09:20"], "jitter_minutes": 30}, "30 minutes after mon 09:00 is as late as mon 09:20"),
        ({"slots": ["sun 23:50", "mon 00:10"], "jitter_minutes": 20}, "20 minutes after sun 23:50 is as late as mon"),
    ],
)
def test_what_cannot_be_met_is_named_with_the_remedy(given_: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PostingSchedule.model_validate(given_)


@pytest.mark.parametrize(
    ("timezone", "meant"), [("Europe/Berln", "Europe/Berlin"), ("Los Angeles", "America/Los_Angeles")]
)
def test_a_misspelt_time_zone_is_named_with_the_nearest(timezone: str, meant: str) -> None:
    with pytest.raises(InvalidInput, match=rf"there is no time zone '{timezone}'. Did you mean {meant}\?"):
        PostingSchedule(slots=("mon 09:00",), timezone=timezone)


def test_times_alone_are_of_the_days_before() -> None:
    # As YAML reads [mon-fri 09:00, 13:00, sat 11:00].
    schedule = PostingSchedule(slots=("sat 09:00", "13:00", "sun 11:00"))
    found = islice(schedule.after(MONDAY), 3)
    assert [f"{slot:%a %H:%M}" for slot in found] == ["Sat 09:00", "Sat 13:00", "Sun 11:00"]


def test_nine_stays_nine_when_the_clocks_change() -> None:
    schedule = PostingSchedule(slots=("daily 09:00",), timezone="Europe/Berlin")
    year = list(islice(schedule.after(datetime(2027, 1, 1, tzinfo=UTC)), 365))
    assert {f"{slot:%H:%M}" for slot in year} == {"09:00"}
    lengths = Counter(after.astimezone(UTC) - before.astimezone(UTC) for before, after in pairwise(year))
    assert lengths == {timedelta(hours=24): 362, timedelta(hours=23): 1, timedelta(hours=25): 1}


@pytest.mark.parametrize(
    ("day", "slot"),
    [
        (datetime(2027, 3, 28, tzinfo=UTC), "2027-03-28 03:30 CEST"),  # the clocks leave 02:30 out
        (datetime(2027, 10, 30, 22, tzinfo=UTC), "2027-10-31 02:30 CEST"),  # the day has 02:30 twice
    ],
)
def test_a_slot_that_the_clocks_leave_out_or_have_twice_comes_once(day: datetime, slot: str) -> None:
    schedule = PostingSchedule(slots=("daily 02:30",), timezone="Europe/Berlin")
    first, second = islice(schedule.after(day), 2)
    assert f"{first:%Y-%m-%d %H:%M %Z}" == slot
    assert first.date() < second.date()


def test_a_slot_with_jitter_is_the_same_whenever_it_is_asked_for() -> None:
    schedule = PostingSchedule(slots=("daily 09:00",), jitter_minutes=30)
    times = [list(islice(free_slots(schedule, "alice", [], MONDAY), 50)) for _ in range(2)]
    assert times[0] == times[1]
    minutes = {slot.hour * 60 + slot.minute - 540 for slot in times[0]}
    assert minutes <= set(range(31))
    assert len(minutes) > 10


@given(st.lists(st.datetimes(datetime(2027, 3, 1), datetime(2027, 3, 20)), max_size=20), st.integers(0, 59))
def test_a_free_slot_is_one_that_no_other_post_has(others: list[datetime], jitter: int) -> None:
    schedule = PostingSchedule(slots=("daily 09:00, 10:00, 17:30",), jitter_minutes=jitter)
    taken = [each.replace(tzinfo=UTC) for each in others]
    found = list(islice(free_slots(schedule, "alice", taken, MONDAY), 30))
    assert found == sorted(set(found))
    for slot in found:
        start = slot - timedelta(minutes=slot.minute % 60 if slot.hour != 17 else slot.minute - 30)
        assert not any(start <= other <= start + timedelta(minutes=jitter) for other in taken)
