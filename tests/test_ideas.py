"""Ideas as people have them: a sentence, notes with a link, a page, a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_bluesky.compose.idea import read_idea, read_idea_file
from prefect_bluesky.errors import BlueskyError, InvalidInput, SourceUnavailable
from prefect_bluesky.media import read_markdown
from prefect_bluesky.media.files import File
from tests.support import web_page

pytestmark = pytest.mark.usefixtures("loopback_is_allowed")

ARTICLE = """<html><head><title>Release 2.0 | Example</title>
<meta property="og:title" content="Release 2.0"><meta name="description" content="What is new."></head>
<body><nav><a href="/">Home</a> <a href="/blog">Blog</a></nav><article><h1>Release 2.0</h1>
<p>The new release is twice as fast as the one before, and it takes half of the memory that the old one took.</p>
<p>We rewrote the scheduler, which took all of us a year. It was worth it, as you will see when you try it.</p>
</article><footer>Copyright, imprint, cookies</footer></body></html>"""

MARKDOWN = """---
title: Release 2.0
link: https://example.com/2.0
languages: [en]
layout: post
---
It is **twice** as fast, see [the docs](https://example.com/docs).

![A chart of the speed](chart.png)

- half the memory
- one command

```
pip install example
```
"""


@pytest.fixture
def site() -> Iterator[str]:
    untitled = re.sub("<head>.*</head>|<h1>.*</h1>", "", ARTICLE, flags=re.DOTALL)
    files = {"/empty": b"<html><body></body></html>", "/untitled": untitled.encode()}
    with web_page(ARTICLE.encode(), files) as url:
        yield url


@pytest.mark.parametrize(
    ("written", "text", "link"),
    [
        ("Hello.", "Hello.", None),
        ("Release 2.0 is out: https://example.com/2.0", "Release 2.0 is out", "https://example.com/2.0"),
        ("One.\n\nTwo.\n\nhttps://example.com\n", "One.\n\nTwo.", "https://example.com"),
        ("See https://example.com for more.", "See https://example.com for more.", "https://example.com"),
        ("It is out (https://example.com)", "It is out (https://example.com)", "https://example.com"),
        ("More at https://example.com.", "More at https://example.com.", "https://example.com"),
    ],
)
def test_a_link_below_is_where_it_leads(written: str, text: str, link: str | None) -> None:
    idea = read_idea(written)
    assert (idea.text, idea.link) == (text, link)


def test_a_link_alone_is_the_article_behind_it(site: str) -> None:
    idea = read_idea(f"{site}/2.0")
    assert (idea.title, idea.link) == ("Release 2.0", f"{site}/2.0")
    paragraphs = idea.text.split("\n\n")
    assert paragraphs[-1].startswith("We rewrote the scheduler")
    assert "cookies" not in idea.text


def test_a_page_without_a_title_is_its_article(site: str) -> None:
    idea = read_idea(f"{site}/untitled")
    assert idea.text.startswith("The new release")


@pytest.mark.parametrize("link", ["example.com/2.0", "https://alice:secret@example.com", "ftp://example.com"])
def test_a_link_that_is_no_web_address_is_refused_by_its_field(tmp_path: Path, link: str) -> None:
    file = tmp_path / "idea.md"
    file.write_text(f"---\nlink: {link}\n---\nHi")
    with pytest.raises(InvalidInput, match="link: it is no web address") as refused:
        read_idea_file(File(source=str(file)))
    assert "secret" not in str(refused.value)


def test_a_page_without_an_article_holds_no_idea(site: str) -> None:
    with pytest.raises(InvalidInput, match="there is no idea in it"):
        read_idea(f"{site}/empty")


def test_a_page_that_is_away_is_said_to_be() -> None:
    with pytest.raises(SourceUnavailable):
        read_idea("http://127.0.0.1:1/")


def test_a_markdown_file_has_a_title_a_link_and_images_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "release.md"
    file.write_text(MARKDOWN)
    idea = read_idea_file(File(source=str(file)))
    assert (idea.title, idea.link, idea.languages) == ("Release 2.0", "https://example.com/2.0", ("en",))
    assert idea.text == "It is twice as fast, see the docs.\n\n• half the memory\n• one command"
    assert [(image.source, image.alt) for image in idea.images] == [
        (str(tmp_path / "chart.png"), "A chart of the speed")
    ]


def test_the_first_heading_is_the_title() -> None:
    said = read_markdown("# One *and* two\n\nText.\n\n## Three\n\n> Quoted.")
    assert (said.title, said.text) == ("One and two", "Text.\n\nThree\n\nQuoted.")


def test_a_text_file_is_an_idea_as_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("# no heading\n\nhttps://example.com")
    idea = read_idea_file(File(source=str(file)))
    assert (idea.text, idea.link) == ("# no heading", "https://example.com")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("idea.pdf", b"", "'.pdf' is none of .md, .markdown and .txt"),
        ("idea.txt", b"\xff\xfe", "is not UTF-8"),
        ("idea.md", b"---\n- a\n---\nText", "no list of fields"),
        ("idea.md", b"---\na: [\n---\nText", "file: line 3: "),
        ("idea.md", b"", "there is no idea in it"),
        ("idea.md", b"Look\n\n![](data:image/png;base64,aaaa)", "images: one is a data URL in the text"),
        ("idea.txt", b"x" * 50_001, "text: it has more than 50,000 characters. Shorten it."),
        ("idea.md", b"---\nlanguages: [klingonish]\n---\nText", "languages"),
    ],
)
def test_a_file_that_holds_none_is_refused_with_the_reason(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        read_idea_file(File(source=str(file)))


@given(st.text())
def test_any_text_is_an_idea_or_refused(text: str) -> None:
    try:
        idea = read_idea(text)
    except BlueskyError:
        return
    assert idea.text


@given(st.text())
def test_any_markdown_is_plain_text(text: str) -> None:
    said = read_markdown(text)
    assert isinstance(said.title + said.text, str)
