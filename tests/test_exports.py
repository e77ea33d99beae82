"""Tables that other schedulers and spreadsheets export, read as they are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from prefect_bluesky import PlannedPost
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media import File
from prefect_bluesky.planning.calendar import Calendar, read_calendar

EIGHT = datetime(2026, 12, 1, 8)
BUFFER = """Text,Image URL,Tags,Posting Time
"First, with a comma",https://example.com/a.png,campaign-1,2026-12-01 08:00
Second,,,2026-12-02 08:00
"""
HOOTSUITE = """12/01/2026 08:00,"First, with a comma",https://example.com
12/24/2026 08:00,Second,
"""
POSTIZ = """id,content,publish date,state,image
1,First,2026-12-01T08:00,QUEUE,https://example.com/a.png
"""
GERMAN_EXCEL = """Datum;Uhrzeit;Beitrag;Bild;Alternativtext;Verantwortlich
01.12.2026;08:00;Erster;https://example.com/a.png;Ein Bild;Eva
"""
FRENCH = "Date de publication;Texte;Compte\n01/12/2026 08:00;Premier;alice\n31/12/2026 08:00;Second;alice\n"
OWN_WITH_LOCAL_DATES = "account;at;text\nalice;1.12.2026 8:00;First\n"


def read(folder: Path, text: str, encoding: str = "utf-8-sig", **options: str) -> Calendar:
    file = folder / "export.csv"
    file.write_text(text, encoding=encoding)
    return read_calendar(File(source=str(file)), **{"account": "alice"} | options)


@pytest.mark.parametrize(
    ("table", "text", "note"),
    [
        (
            BUFFER, "First, with a comma",
            "“Text” is text, “Image URL” is image, “Posting Time” is at; left out: “Tags”",
        ),
        (HOOTSUITE, "First, with a comma", "no header: time, text and link"),
        (POSTIZ, "First", "“content” is text, “publish date” is at, “image” is image; left out: “id”, “state”"),
        (
            GERMAN_EXCEL, "Erster",
            "“Datum” is date, “Uhrzeit” is time, “Beitrag” is text, “Bild” is image, “Alternativtext” is alt;"
            " left out: “Verantwortlich”",
        ),
        (FRENCH, "Premier", "“Date de publication” is at, “Texte” is text, “Compte” is account"),
        (OWN_WITH_LOCAL_DATES, "First", ""),
    ],
    ids=["Buffer", "Hootsuite", "Postiz", "German Excel", "French", "own names, local dates"],
)  # fmt: skip
def test_an_export_is_read_and_says_how_each_column_was_understood(
    tmp_path: Path, table: str, text: str, note: str
) -> None:
    calendar = read(tmp_path, table)
    assert calendar.note == note
    planned = [entry for _, entry in calendar.entries]
    assert all(isinstance(entry, PlannedPost) for entry in planned)
    assert isinstance(planned[0], PlannedPost)
    assert (planned[0].account, planned[0].post.text, planned[0].at) == ("alice", text, EIGHT)


def test_images_and_links_come_along(tmp_path: Path) -> None:
    def first(table: str) -> PlannedPost:
        found = read(tmp_path, table).entries[0][1]
        assert isinstance(found, PlannedPost)
        return found

    image = first(GERMAN_EXCEL).post.images[0]
    assert (image.source, image.alt) == ("https://example.com/a.png", "Ein Bild")
    card = first(HOOTSUITE).post.link_card
    assert card is not None
    assert card.url == "https://example.com"
    several = first("Message,Media URLs\nTwo,https://example.com/a.png https://example.com/b.png\n")
    assert [each.source[-5:] for each in several.post.images] == ["a.png", "b.png"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_save_is_read(tmp_path: Path, encoding: str) -> None:
    assert len(read(tmp_path, GERMAN_EXCEL.replace("\n", "\r\n"), encoding).entries) == 1


class TestDates:
    """Dates whose day and month are in another order."""

    TABLE = "Message,Date\nFirst,01/12/2026 08:00\nSecond,02/12/2026 08:00\n"

    def test_a_date_that_nothing_explains_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        (_, unclear), _ = read(tmp_path, self.TABLE).entries
        assert str(getattr(unclear, "reason", "")) == (
            "at: '01/12/2026 08:00' may be month 1 or month 12. Write the year first, or set dates to day-first"
            " or month-first (--dates in a shell)."
        )

    @pytest.mark.parametrize(("dates", "at"), [("day-first", EIGHT), ("month-first", datetime(2026, 1, 12, 8))])
    def test_a_person_may_say_the_order(self, tmp_path: Path, dates: str, at: datetime) -> None:
        entry = read(tmp_path, self.TABLE, dates=dates).entries[0][1]
        assert isinstance(entry, PlannedPost)
        assert entry.at == at

    def test_another_date_of_the_column_tells_the_order(self, tmp_path: Path) -> None:
        entry = read(tmp_path, self.TABLE + "Third,13/12/2026 08:00\n").entries[0][1]
        assert isinstance(entry, PlannedPost)
        assert entry.at == EIGHT


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "Message,Wann\nHi,2027-12-25 08:00\n",
            "the column 'Wann' holds times, and nothing says that posts go out then.",
        ),
        ("Message,Date,Moment\nHi,2027-12-25,08:00\n", "the column 'Moment' holds times"),
    ],
)
def test_a_column_of_times_that_is_not_understood_publishes_nothing_at_once(
    tmp_path: Path, table: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        read(tmp_path, table)


def test_a_time_zone_in_a_column_s_name_is_that_of_the_times(tmp_path: Path) -> None:
    assert read(tmp_path, "Message,Scheduled at (UTC)\nHi,2027-12-25 08:00\n").timezone == "UTC"


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("Message,Scheduled,Date,Time\nHi,,2026-12-01,08:00\n", "at", EIGHT),
        ("Text,Zeit\nHi,2026-12-01 08:00\n", "at", EIGHT),
        ("2026-12-01 08:00,Hi\n2026-12-02 08:00,Ho,https://example.com\n", "at", EIGHT),
        ("Message,Date,Link\nHi,2026-12-01 08:00\nHo,2026-12-01 08:00,\n", "at", EIGHT),
    ],
)
def test_cells_that_are_left_out_do_no_harm(tmp_path: Path, table: str, field: str, value: object) -> None:
    assert {getattr(entry, field, None) for _, entry in read(tmp_path, table).entries[:1]} == {value}


def test_a_second_column_counts_where_the_first_is_empty(tmp_path: Path) -> None:
    (entry,) = [each for _, each in read(tmp_path, "Message,Link,URL\nHi,,https://example.com\n").entries]
    assert isinstance(entry, PlannedPost)
    assert entry.post.link_card is not None


def test_a_cell_without_a_name_above_it_is_named(tmp_path: Path) -> None:
    ((_, unusable),) = read(tmp_path, "Message,,Date\nHi,https://example.com,2026-12-01\n").entries
    assert "'https://example.com' is in no column that has a name" in str(getattr(unusable, "reason", ""))


def test_a_name_that_is_mistyped_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no column 'txet'"):
        read(tmp_path, "account,txet\nalice,Hi\n")
