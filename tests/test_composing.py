"""What an idea becomes on each channel, when it goes out, and what a person may change about it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_bluesky.channels import Channel, NoAccount, Rules
from prefect_bluesky.channels.bluesky import RULES as BLUESKY
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.compose.plan import PlannedVariant, compose_idea, due
from prefect_bluesky.compose.review import answered, form
from prefect_bluesky.compose.templates import TemplateGenerator
from prefect_bluesky.errors import ServiceUnavailable

A_DAY = timedelta(days=1)
MONDAY = datetime(2026, 12, 7, 9, tzinfo=UTC)
PAGER = NoAccount(Rules("a pager", 40))
IDEA = Idea(text="Release 2.0 is out.\n\nIt runs on every machine that we have tried so far.", link="https://x.io")


class Away:
    """A channel whose rules cannot be asked for."""

    @property
    def rules(self) -> Rules:
        raise ServiceUnavailable("https://social.test", "what its limits are", 503)

    fit = PAGER.fit
    publish = PAGER.publish


class Long:
    """Makes a draft that fits nobody, and one that does."""

    def generate(self, idea: Idea, rules: Rules, count: int) -> list[Draft]:
        return [Draft(kind="hook", posts=("x" * 1000,)), Draft(kind="hook", posts=("Hi",))]


class TestCompose:
    """The variants of an idea."""

    def test_each_channel_has_its_own_within_its_rules(self) -> None:
        channels: list[tuple[str, Channel]] = [("bluesky", NoAccount(BLUESKY)), ("pager", PAGER)]
        made = compose_idea(IDEA, channels, TemplateGenerator(), 9, occasion="now")
        assert [each.variant.kind for each in made.composed if each.channel == "bluesky"] == ["hook", "link", "hook"]
        assert [each.variant.kind for each in made.composed if each.channel == "pager"] == ["hook", "hook"]

    def test_a_channel_that_is_away_stops_no_other(self) -> None:
        made = compose_idea(IDEA, [("away", Away()), ("pager", PAGER)], TemplateGenerator(), 9, occasion="now")
        assert {each.channel for each in made.composed} == {"pager"}
        assert made.problems == ["away: Something before https://social.test answered what its limits are with 503"]

    def test_a_draft_that_fits_nothing_is_left_out_with_the_reason(self) -> None:
        made = compose_idea(IDEA, [("pager", PAGER)], Long(), 9, occasion="now")
        assert [each.variant.posts for each in made.composed] == [("Hi",)]
        assert made.left_out == [
            "pager: the hook is left out. a pager: posts[0]: it has 1,000 characters, 960 over the limit of 40."
            " Shorten it."
        ]

    def test_the_same_occasion_gives_the_same_keys_and_another_others(self) -> None:
        def keys(occasion: str) -> list[str]:
            made = compose_idea(IDEA, [("pager", PAGER)], TemplateGenerator(), 9, occasion=occasion)
            return [each.key for each in made.composed]

        assert keys("now") == keys("now")
        assert not set(keys("now")) & set(keys("then"))


class TestDue:
    """The times of the variants."""

    @pytest.mark.parametrize(
        ("turn", "start", "now", "at"),
        [
            (0, None, MONDAY, MONDAY),
            (2, None, MONDAY, MONDAY + 2 * A_DAY),
            (1, MONDAY, MONDAY - A_DAY, MONDAY + A_DAY),
            (0, MONDAY, MONDAY + timedelta(minutes=2), MONDAY),
            # A review that took its time moves all of them, and keeps the time of day.
            (0, MONDAY, MONDAY + timedelta(hours=30), MONDAY + 2 * A_DAY),
            (1, MONDAY, MONDAY + timedelta(hours=30), MONDAY + 3 * A_DAY),
        ],
    )
    def test_a_turn_has_its_time(self, turn: int, start: datetime | None, now: datetime, at: datetime) -> None:
        assert due(turn, start, A_DAY, now, ZoneInfo("UTC")) == at

    def test_a_post_a_day_keeps_its_hour_when_the_clocks_change(self) -> None:
        zone = ZoneInfo("Europe/Berlin")
        start = datetime(2026, 10, 24, 9, tzinfo=zone)
        times = [due(turn, start, A_DAY, start, zone).astimezone(zone) for turn in range(3)]
        assert [f"{at:%d. %H:%M}" for at in times] == ["24. 09:00", "25. 09:00", "26. 09:00"]

    @given(st.integers(0, 20), st.none() | st.timedeltas(-100 * A_DAY, 100 * A_DAY))
    def test_nothing_goes_out_in_a_heap(self, turn: int, ahead: timedelta | None) -> None:
        start = None if ahead is None else MONDAY + ahead
        times = [due(each, start, A_DAY, MONDAY, ZoneInfo("UTC")) for each in range(turn + 1)]
        assert times[0] >= MONDAY - timedelta(minutes=5)
        assert all(after - before == A_DAY for before, after in itertools.pairwise(times))


class TestReview:
    """A person's changes."""

    channels = {"pager": PAGER}  # noqa: RUF012 (no test changes it)

    def composed(self) -> list[PlannedVariant]:
        return compose_idea(IDEA, list(self.channels.items()), TemplateGenerator(), 2, occasion="now").composed

    def answer(self, *answers: dict[str, Any], decision: str = "approve") -> tuple[list[PlannedVariant], list[str]]:
        given = {"decision": decision} | {f"variant_{number}": each for number, each in enumerate(answers, 1)}
        edited, problems = answered(given, self.composed(), self.channels)
        return edited, list(problems.values())

    def test_the_form_begins_with_what_was_composed(self) -> None:
        composed = self.composed()
        made = form(composed, self.channels, [MONDAY] * len(composed), "")
        given = made(decision="approve").model_dump(mode="json")
        assert answered(given, composed, self.channels) == (composed, {})

    def test_without_a_decision_it_is_no_answer(self) -> None:
        made = form(self.composed(), self.channels, [MONDAY, MONDAY], "")
        with pytest.raises(ValidationError, match="decision"):
            made()

    def test_the_form_shows_each_with_its_time_and_its_count(self) -> None:
        composed = self.composed()
        fields = form(composed, self.channels, [MONDAY] * len(composed), "Look again.").model_fields
        assert fields["decision"].description == "Look again."
        assert fields["variant_1"].title == "1. a pager (pager), hook"
        assert fields["variant_1"].description == "Mon 2026-12-07 09:00 UTC. 33 of 40 characters"

    def test_an_edited_variant_is_published_under_the_same_key(self) -> None:
        later = MONDAY + A_DAY
        (first, _), problems = self.answer({"posts": ["Edited"], "at": later.isoformat()})
        assert (first.variant.posts, first.at, first.key) == (("Edited",), later, self.composed()[0].key)
        assert problems == []

    def test_a_dropped_variant_is_not_published(self) -> None:
        decided, _ = self.answer({"posts": ["x"], "publish": False})
        assert [each.is_wanted for each in decided] == [False, True]

    def test_everything_can_be_dropped(self) -> None:
        decided, _ = self.answer(decision="drop everything")
        assert not any(each.is_wanted for each in decided)

    def test_an_edit_that_does_not_fit_is_named_and_kept_for_correction(self) -> None:
        (first, second), problems = self.answer({"posts": ["x" * 41]}, {"posts": ["Hi"], "at": MONDAY.isoformat()})
        assert (second.variant.posts, second.at) == (("Hi",), MONDAY)
        assert problems == [
            "a pager (pager), hook: a pager: posts[0]: it has 41 characters, 1 over the limit of 40. Shorten it."
        ]
        assert first.variant.posts == ("x" * 41,)

    @pytest.mark.parametrize("at", ["tomorrow", "20261201", "1999-01-01", "2206-01-01", "0001-01-01"])
    def test_a_time_that_is_none_is_said_and_the_texts_are_kept(self, at: str) -> None:
        (first, second), problems = self.answer({"posts": ["Edited"], "at": at}, {"posts": ["Hi"]})
        assert (first.variant.posts, second.variant.posts) == (("Edited",), ("Hi",))
        assert len(problems) == 1
        assert problems[0].startswith("a pager (pager), hook: at: ")

    def test_an_answer_for_a_channel_that_is_gone_still_counts_for_the_others(self) -> None:
        other = self.composed()[0].model_copy(update={"channel": "gone", "key": "other"})
        given = {"decision": "approve", "variant_2": {"posts": ["Edited"]}}
        (first, _), problems = answered(given, [other, *self.composed()], self.channels)
        assert (first.variant.posts, problems) == (("Edited",), {})
