"""Ideas as people have them: notes, Markdown of any generator, pages, feeds and folders."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from prefect_bluesky.compose import Item, read_items
from prefect_bluesky.compose.idea import Idea, read_idea, read_idea_file
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media import File
from tests.support import web_page

pytestmark = pytest.mark.usefixtures("loopback_is_allowed")


def idea_of(folder: Path, text: str) -> Idea:
    file = folder / "post.md"
    file.write_text(text)
    return read_idea_file(File(source=str(file)))


# notes


@pytest.mark.parametrize(
    ("written", "text", "link"),
    [
        ("Release 2.0 is out: https://example.com/2", "Release 2.0 is out", "https://example.com/2"),
        ("Release 2.0 is out\nhttps://example.com/2", "Release 2.0 is out", "https://example.com/2"),
        ("Release 2.0 is at https://example.com/2", "Release 2.0 is at https://example.com/2", "https://example.com/2"),
        ("Read https://example.com/2 #release", "Read https://example.com/2 #release", "https://example.com/2"),
        ("Read https://example.com/2! Now.", "Read https://example.com/2! Now.", "https://example.com/2"),
        ("No link at all", "No link at all", None),
    ],
)
def test_a_link_is_found_wherever_it_stands_and_leaves_no_gap(written: str, text: str, link: str | None) -> None:
    idea = read_idea(written)
    assert (idea.text, idea.link) == (text, link)


@pytest.mark.parametrize("end", ["!", ".", ")", "%20x", "?q=a,b", "#top"])
def test_a_link_by_itself_is_its_page_whatever_it_ends_in(end: str) -> None:
    with web_page(b"<title>Faster</title><p>It is faster than ever before, on every machine.</p>") as url:
        assert read_idea("", f"{url}/Yahoo{end}").title == "Faster"
        assert read_idea(f"{url}/Yahoo{end}").link == f"{url}/Yahoo{end}"


# Markdown

FRONT = {
    '+++\ntitle = "Meetup #3"\ndate = 2026-12-01\n+++\nCome to it.': "TOML",
    '{\n  "title": "Meetup #3"\n}\nCome to it.': "JSON",
    '---\ntitle: "Meetup #3"\nlayout: post\n---\nCome to it.': "YAML",
    "\ufeff---\r\ntitle: 'Meetup #3'\r\n---\r\nCome to it.\r\n": "a byte order mark and CR LF",
}


@pytest.mark.parametrize("written", FRONT, ids=FRONT.values())
def test_front_matter_is_no_text(tmp_path: Path, written: str) -> None:
    idea = idea_of(tmp_path, written)
    assert (idea.title, idea.text) == ("Meetup #3", "Come to it.")


def test_a_title_that_yaml_would_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="line 2: YAML drops “#3” as a comment"):
        idea_of(tmp_path, "---\ntitle: Meetup #3\n---\nCome to it.")


@pytest.mark.parametrize("matter", ["draft: true", "published: false"])
def test_a_draft_is_no_idea(tmp_path: Path, matter: str) -> None:
    with pytest.raises(InvalidInput, match="calls it a draft"):
        idea_of(tmp_path, f"---\n{matter}\n---\nNot yet.")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("One line<br/>next line", "One line\nnext line"),
        ("Text {{< youtube abc >}} goes on", "Text  goes on"),
        ("{% include note.html %}\n\nText", "Text"),
        ("import Chart from '../chart.js'\n\nText", "Text"),
        ("A claim[^1] here.\n\n[^1]: The source of it.", "A claim here."),
        ("A <span class='x'>word</span> &amp; more", "A word & more"),
        ("<div>\nA block\n</div>\n\nText", "A block\n\nText"),
        ("Hello <!-- never said -->there", "Hello there"),
        ("- one\n- two\n\nText", "• one\n• two\n\nText"),
        ("3. three\n4. four", "3. three\n4. four"),
    ],
)
def test_what_a_generator_of_sites_reads_is_no_text(tmp_path: Path, written: str, text: str) -> None:
    assert idea_of(tmp_path, written).text == text


@pytest.mark.parametrize(
    "image", ['![A cat](cat.jpg "Tom")', "[![A cat](cat.jpg)](https://x.test)", "![A cat](<cat.jpg>)"]
)
def test_an_image_of_any_notation_is_an_image(tmp_path: Path, image: str) -> None:
    idea = idea_of(tmp_path, f"Text\n\n{image}\n")
    assert [(each.source, each.alt) for each in idea.images] == [(str(tmp_path / "cat.jpg"), "A cat")]


# feeds


def feed(*items: str) -> bytes:
    return f'<rss version="2.0"><channel><link>https://example.com</link>{"".join(items)}</channel></rss>'.encode()


def items_of(data: bytes) -> list[Item]:
    with web_page(data) as url:
        return read_items(url)


@pytest.mark.parametrize(
    "date", ["0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-05:00", "30 Feb 2026 24:00:00", "Mo, 3. Okt. 2026", ""]
)
def test_an_odd_date_is_no_date_and_stops_no_other_item(date: str) -> None:
    odd = f"<item><link>https://example.com/odd</link><pubDate>{date}</pubDate></item>"
    fine = "<item><link>https://example.com/1</link><pubDate>Tue, 01 Dec 2026 08:00:00 GMT</pubDate></item>"
    items = items_of(feed(odd, fine))
    assert {item.parameters["link"]: item.published_at for item in items} == {
        "https://example.com/odd": None,
        "https://example.com/1": datetime(2026, 12, 1, 8, tzinfo=UTC),
    }


@pytest.mark.parametrize(
    ("written", "link"),
    [
        ("https://example.com/Yahoo!", "https://example.com/Yahoo!"),
        ("https://example.com/a b", "https://example.com/a%20b"),
        ("\n https://example.com/1 \n", "https://example.com/1"),
    ],
)
def test_a_feeds_link_is_handed_on_as_a_link(written: str, link: str) -> None:
    assert [item.parameters for item in items_of(feed(f"<item><link>{written}</link></item>"))] == [{"link": link}]


def test_what_has_no_page_is_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    atom = (
        b'<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>tag:example.com,2026:1</id><title/>'
        b'<link rel="self" href="tag:example.com,2026:1"/></entry></feed>'
    )
    assert items_of(atom) == []
    assert "item 1” is left out" in caplog.text


@pytest.mark.parametrize("guid", ['<guid isPermaLink="false">ep-42</guid>', "<guid>https://example.com/ep-42</guid>"])
def test_an_episode_without_a_page_is_its_title_with_its_sound(guid: str) -> None:
    sound = '<enclosure url="https://example.com/42.mp3" type="audio/mpeg" length="1"/>'
    (item,) = items_of(
        feed(
            f"<item><title>Episode 42</title><description>We &lt;b&gt;talk&lt;/b&gt;.</description>{guid}{sound}</item>"
        )
    )
    assert item.parameters["link"] == "https://example.com/42.mp3"
    assert item.parameters["idea"].startswith("Episode 42\n\nWe")


# folders


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A folder as editors, git and package managers leave it."""
    for name in (
        ".trash/old.md",
        ".git/COMMIT.txt",
        "node_modules/x/README.md",
        "_drafts/a.md",
        "~$post.md",
        "post.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("Text")
    (tmp_path / "later.md").write_text("---\ndraft: true\n---\nText")
    return tmp_path


def test_of_a_folder_only_what_a_person_has_written_to_be_read_is_an_idea(vault: Path) -> None:
    assert [item.name for item in read_items(str(vault))] == ["post.md"]
