"""Texts: counted as the PDS counts, refused with the reason, and marked with facets at the right bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from prefect_bluesky import Post
from prefect_bluesky.richtext import count_graphemes, detect_facets

FAMILY = "👩‍👩‍👧‍👦"  # one grapheme, 25 bytes


@pytest.mark.parametrize(
    ("text", "graphemes"),
    [
        ("", 0),
        ("abc", 3),
        (FAMILY, 1),
        ("🇩🇪🇫🇷", 2),
        ("e\u0301", 1),
        ("\r\n", 1),
        ("क्षि", 1),
        ("\u1112\u1161\u11ab", 1),
        ("👍🏽", 1),
        ("\u0e19\u0e49\u0e33", 1),
    ],
)
def test_graphemes_are_what_a_reader_sees(text: str, graphemes: int) -> None:
    assert count_graphemes(text) == graphemes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        (" \n\t", "is empty"),
        ("x" * 301, "301 characters, 1 over the limit of 300"),
        (FAMILY * 121, "3025 bytes, 25 over the limit of 3000"),
        ("half \ud83d of it", "character 6 is half"),
    ],
)
def test_a_text_that_no_post_can_hold_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as refusal:
        Post(text=text)
    assert refusal.value.errors()[0]["loc"] == ("text",)


@pytest.mark.parametrize("text", ["x" * 300, FAMILY * 120, "\n."])
def test_a_text_at_the_limit_is_taken_as_it_is(text: str) -> None:
    assert Post(text=text).text == text


def test_a_string_is_a_post_of_that_text() -> None:
    assert TypeAdapter(Post).validate_python("Hello") == Post(text="Hello")


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="txt"):
        Post.model_validate({"text": "Hello", "txt": "Hello"})


def resolve(handle: str) -> str | None:
    """Everybody but nobody has an account."""
    return None if handle.startswith("nobody") else f"did:web:{handle}"


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("plain", []),
        ("see https://example.com.", [("https://example.com", "https://example.com")]),
        ("(https://example.com/a_(b))", [("https://example.com/a_(b))", "https://example.com/a_(b))")]),
        ("example.com works", [("example.com", "https://example.com")]),
        ("not.atld stays", []),
        ("#one, #two!", [("#one", "one"), ("#two", "two")]),
        ("#" + "x" * 65, []),
        ("#" + "क्षि" * 64, []),
        ("#123 #1st", [("#1st", "1st")]),
        ("hi @alice.test!", [("@alice.test", "did:web:alice.test")]),
        ("hi @nobody.test", []),
        ("mail@example.com", []),
        (
            f"{FAMILY} #é é https://é.example.com/ß",
            [("#é", "é"), ("https://é.example.com/ß", "https://é.example.com/ß")],
        ),
    ],
)
def test_facets_mark_links_mentions_and_hashtags(text: str, marked: list[tuple[str, str]]) -> None:
    facets = detect_facets(text, resolve)
    found = []
    for facet in facets:
        (feature,) = facet["features"]
        part = text.encode()[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode()
        found.append((part, feature.get("uri") or feature.get("tag") or feature["did"]))
    assert found == marked


@given(
    st.text(st.characters(codec="utf-8"), max_size=60).map(lambda text: f"{text} @alice.test #tag http://x.com {text}")
)
def test_facets_lie_on_character_boundaries_within_the_text_in_order(text: str) -> None:
    data = text.encode()
    last = 0
    for facet in detect_facets(text, resolve):
        start, end = facet["index"]["byteStart"], facet["index"]["byteEnd"]
        assert 0 <= start < end <= len(data)
        assert start >= last
        data[start:end].decode()
        last = start
