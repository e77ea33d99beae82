"""Calendars: what each format says, and what a bad one is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prefect.filesystems import LocalFileSystem
from pydantic import ValidationError

from prefect_bluesky import PlannedPost
from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.media.files import File
from prefect_bluesky.planning.calendar import Calendar, Unusable, read_calendar

ONE = {"account": "alice", "at": "2026-12-01 08:00", "text": "Good morning", "languages": ["en", "no"]}

WRITTEN = {
    "list.yaml": "- account: alice\n  at: 2026-12-01 08:00\n  text: Good morning\n  languages: [en, no]\n",
    "mapping.yml": (
        "account: alice\nposts:\n- at: 2026-12-01 08:00\n  post:\n    text: Good morning\n    languages: [en, no]\n"
    ),
    "list.json": json.dumps([ONE]),
    "mapping.json": json.dumps({"posts": [ONE]}),
    "commas.csv": 'account,at,text,languages\nalice,2026-12-01 08:00,Good morning,"en, no"\n',
    "semicolons.csv": "\ufeffAccount;At;Text;Languages\r\nalice;2026-12-01 08:00;Good morning;en, no\r\n;;;\r\n",
    "post.md": "---\naccount: alice\nat: 2026-12-01 08:00\nlanguages: [en, no]\n---\n\nGood morning\n",
}


def read(folder: Path, name: str, text: str) -> Calendar:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return read_calendar(File(source=str(folder / name)))


def only(calendar: Calendar) -> PlannedPost:
    ((_, planned),) = calendar.entries
    assert isinstance(planned, PlannedPost)
    return planned


@pytest.mark.parametrize("name", WRITTEN)
def test_each_format_says_the_same(tmp_path: Path, name: str) -> None:
    assert only(read(tmp_path, name, WRITTEN[name])) == PlannedPost.model_validate(ONE)


def test_several_posts_stand_in_one_markdown_file(tmp_path: Path) -> None:
    text = "---\naccount: alice\n---\nFirst\n\nwith *** a rule\n---\naccount: bob\nkey: 2026\n---\nSecond\n"
    calendar = read(tmp_path, "posts.md", text)
    first, second = [each for _, each in calendar.entries if isinstance(each, PlannedPost)]
    assert (first.account, first.post.text) == ("alice", "First\n\nwith *** a rule")
    assert (second.account, second.post.text, second.key) == ("bob", "Second", "2026")


def test_images_in_markdown_stand_on_lines_of_their_own(tmp_path: Path) -> None:
    planned = only(read(tmp_path, "post.md", "---\naccount: alice\n---\nLook:\n\n![A chart](charts/a.png)\n"))
    assert planned.post.text == "Look:"
    (image,) = planned.post.images
    assert (image.alt, image.source) == ("A chart", str(tmp_path / "charts" / "a.png"))


def test_a_csv_has_images_in_columns(tmp_path: Path) -> None:
    planned = only(read(tmp_path, "c.csv", "account,text,image,alt,image 2\nalice,Hi,a.png,An a,b.png\n"))
    assert [(image.source, image.alt) for image in planned.post.images] == [
        (str(tmp_path / "a.png"), "An a"),
        (str(tmp_path / "b.png"), ""),
    ]


def test_paths_lead_on_from_the_calendar_and_urls_stay(tmp_path: Path) -> None:
    attached = {
        "images": [{"source": "a.png"}, {"source": "https://example.com/b.png"}],
        "thread": [{"text": "x", "link_card": {"url": "https://example.com", "thumbnail": "c.png"}}],
    }
    post = only(read(tmp_path, "c.json", json.dumps([{"account": "alice", "text": "Hi", **attached}]))).post
    assert [image.source for image in post.images] == [str(tmp_path / "a.png"), "https://example.com/b.png"]
    card = post.thread[0].link_card
    assert card is not None
    assert card.thumbnail is not None
    assert card.thumbnail.source == str(tmp_path / "c.png")


def test_in_a_storage_block_files_lie_beside_the_calendar(prefect_api: str, tmp_path: Path) -> None:
    LocalFileSystem(basepath=str(tmp_path)).save("calendars", overwrite=True)
    (tmp_path / "december").mkdir()
    (tmp_path / "december" / "c.json").write_text(json.dumps([{**ONE, "images": [{"source": "a.png"}]}]))
    calendar = read_calendar(File(source="december/c.json", storage="local-file-system/calendars"))
    (image,) = only(calendar).post.images
    assert (image.source, image.storage) == ("december/a.png", "local-file-system/calendars")


def test_a_calendar_says_where_its_times_hold(tmp_path: Path) -> None:
    calendar = read(tmp_path, "c.yaml", f"timezone: Europe/Berlin\nposts: {json.dumps([ONE])}")
    assert calendar.timezone == "Europe/Berlin"


def test_a_rule_in_markdown_publishes_no_half_of_a_post(tmp_path: Path) -> None:
    text = "---\naccount: alice\n---\nHello\n\n---\n\nmore\n\n---\n\nend\n"
    assert all(isinstance(each, Unusable) for _, each in read(tmp_path, "posts.md", text).entries)


def test_a_calendar_from_elsewhere_reads_no_file_of_the_worker(prefect_api: str, tmp_path: Path) -> None:
    LocalFileSystem(basepath=str(tmp_path)).save("elsewhere", overwrite=True)
    (tmp_path / "c.json").write_text(json.dumps([{**ONE, "images": [{"source": "/etc/hostname"}]}]))
    ((_, unusable),) = read_calendar(File(source="c.json", storage="local-file-system/elsewhere")).entries
    assert isinstance(unusable, Unusable)
    assert "is outside the storage of" in unusable.reason


class TestBad:
    """Files that cannot be read."""

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("c.txt", "", "c.txt ends with none of .yaml"),
            ("calendar", "", "calendar ends with none of"),
            ("c.yaml", "posts: [", "line 1"),
            ("c.yaml", "a: b", "unknown fields: a"),
            ("c.yaml", "timezone: UTC", "posts: is missing"),
            ("c.yaml", "just text", "not a list of posts"),
            ("c.json", '[{"text": }]', "line 1: Expecting value"),
            ("c.json", "[" * 100_000, "nested too deeply"),
            ("c.csv", "account,txet\nalice,Hi\n", "there is no column 'txet'"),
            ("c.csv", 'account,text\nalice,"Hi\n', "row 2"),
            ("c.csv", "account,text,text\nalice,Hi,Ho\n", "the column 'text' appears twice"),
            ("c.yaml", "- &a {account: alice, text: Hi}\n- *a\n", "line 1: YAML reads &a as a mark of its own"),
            ("c.json", '{"timezone": 5, "posts": []}', "timezone: the value is not a text"),
            ("c.md", "No front matter", "line 1 does not start a front matter"),
            ("c.md", "---\naccount: alice\n", "does not end"),
            ("c.md", "---\naccount: alice\n---\nHi\n---\nmore\n", "line 5"),
        ],
    )
    def test_a_broken_file_is_refused_with_the_line_and_the_remedy(
        self, tmp_path: Path, name: str, text: str, said: str
    ) -> None:
        with pytest.raises(InvalidInput, match="calendar: ") as refused:
            read(tmp_path, name, text)
        assert said in str(refused.value)

    def test_text_that_is_not_utf_8_is_refused_with_its_line(self, tmp_path: Path) -> None:
        (tmp_path / "c.csv").write_bytes(b"account,text\nalice,caf\xe9\n")
        with pytest.raises(InvalidInput, match=r"line 2 is not UTF-8\. Save the file as UTF-8"):
            read_calendar(File(source=str(tmp_path / "c.csv")))

    @pytest.mark.parametrize(
        ("name", "text", "place", "said"),
        [
            ("c.yaml", "- text: Hi", "post 1", "account: it is missing"),
            ("c.yaml", "- account: a\n  text: ''", "post 1", "text: the post is empty"),
            ("c.yaml", "- account: a\n  text: Hi\n  at: tomorrow", "post 1", "at: "),
            ("c.yaml", "- account: a\n  text: Hi\n  at: 20261201", "post 1", "'20261201' is not a time"),
            ("c.json", '[{"account": "a", "text": "Hi", "at": 2026}]', "post 1", "'2026' is not a time"),
            ("c.yaml", "- account: a\n  text: Hi\n  at: 9999-12-31", "post 1", "9999 is out of range (2000 to 2199)."),
            ("c.yaml", "- account: a?b\n  text: Hi", "post 1", "'a?b' is not a block's name"),
            ("c.yaml", "- account: a\n  txet: Hi", "post 1", "txet: there is no such field"),
            ("c.yaml", "- account: a\n  text: Hi\n  post: Ho", "post 1", "text given beside post"),
            ("c.yaml", "- just text", "post 1", "it is not a list of fields with values"),
            ("c.csv", "account,text\na,Hi,Ho\n", "row 2", "'Ho' is in no column"),
            ("c.csv", "account,text,image\na,Hi,\n,Ho,x.png\n", "row 3", "account: it is missing"),
            ("c.md", "---\nnothing\n---\nHi\n", "post 1", "front matter: line 1 begins none"),
            ("c.md", "---\naccount: a\ntext: Hi\n---\nHo\n", "post 1", "text: the front matter has it too"),
        ],
    )
    def test_one_bad_post_is_refused_alone(self, tmp_path: Path, name: str, text: str, place: str, said: str) -> None:
        where, unusable = read(tmp_path, name, text).entries[-1]
        assert where == place
        assert isinstance(unusable, Unusable)
        assert said in unusable.reason

    @given(text=st.text(), name=st.sampled_from(sorted(WRITTEN)))
    def test_nothing_that_is_written_breaks_it(
        self, tmp_path_factory: pytest.TempPathFactory, text: str, name: str
    ) -> None:
        folder = tmp_path_factory.getbasetemp()
        try:
            calendar = read(folder, name, text.encode("utf-8", "replace").decode())
        except BlueskyError:
            return
        assert all(isinstance(each, PlannedPost | Unusable) for _, each in calendar.entries)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=80).filter(str.strip)


@given(text=texts, key=st.none() | texts.map(str.strip).filter(str.isprintable))
@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_written_calendar_is_read_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, text: str, key: str | None
) -> None:
    item = {"account": "alice", "text": text, "key": key}
    written = yaml.safe_dump([item]) if suffix == "yaml" else json.dumps([item])
    assert only(read(tmp_path_factory.getbasetemp(), f"c.{suffix}", written)) == PlannedPost.model_validate(item)


class TestPlanned:
    """A planned post with everything fixed."""

    def with_time_and_key(self, occasion: str = "", **fields: Any) -> PlannedPost:
        planned = PlannedPost.model_validate({"account": "alice", "text": "Hi", **fields})
        return planned.with_time_and_key(ZoneInfo("Europe/Berlin"), occasion)

    def test_a_time_without_an_offset_holds_in_the_timezone(self) -> None:
        assert self.with_time_and_key(at="2026-07-01T08:00").at == datetime(2026, 7, 1, 6, tzinfo=UTC)
        assert self.with_time_and_key(at="2026-07-01T08:00-03:00").at == datetime(2026, 7, 1, 11, tzinfo=UTC)

    def test_a_key_of_its_own_stays(self) -> None:
        assert self.with_time_and_key(key="k", at="2026-07-01T08:00").key == "k"

    @pytest.mark.parametrize(
        "other", [{"text": "Ho"}, {"at": "2026-07-01T08:01"}, {"occasion": "another run"}, {"languages": ["en"]}]
    )
    def test_without_one_it_has_one_by_its_time_and_content(self, other: dict[str, Any]) -> None:
        timed = {"at": "2026-07-01T08:00"} if "occasion" not in other else {}
        assert self.with_time_and_key(**timed).key == self.with_time_and_key(**timed).key
        assert self.with_time_and_key(**timed).key != self.with_time_and_key(**{**timed, **other}).key

    @pytest.mark.parametrize("fields", [{"key": "a\nb"}, {"account": ""}, {"at": "soon"}, {"text": "x" * 301}])
    def test_impossible_values_are_refused(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            self.with_time_and_key(**fields)
