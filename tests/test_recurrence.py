"""Posts that repeat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from prefect_bluesky import PlannedPost

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2027, 3, 15, 12, tzinfo=UTC)


def in_turn(**fields: Any) -> list[tuple[str, str]]:
    """The times and texts of a repeated post in the next four weeks."""
    planned = PlannedPost.model_validate({"account": "alice", "text": "one", "at": "2027-03-01 09:00"} | fields)
    return [(f"{each.at:%a %d %b %H:%M %Z}", each.post.text) for each in planned.in_turn(BERLIN, NOW)]


def test_a_weekly_post_is_planned_four_weeks_ahead_at_the_same_time_on_the_clock() -> None:
    assert in_turn(repeat="weekly") == [
        ("Mon 22 Mar 09:00 CET", "one"),
        ("Mon 29 Mar 09:00 CEST", "one"),
        ("Mon 05 Apr 09:00 CEST", "one"),
        ("Mon 12 Apr 09:00 CEST", "one"),
    ]


def test_variants_take_turns_whenever_the_calendar_is_read() -> None:
    # The first was on 1 March.
    assert [text for _, text in in_turn(repeat="weekly", variants=["two", "three"])] == ["one", "two", "three", "one"]


@pytest.mark.parametrize(
    ("repeat", "days"),
    [
        ("monthly", ["Thu 01 Apr"]),
        ("0 9 * * 5", ["Fri 19 Mar", "Fri 26 Mar", "Fri 02 Apr", "Fri 09 Apr"]),
        ("yearly", []),
    ],
)
def test_a_word_or_a_cron_expression_says_how_often(repeat: str, days: list[str]) -> None:
    assert [at[:10] for at, _ in in_turn(repeat=repeat)] == days


def test_the_last_time_is_known() -> None:
    assert [at[:10] for at, _ in in_turn(repeat="weekly", until="2027-03-29 09:00")] == ["Mon 22 Mar", "Mon 29 Mar"]


def test_each_hour_of_the_night_in_which_the_clocks_go_back_has_a_key_of_its_own() -> None:
    planned = PlannedPost(account="alice", post="one", at="2027-10-30 23:00", repeat="hourly", key="k")
    night = list(planned.in_turn(BERLIN, datetime(2027, 10, 30, 20, tzinfo=UTC)))[:6]
    times = {each.at.astimezone(UTC) for each in night if each.at}
    assert len({each.key for each in night}) == len(times) == 6


def test_each_time_has_a_key_of_its_own_which_stays() -> None:
    planned = PlannedPost(account="alice", post="one", at="2027-03-01 09:00", repeat="weekly", key="news")
    keys = [each.key for each in planned.in_turn(BERLIN, NOW)]
    assert keys[0] == "news 2027-03-22"
    later = planned.model_copy(update={"at": datetime(2027, 3, 1, 10)})
    assert [each.key for each in later.in_turn(BERLIN, NOW)] == keys
    assert [each.key for each in planned.in_turn(BERLIN, NOW + timedelta(weeks=1))][:3] == keys[1:]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"repeat": "weekly", "at": None}, "at: a repeated post needs the time at which it first goes out."),
        ({"repeat": "fortnightly"}, "'fortnightly' is not understood, or never comes. Write hourly, daily, weekdays,"),
        ({"repeat": "0 0 30 2 *"}, "'0 0 30 2 \\*' is not understood, or never comes."),
        ({"repeat": "{weekly}"}, "repeat: '{weekly}' is not understood"),
        ({"repeat": "*/5 * * * *"}, "more often than once an hour"),
        ({"repeat": "0 */10 * * * *"}, "is not understood"),
        ({"repeat": "weekly", "until": "2027-02-01"}, "until: it is before the first time"),
        ({"variants": ["two"]}, "variants: only repeated posts have it. Write repeat: weekly, or remove it."),
        ({"until": "2027-04-01"}, "until: only repeated posts have it."),
        ({"repeat": "weekly", "variants": ["x" * 301]}, "variants\\[0\\]: text: it has 301 characters"),
    ],
)
def test_what_cannot_be_repeated_is_named_with_the_remedy(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        in_turn(**fields)
