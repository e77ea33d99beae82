"""Long texts as threads: cut where a reader would pause, with nothing lost."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefect_bluesky.posts.richtext import SHOWN, WRITTEN, count_graphemes, find_entities
from prefect_bluesky.posts.split import split_text

FAMILY = "👩‍👩‍👧‍👦"


def split(text: str, limit: int, *, max_bytes: int = 3000, shorten_links: bool = True) -> list[str]:
    return split_text(text, max_length=limit, max_bytes=max_bytes, measure=SHOWN if shorten_links else WRITTEN)


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("short", 10, ["short"]),
        ("One two.\n\nThree four five six.", 22, ["One two.", "Three four five six."]),
        ("One two. Three four.\n\nFive six.", 22, ["One two. Three four.", "Five six."]),
        ("One two. Three four.", 12, ["One two.", "Three four."]),
        ("One two! Really? Yes.", 17, ["One two! Really?", "Yes."]),
        ('He said "stop." Then he went.', 20, ['He said "stop."', "Then he went."]),
        ("- one\n- two\n- three", 12, ["- one\n- two", "- three"]),
        ("one two three", 8, ["one two", "three"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("今日は晴れ。明日は雨です。", 8, ["今日は晴れ。", "明日は雨です。"]),
        (FAMILY * 5, 2, [FAMILY * 2, FAMILY * 2, FAMILY]),
        ("\n\n  spaced   out  \n\n", 20, ["spaced   out"]),
        (" \n", 20, [""]),
        # A pause within a character that a reader sees is none.
        ("xxxxx。\ufe0fyyyyy", 6, ["xxxxx。\ufe0f", "yyyyy"]),
        ("。\u0301a" + "\u0301" * 9, 1, ["。\u0301", "a" + "\u0301" * 9]),
        # What is no mention within a word does not become one.
        ("x" * 10 + "@alice.test", 10, ["x" * 9, "x@alice.te", "st"]),
        # A title alone would leave the first post nearly empty.
        ("Hi.\n\n" + "word " * 10, 40, ["Hi.\n\n" + "word " * 6 + "word", "word word word"]),
    ],
)
def test_a_text_is_cut_after_a_paragraph_else_a_sentence_else_a_word(text: str, limit: int, pieces: list[str]) -> None:
    assert split(text, limit) == pieces


def test_bytes_are_counted_too() -> None:
    assert split(FAMILY * 10, 300, max_bytes=100) == [FAMILY * 4, FAMILY * 4, FAMILY * 2]


@pytest.mark.parametrize(
    "entity", ["https://example.com/a.b?c=d!e/f", "@alice.bsky.social", "#hashtag", "example.com/one.two"]
)
def test_no_link_mention_or_hashtag_is_cut(entity: str) -> None:
    for padding in range(25):
        text = "x" * padding + f" {entity} and more text to follow it"
        assert any(entity in piece for piece in split(text, 26, shorten_links=False)) or len(entity) > 26
    assert sum(entity in piece for piece in split(f"{'y' * 20} {entity}", 40, shorten_links=False)) == 1


def test_a_link_counts_as_it_is_shown() -> None:
    link = "https://example.com/" + "x" * 400
    assert split(f"Read {link}", 40) == [f"Read {link}"]


words = st.sampled_from(
    [
        "word",
        "Satz.",
        "a\n\nb",
        "#tag",
        "@alice.bsky.social",
        "https://example.com/a/long/path/to/a/page",
        FAMILY,
        "नमस्ते",
        "שלום",
        "\r\n",
    ]
)
prose = st.lists(words, min_size=1, max_size=60).map(" ".join)
anything = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)


@given(prose | anything, st.integers(30, 80), st.booleans())
@example("a" * 100 + "https://example.com/a/long/path/to/a/page", 30, True)
def test_each_piece_fits_and_all_of_them_are_the_text(text: str, limit: int, shorten_links: bool) -> None:
    pieces = split(text, limit, shorten_links=shorten_links)
    longest = max((len(text[entity.start : entity.end]) for entity in find_entities(text)), default=0)
    for piece in pieces:
        shown = SHOWN.of(piece) if shorten_links else piece
        assert count_graphemes(shown) <= max(limit, 0 if shorten_links else longest)
        assert piece == piece.strip()
    assert re.sub(r"\s", "", "".join(pieces)) == re.sub(r"\s", "", text)


@given(prose, st.integers(40, 80))
def test_the_entities_of_prose_survive_the_cuts(text: str, limit: int) -> None:
    whole = [entity.value for entity in find_entities(text.strip())]
    assert [entity.value for piece in split(text, limit) for entity in find_entities(piece)] == whole
