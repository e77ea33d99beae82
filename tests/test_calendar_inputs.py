"""Calendars as people have them: what is in a file is published as it was meant, or refused with place and remedy."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media import File
from prefect_bluesky.planning import PlannedPost, Unusable, read_calendar


def posts(folder: Path, name: str, text: str | bytes) -> list[Any]:
    """Return what is read from a calendar: posts, or what is unusable."""
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return [entry for _, entry in read_calendar(File(source=str(file))).entries]


def the_post(folder: Path, name: str, text: str | bytes) -> PlannedPost:
    (post,) = posts(folder, name, text)
    assert isinstance(post, PlannedPost), post
    return post


YAML_TEXTS = {
    "'New release is out #release #python'": "New release is out #release #python",
    '"#Monday is here"': "#Monday is here",
    "|\n    Line one #tag\n\n    Line two": "Line one #tag\n\nLine two",
    "no": "no",
    "C# is great": "C# is great",
    "A link https://example.com/#top there": "A link https://example.com/#top there",
    "2.0": "2.0",
    "'It''s out: now & then *there* !'": "It's out: now & then *there* !",
}


@pytest.mark.parametrize("written", YAML_TEXTS)
def test_a_text_in_yaml_is_published_as_it_stands(tmp_path: Path, written: str) -> None:
    post = the_post(tmp_path, "c.yaml", f"- account: alice\n  text: {written}\n")
    assert [each.text for each in post.post.posts()] == [YAML_TEXTS[written]]


@pytest.mark.parametrize(
    ("entry", "line", "said"),
    [
        ("text: New release is out #release #python", 2, "YAML drops “#release #python” as a comment"),
        ("text: New release is out # release", 2, "YAML drops “# release” as a comment"),
        ("text: Release #1", 2, "YAML drops “#1”"),
        ("text: #Monday is here", 2, "YAML drops “#Monday is here”"),
        ('text: "New release" #python', 2, "YAML drops “#python”"),
        ("text: | #python\n    Hello", 2, "YAML drops “#python”"),
        ("tags: [release] #python\n  text: Hi", 2, "YAML drops “#python”"),
        ("thread:\n  - first\n  - second post #tag\n  text: Hi", 4, "YAML drops “#tag”"),
        ("text: one\n  at: 2026-12-01 08:00\n  text: two", 4, "'text' is there a second time, after line 2"),
        ("text: one\n  account: bob", 3, "'account' is there a second time, after line 1"),
        ("text: !important news", 2, "YAML reads !important as a mark of its own"),
        ("text: &Co is here", 2, "YAML reads &Co as a mark of its own"),
        ("text: *bold* move", 2, "found '*'"),
        ("text: *bold", 2, "*bold is an alias"),
        ("text: @alice.test said so", 2, "cannot start any token"),
        ("text: Note: this is it", 2, "mapping values are not allowed"),
    ],
)
def test_what_yaml_would_drop_or_misread_is_refused_with_its_line(
    tmp_path: Path, entry: str, line: int, said: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        posts(tmp_path, "c.yaml", f"- account: alice\n  {entry}\n")
    assert refused.value.reason.startswith(f"line {line}: ")
    assert said in refused.value.reason
    assert refused.value.remedy


@pytest.mark.parametrize("rest", ["- more of it", "- note: more\n  at: 2027-12-01 08:00", "- two words: more", "-"])
def test_a_text_that_goes_on_as_the_next_item_is_not_cut(tmp_path: Path, rest: str) -> None:
    read = posts(tmp_path, "c.yaml", f"- account: alice\n  text: Hello\n{rest}\n")
    assert [type(each) for each in read] == [Unusable, Unusable]


def test_a_misspelt_field_keeps_no_other_post_back(tmp_path: Path) -> None:
    read = posts(tmp_path, "c.yaml", "- account: alice\n  text: Hello\n- account: bob\n  txet: Hi\n")
    assert [type(each) for each in read] == [PlannedPost, Unusable]


def test_a_comment_that_is_one_is_a_comment(tmp_path: Path) -> None:
    text = "# December\nposts: # all of them\n  - account: alice # the main one\n    at: 2026-12-01 08:00 # Tuesday\n"
    assert the_post(tmp_path, "c.yaml", f"{text}    # later: bob\n    text: Hi\n").post.text == "Hi"


@pytest.mark.parametrize("name", ["posts", "account"])
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"'{name}' is there a second time, after line 1"):
        posts(tmp_path, "c.yaml", f"{name}: []\naccount2: x\n{name}: []\n")


def test_a_name_that_is_there_twice_in_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'text' is there 2 times in one object, first with 'one'"):
        posts(tmp_path, "c.json", '[{"account": "alice", "text": "one", "text": "two"}]')


# Markdown

MARKDOWN = {
    "Hello <!-- embargo until Monday -->": ("Hello", []),
    "<!-- a\nlong one -->\nHello": ("Hello", []),
    '![A cat](cat.jpg "My cat")\nHello': ("Hello", ["cat.jpg"]),
    "![A cat](<my cat.jpg>)\nHello": ("Hello", ["my cat.jpg"]),
    "![A cat](my%20cat.jpg)\nHello": ("Hello", ["my cat.jpg"]),
    "![A cat](cat_(1).jpg)\nHello": ("Hello", ["cat_(1).jpg"]),
    "[![A cat](cat.jpg)](https://example.com)\nHello": ("https://example.com\nHello", ["cat.jpg"]),
    "- Hello\n  ![A cat](cat.jpg)\n- you": ("• Hello\n• you", ["cat.jpg"]),
    "Hello ![A cat](cat.jpg) you": ("Hello  you", ["cat.jpg"]),
    "![A cat][1]\nHello\n\n[1]: cat.jpg": ("Hello", ["cat.jpg"]),
    "**bold** and _soft_ `code` ~~gone~~": ("bold and soft code gone", []),
    "# Heading\n\nHello": ("Heading\n\nHello", []),
    "The [notes](https://example.com/n) are out": ("The notes https://example.com/n are out", []),
    "<https://example.com>": ("https://example.com", []),
    "Tom &amp; Jerry": ("Tom & Jerry", []),
    "#release is out\nwith snake_case and 2 * 3 * 4": ("#release is out\nwith snake_case and 2 * 3 * 4", []),
    "1. One\n2. Two": ("1. One\n2. Two", []),
    "Hello<br>you": ("Hello\nyou", []),
    "Hello\r\n\r\nyou\r\n": ("Hello\n\nyou", []),
    "a | b\n--|--\n1 | 2": ("a | b\n--|--\n1 | 2", []),
}


@pytest.mark.parametrize("written", MARKDOWN)
def test_a_markdown_post_is_what_its_writer_sees(tmp_path: Path, written: str) -> None:
    (tmp_path / "cat.jpg").touch()
    post = the_post(tmp_path, "c.md", f"---\naccount: alice\n---\n{written}\n").post
    text, images = MARKDOWN[written]
    assert (post.text, [image.source for image in post.images]) == (text, [str(tmp_path / each) for each in images])


@pytest.mark.parametrize("address", ["notes.html", "#top", "/about"])
def test_a_link_that_leads_nowhere_from_a_post_is_refused(tmp_path: Path, address: str) -> None:
    (post,) = posts(tmp_path, "c.md", f"---\naccount: alice\n---\nSee the [notes]({address})\n")
    assert f"the link to '{address}' leads nowhere in a post" in post.reason


def test_a_table_in_excels_unicode_is_read(tmp_path: Path) -> None:
    assert the_post(tmp_path, "c.csv", "account\ttext\nalice\tGrüße\n".encode("utf-16")).post.text == "Grüße"


def test_a_comment_without_an_end_is_refused(tmp_path: Path) -> None:
    (post,) = posts(tmp_path, "c.md", "---\naccount: alice\n---\nHello <!-- not yet\n")
    assert isinstance(post, Unusable)
    assert "a comment, <!--, that does not end" in post.reason


def test_a_rule_in_a_text_loses_no_part_of_it(tmp_path: Path) -> None:
    text = "---\naccount: alice\n---\nHello\n\n---\nNote: more of it\n---\nAnd more\n"
    assert all(isinstance(post, Unusable) for post in posts(tmp_path, "c.md", text))


# CSV

CSV = {
    "sep=;\naccount;text\nalice;Hi\n": "Excel's line with the separator",
    "\n\naccount,text\nalice,Hi\n": "empty first lines",
    ",,\naccount,text,\nalice,Hi,\n": "a first line of empty cells",
    "account,text,,,\nalice,Hi,,,\n": "empty columns at the end",
    "account;at;text\ralice;2027-12-01 08:00;Hi\r": "lines that end in CR",
    'account\ttext\nalice\t"Hi"\n': "tabs",
    "\ufeffAccount , TEXT\nalice,Hi\n": "a byte order mark, and capitals",
    "account;text;key\nalice;Hi;a,b,c,d,e\n": "commas in a cell of the second line",
    '"account","text"\n"alice","Hi"\n': "quotes around everything",
    "account|text\nalice|Hi\n": "bars",
}


@pytest.mark.parametrize("written", CSV, ids=CSV.values())
def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path, written: str) -> None:
    assert the_post(tmp_path, "c.csv", written).post.text == "Hi"


@pytest.mark.parametrize("cell", ["one,two", "one;two", "#one #two", "#one, #two", "one\ntwo"])
def test_tags_in_a_cell_are_a_list(tmp_path: Path, cell: str) -> None:
    post = the_post(tmp_path, "c.csv", f'account,text,tags\nalice,Hi,"{cell}"\n').post
    assert post.tags == ("one", "two")


def test_a_row_is_the_spreadsheets_row(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text('account,text\nalice,"a text\nof three\nlines"\n\nalice,\n')
    assert [place for place, _ in read_calendar(File(source=str(file))).entries] == ["row 2", "row 4"]


def refusal(folder: Path, table: str) -> str:
    """Return why a table, or its one post, is refused."""
    try:
        (post,) = posts(folder, "c.csv", table)
    except InvalidInput as refused:
        return refused.reason
    return str(post.reason)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("account,text\nalice,Hi, you\n", "' you' is in no column that has a name"),
        ('account,text\nalice,"Hi\nbob,Ho\n', "row 2: a text begins with a quote, and no quote ends it"),
        ("account,massage\nalice,Hi\n", "there is no column 'massage'"),
    ],
)
def test_a_table_that_is_unclear_is_refused(tmp_path: Path, written: str, said: str) -> None:
    assert said in refusal(tmp_path, written)


# times, and values of the wrong kind


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("2026-12-01 8:00", datetime(2026, 12, 1, 8)),
        ("2026-12-1 08:00:00", datetime(2026, 12, 1, 8)),
        ("2026-12-01 8:30 PM", datetime(2026, 12, 1, 20, 30)),
        ("2026-12-01T08:00Z", datetime(2026, 12, 1, 8, tzinfo=UTC)),
        ("2026-12-01 08:00 +00:00", datetime(2026, 12, 1, 8, tzinfo=UTC)),
        ("2026-12-01 08:00 UTC", datetime(2026, 12, 1, 8, tzinfo=UTC)),
        ("2026/12/01 08:00", datetime(2026, 12, 1, 8)),
        ("2026-12-01T08:00:00.123456+00:00", datetime(2026, 12, 1, 8, 0, 0, 123456, tzinfo=UTC)),
        ("2026-12-01, 08:00", datetime(2026, 12, 1, 8)),
        ("2026-12-01 8am", datetime(2026, 12, 1, 8)),
        ("2026-12-01 12:15 am", datetime(2026, 12, 1, 0, 15)),
        ("2026-12-01 08:00+00", datetime(2026, 12, 1, 8, tzinfo=UTC)),
    ],
)
def test_a_time_with_the_year_first_is_read(tmp_path: Path, written: str, at: datetime) -> None:
    assert the_post(tmp_path, "c.yaml", f"- account: alice\n  text: Hi\n  at: {written}\n").at == at


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("01.12.2026 08:00", "Write a time such as 2026-12-01 08:00."),
        ("12/1/2026 8:00 AM", "Write a time such as 2026-12-01 08:00."),
        ("2026-12-01 08:00 CET", "Write an offset such as +01:00 in place of the zone's letters"),
        ("2026-02-30 08:00", "Write a time such as 2026-12-01 08:00."),
        ("2026-12-01 24:00", "Write a time such as 2026-12-01 08:00."),
        ("20261201", "Write a time such as 2026-12-01 08:00."),
        ("tomorrow", "Write a time such as 2026-12-01 08:00."),
    ],
)
def test_a_time_that_is_unclear_is_refused(tmp_path: Path, written: str, remedy: str) -> None:
    (post,) = posts(tmp_path, "c.yaml", f"- account: alice\n  text: Hi\n  at: {written}\n")
    assert "is not a time" in post.reason
    assert remedy in post.reason


def test_one_value_in_place_of_a_list_is_a_list_of_one(tmp_path: Path) -> None:
    written = "- account: alice\n  text: Hi\n  languages: en\n  tags: one, two\n  images: cat.jpg\n"
    post = the_post(tmp_path, "c.yaml", written).post
    assert (post.languages, post.tags, [each.source for each in post.images]) == (
        ("en",),
        ("one", "two"),
        [str(tmp_path / "cat.jpg")],
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("text: [draft]", "text: it is not a text"),
        ("text:", "text: it is not a text"),
        ("text: Hi\n  images:\n  - alt: A cat", "images.0.source: it is missing"),
        ("txt: Hi", "txt: there is no such field"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_in_plain_words(tmp_path: Path, entry: str, said: str) -> None:
    (post,) = posts(tmp_path, "c.yaml", f"- account: alice\n  {entry}\n")
    assert said in post.reason


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip))
def test_any_text_in_quotes_is_the_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("calendar")
    (post,) = posts(folder, "c.yaml", f"- account: alice\n  text: {json.dumps(text)}\n")
    # The longest texts are over the limit.
    assert isinstance(post, Unusable) or post.post.text == text
