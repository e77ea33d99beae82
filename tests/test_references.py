"""Records that people refer to, as they copy them from wherever they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_bluesky.protocol.references import parse_reference

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        (f"at://{DID}/app.bsky.feed.post/3l6oveex3ii2l", f"at://{DID}/app.bsky.feed.post/3l6oveex3ii2l"),
        ("at://alice.test/app.bsky.graph.list/3l6", "at://alice.test/app.bsky.graph.list/3l6"),
        ("https://bsky.app/profile/alice.test/post/3l6", "at://alice.test/app.bsky.feed.post/3l6"),
        (f" https://bsky.app/profile/{DID}/post/3l6?ref=x#y\n", f"at://{DID}/app.bsky.feed.post/3l6"),
        ("https://bsky.app/profile/alice.test/post/3l6/", "at://alice.test/app.bsky.feed.post/3l6"),
        ("https://bsky.app/profile/alice.test/feed/whats-hot", "at://alice.test/app.bsky.feed.generator/whats-hot"),
        ("https://bsky.app/profile/alice.test/lists/3l6", "at://alice.test/app.bsky.graph.list/3l6"),
        ("https://bsky.app/starter-pack/alice.test/3l6", "at://alice.test/app.bsky.graph.starterpack/3l6"),
        ("https://bsky.app/start/alice.test/3l6", "at://alice.test/app.bsky.graph.starterpack/3l6"),
        ("http://www.bsky.app/profile/alice.test/post/3l6", "at://alice.test/app.bsky.feed.post/3l6"),
    ],
)
def test_uris_and_addresses_say_where_a_record_lies(text: str, uri: str) -> None:
    assert str(parse_reference(text)) == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3l6oveex3ii2l",
        "https://bsky.app/profile/alice.test",
        "https://example.com/profile/alice.test/post/3l6",
        "at://alice.test",
        "at://not a handle/app.bsky.feed.post/3l6",
        "https://bsky.app/profile/alice.test/post/3l6/liked-by",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as https://bsky\.app"):
        parse_reference(text)


@given(st.text())
def test_no_text_is_taken_for_another_place_than_it_says(text: str) -> None:
    try:
        place = parse_reference(text)
    except ValueError:
        return
    assert place.authority in text
    assert place.rkey in text
