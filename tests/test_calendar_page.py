"""The page of what is planned, what went out and what is held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from PIL import Image

from prefect_bluesky.planning.calendar_page import Entry, State, calendar_page, picture

NOW = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)


def entry(state: State, hours: float, **fields: str) -> Entry:
    """A post some hours from now."""
    about = {"account": "alice.test", "text": "Hello", "calendar": "december.yaml"} | fields
    return Entry(at=NOW + timedelta(hours=hours), state=state, **about)


def test_the_first_line_counts() -> None:
    entries = [entry("out", -1), entry("held", -2), entry("failed", -3), entry("planned", 1)]
    page = calendar_page(entries, 12, NOW)
    assert "**12 planned for the next 7 days, 1 out since yesterday, 1 failed, 1 held**, 2026-12-01 08:30 UTC." in page


def test_an_empty_calendar_says_how_to_plan() -> None:
    assert "publish-batch" in calendar_page([], 0, NOW)


def test_trouble_comes_first_then_what_is_next_and_what_went_out_last() -> None:
    entries = [
        entry("out", -5, text="first"),
        entry("out", -1, text="last"),
        entry("planned", 9, text="then"),
        entry("planned", 1, text="next"),
        entry("held", -2, text="waits", remark="app_password_rejected"),
    ]
    page = calendar_page(entries, 2, NOW)
    places = [page.index(each) for each in ("waits", "app_password_rejected", "| next", "| then", "| last", "| first")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("text", "cell"), [("a | b", r"a \| b"), ("*bold*", r"\*bold\*"), ("[a](https://b.test)", r"\[a\](https://b.test)")]
)
def test_a_text_stays_in_its_cell_as_it_is(text: str, cell: str) -> None:
    assert f"| alice.test | {cell} | december.yaml |" in calendar_page([entry("planned", 1, text=text)], 1, NOW)


def test_a_long_table_says_how_many_are_missing() -> None:
    assert "And 60 more." in calendar_page([entry("planned", 1)] * 100, 100, NOW)


def test_a_post_that_is_out_is_one_click_away() -> None:
    link = "https://bsky.app/profile/alice.test/post/3k"
    page = calendar_page([entry("out", -1, link=link, remark="21 s late")], 0, NOW)
    assert f"| Hello | [See the post]({link}) 21 s late |" in page


def test_the_picture_shows_each_hour_in_the_colours_of_its_posts() -> None:
    colours = {"planned": (0xB6, 0xE3, 0xFF), "out": (0xAC, 0xEE, 0xBB), "held": (0xFA, 0xE1, 0x7D)}

    def share(entries: list[Entry]) -> dict[str, int]:
        pixels = Image.open(BytesIO(picture(entries, NOW))).convert("RGB").getcolors(1_000_000) or []
        return {state: sum(number for number, each in pixels if each == colour) for state, colour in colours.items()}

    legend = share([])
    drawn = share([entry("planned", 24), entry("out", -1), entry("out", -1), entry("held", -1)])
    planned, out, held = (drawn[state] - legend[state] for state in colours)
    assert planned > out > held > 0
