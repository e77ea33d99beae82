"""Texts: counted as the PDS counts, links shortened, and marked with facets at the right bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_bluesky.posts.richtext import SHOWN, count_graphemes, find_entities, rich_text

FAMILY = "👩‍👩‍👧‍👦"  # one grapheme, 25 bytes

texts = st.text(st.characters(codec="utf-8"), max_size=60)


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


def resolve(handle: str) -> str | None:
    """Everybody but nobody has an account."""
    return None if handle.startswith("nobody") else f"did:web:{handle}"


def marked(text: str, *, shorten_links: bool) -> list[tuple[str, str]]:
    """The marked parts of a text as it is shown, and where they lead."""
    shown, facets = rich_text(text, resolve, shorten_links=shorten_links)
    found = []
    for facet in facets:
        (feature,) = facet["features"]
        part = shown.encode()[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode()
        found.append((part, feature.get("uri") or feature.get("tag") or feature["did"]))
    return found


@pytest.mark.parametrize(
    ("text", "parts"),
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
        ("http://? is none, http://x.com is", [("http://x.com", "http://x.com")]),
        ("http://# names no host", []),
        (
            f"{FAMILY} #é é https://é.example.com/ß",
            [("#é", "é"), ("https://é.example.com/ß", "https://é.example.com/ß")],
        ),
    ],
)
def test_facets_mark_links_mentions_and_hashtags(text: str, parts: list[tuple[str, str]]) -> None:
    assert marked(text, shorten_links=False) == parts


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.com", "example.com"),
        ("https://example.com/", "example.com"),
        ("http://www.example.com/short", "www.example.com/short"),
        ("https://example.com/123456789012345", "example.com/123456789012..."),
        ("https://example.com/12345678901234", "example.com/12345678901234"),
        ("https://example.com/?query=of-some-length#part", "example.com?query=of-som..."),
        ("https://example.com/?q=1", "example.com?q=1"),
        (f"https://example.com/{FAMILY * 20}", f"example.com/{FAMILY * 12}..."),
        ("example.com/123456789012345", "example.com/123456789012..."),
        ("example.com", "example.com"),
    ],
)
def test_a_shortened_link_leads_where_it_led(text: str, shown: str) -> None:
    uri = text if text.startswith("http") else f"https://{text}"
    assert marked(f"{FAMILY} {text} end", shorten_links=True) == [(shown, uri)]


def test_the_offsets_after_a_shortened_link_are_those_of_what_is_shown() -> None:
    text = f"é https://example.com/a/long/way/to/go {FAMILY} #tag @alice.test"
    assert marked(text, shorten_links=True) == [
        ("example.com/a/long/way/t...", "https://example.com/a/long/way/to/go"),
        ("#tag", "tag"),
        ("@alice.test", "did:web:alice.test"),
    ]


@given(texts.map(lambda text: f"{text} @alice.test #tag http://x.com/and/a/long/path {text}"), st.booleans())
def test_facets_lie_on_character_boundaries_within_the_text_in_order(text: str, shorten_links: bool) -> None:
    shown, facets = rich_text(text, resolve, shorten_links=shorten_links)
    data = shown.encode()
    last = 0
    for facet in facets:
        start, end = facet["index"]["byteStart"], facet["index"]["byteEnd"]
        assert last <= start < end <= len(data)
        data[start:end].decode()
        last = end


@given(texts.map(lambda text: f"{text} https://example.com/{text}"))
def test_shortening_changes_links_alone_and_makes_nothing_longer(text: str) -> None:
    entities = find_entities(text)
    shown = SHOWN.of(text)
    assert count_graphemes(shown) <= count_graphemes(text)
    assert shown == rich_text(text, resolve)[0]
    assert rich_text(text, resolve, shorten_links=False)[0] == text
    if not entities:
        assert shown == text
