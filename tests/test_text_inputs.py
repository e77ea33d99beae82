"""Texts, pages and files as people have them: published as the app would do it, or refused with the true reason."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_bluesky import Post
from prefect_bluesky.compose.idea import read_idea
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media import File, read_file
from prefect_bluesky.posts import rich_text, sentences
from prefect_bluesky.web import fetch
from tests.support import QuietHandler, http_server, web_page


def shown(text: str) -> str:
    """Return a text as it is published."""
    (post,) = Post(text=text).posts()
    return post.text


@pytest.mark.parametrize(
    ("written", "published"),
    [
        ("\ufeffHello", "Hello"),
        ("Hello\n", "Hello"),
        ("  \n Hello  ", "Hello"),
        ("One\n\n\n\nTwo", "One\n\nTwo"),
        ("One\n \u200b\n\t\nTwo", "One\n\nTwo"),
        ("One\n\nTwo", "One\n\nTwo"),
        ("One\r\nTwo\rThree", "One\nTwo\nThree"),
        ("First line\vsecond", "First line\nsecond"),
        ("a  b", "a  b"),
    ],
)
def test_a_text_is_trimmed_as_the_app_does_it(written: str, published: str) -> None:
    assert shown(written) == published


def test_three_hundred_characters_in_a_block_of_yaml_are_three_hundred() -> None:
    assert shown("x" * 300 + "\n") == "x" * 300


def test_what_is_trimmed_makes_no_other_post() -> None:
    assert Post(text="Hello\n").content() != Post(text="Hello").content()  # a calendar that is read again


def test_facets_count_what_is_published() -> None:
    text = shown("\ufeffSee https://example.com #tag")
    published, facets = rich_text(text, lambda handle: None)
    marked = [published.encode()[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode() for facet in facets]
    assert marked == ["example.com", "#tag"]


@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_a_character_that_nothing_keeps_is_refused(character: str) -> None:
    with pytest.raises(InvalidInput, match=r"character 3 is .* Remove it\."):
        Post(text=f"ab{character}")


def test_half_a_surrogate_in_a_tag_is_named() -> None:
    with pytest.raises(InvalidInput, match="half of a surrogate pair"):
        Post(text="a", tags=["a\ud800"])


def test_a_password_in_a_link_is_not_shown() -> None:
    published, (facet,) = rich_text("https://user:pw@example.com/x", lambda handle: None)
    assert published == "example.com/x"
    assert facet["features"][0]["uri"] == "https://user:pw@example.com/x"


def test_a_host_that_unicode_normalizes_is_a_link() -> None:
    (facet,) = rich_text("https://example.com＃tag", lambda handle: None)[1]
    assert facet["features"][0]["uri"] == "https://example.com＃tag"


NUMBERED = "\n".join(
    f"{number}. Do the thing number {number}, which takes a while and some patience." for number in range(1, 13)
)


def test_a_list_is_split_between_its_items() -> None:
    posts = [post.text for post in Post(text=NUMBERED, split_long_text=True).posts()]
    assert len(posts) > 2
    assert "\n".join(posts) == NUMBERED


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Dr. Smith joins us. He is great.", ["Dr. Smith joins us.", "He is great."]),
        ("The U.S. Government won. It did.", ["The U.S. Government won.", "It did."]),
        ("Am 3. Oktober ist frei. Ja.", ["Am 3. Oktober ist frei.", "Ja."]),
        ("これは文です。 次の文です。", ["これは文です。", "次の文です。"]),
        ("यह वाक्य है। दूसरा वाक्य।", ["यह वाक्य है।", "दूसरा वाक्य।"]),
        ("J. R. R. Tolkien wrote. So.", ["J. R. R. Tolkien wrote.", "So."]),
        ("See Sect. 4 for more. Then go.", ["See Sect. 4 for more.", "Then go."]),
    ],
)
def test_a_sentence_ends_where_a_reader_pauses(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


@pytest.fixture
def file_url() -> Iterator[str]:
    """An address at which there is a PDF, gzipped in two members at `/two`."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802
            if self.path == "/two":
                body = gzip.compress(b"one ") + gzip.compress(b"two")
                self.answer(200, body, Content_Type="text/plain", Content_Encoding="gzip")
            else:
                self.answer(200, b"%PDF-1.7", Content_Type="application/pdf")

    with http_server(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def test_a_link_to_a_file_is_no_idea(file_url: str, loopback_is_allowed: None) -> None:
    with pytest.raises(InvalidInput, match=r"is no page with a text: application/pdf\. Write a sentence of your own"):
        read_idea(f"{file_url}/paper.pdf")


def test_of_several_members_of_gzip_all_are_read(file_url: str) -> None:
    fetched = fetch(f"{file_url}/two", max_bytes=100, timeout=5, allow_private=True)
    assert fetched.data == b"one two"


def test_a_path_that_was_written_as_an_address_is_found(tmp_path: Path) -> None:
    (tmp_path / "my cat.txt").write_bytes(b"meow")
    assert read_file(File(source=f"{tmp_path}/my%20cat.txt"), "file", max_bytes=10) == b"meow"


def test_a_page_in_place_of_a_file_is_named(loopback_is_allowed: None) -> None:
    with web_page(b"<title>Log in</title>") as url, pytest.raises(InvalidInput, match="“Log in”, and no image"):
        Post(text="a", images=[f"{url}/cat.png"]).preview()


@pytest.mark.parametrize("refresh", ["0; url=/new", "0;URL='/new'", "5, url=/new"])
def test_a_page_that_sends_its_reader_on_is_left_for_the_next(refresh: str, loopback_is_allowed: None) -> None:
    moved = f'<title>Redirecting</title><meta http-equiv="refresh" content="{refresh}">'
    article = b"<title>New</title><p>It is faster than ever before, on every machine.</p>"
    with web_page(moved.encode(), {"/new": article}) as url:
        assert read_idea(url).title == "New"


def test_a_page_that_sends_its_reader_round_ends(loopback_is_allowed: None) -> None:
    moved = (
        b'<title>Round</title><meta http-equiv="refresh" content="0; url=/again"><p>And round it goes, for ever.</p>'
    )
    with web_page(moved) as url:
        assert read_idea(url).title == "Round"
