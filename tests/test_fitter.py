"""The fitter: what leaves it is taken by its channel, and what it refuses is refused with the reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_bluesky import Image
from prefect_bluesky.channels import Rules, Variant, fit
from prefect_bluesky.channels.bluesky import RULES as BLUESKY
from prefect_bluesky.channels.bluesky import as_post
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.errors import DoesNotFit

PAGER = Rules("a pager", 40)
LINK = "https://example.com/2026/11/a-long-story-about-a-release"

LONG = ["Donaudampfschiff" * 30, "é" * 90, LINK]
words = st.sampled_from(["a", "word", *LONG, "👩\u200d👩\u200d👧", "#tag", "@alice.test", "\x00", "。", "\n\n", "\r\n"])
texts = st.lists(words | st.text(max_size=30), max_size=120).map(" ".join)
drafts = st.builds(
    Draft,
    kind=st.sampled_from(["hook", "link", "thread", "summary"]),
    posts=st.lists(texts, min_size=1, max_size=5).map(tuple),
    link=st.none() | st.just(LINK),
    images=st.just(()) | st.just((Image(source="cat.jpg"),)),
)


def hook(text: str, link: str | None = None) -> Draft:
    return Draft(kind="hook", posts=(text,), link=link)


@given(drafts)
def test_a_variant_that_fits_bluesky_is_a_valid_post(draft: Draft) -> None:
    try:
        variant = fit(draft, BLUESKY)
    except DoesNotFit:
        return
    posts = as_post(variant).posts()
    assert tuple(post.text for post in posts) == variant.posts


@given(drafts, st.integers(20, 400), st.integers(1, 5), st.booleans())
def test_a_fitted_variant_is_within_the_rules(draft: Draft, max_length: int, max_posts: int, has_cards: bool) -> None:
    rules = Rules("a channel", max_length, max_posts=max_posts, max_images=1, has_cards=has_cards)
    try:
        variant = fit(draft, rules)
    except DoesNotFit:
        return
    assert 1 <= len(variant.posts) <= max_posts
    assert all(rules.length(text) <= max_length for text in variant.posts)
    assert fit(draft, rules) == variant


@given(st.lists(st.text("abc. \n", max_size=200), min_size=1, max_size=5).map(tuple))
def test_no_word_of_a_thread_is_lost(posts: tuple[str, ...]) -> None:
    draft = Draft(kind="thread", posts=posts)
    try:
        variant = fit(draft, Rules("a channel", 30, max_posts=1000))
    except DoesNotFit:
        assert not "".join(posts).strip()
        return
    assert "".join("".join(variant.posts).split()) == "".join("".join(posts).split())


def test_a_post_that_is_too_long_is_refused_with_what_it_is_over() -> None:
    with pytest.raises(DoesNotFit) as refused:
        fit(hook("x" * 45), PAGER)
    assert str(refused.value) == "a pager: posts[0]: it has 45 characters, 5 over the limit of 40. Shorten it."


def test_bytes_are_called_bytes() -> None:
    family = "👩\u200d👩\u200d👧\u200d👦"
    with pytest.raises(DoesNotFit, match="it has 3,025 bytes, 25 over the limit of 3,000"):
        fit(hook(family * 121), BLUESKY)


def test_all_that_is_wrong_is_said_at_once() -> None:
    draft = Draft(kind="hook", posts=("x" * 45, "fine", "y" * 41), images=(Image(source="cat.jpg"),))
    with pytest.raises(DoesNotFit) as refused:
        fit(draft, PAGER)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "posts",
        "posts[0]",
        "posts[2]",
        "images",
    ]


@pytest.mark.parametrize("text", ["", " \n ", "\x00"])
def test_nothing_is_refused(text: str) -> None:
    with pytest.raises(DoesNotFit, match="there is no text, image or link"):
        fit(hook(text), PAGER)


class TestLink:
    """The place of a link."""

    def test_a_link_is_below_the_text_on_a_channel_without_cards(self) -> None:
        variant = fit(hook("News", "https://example.com"), PAGER)
        assert variant == Variant(kind="hook", posts=("News\n\nhttps://example.com",))

    def test_a_link_in_the_text_is_not_repeated(self) -> None:
        text = "News: https://example.com today"
        assert fit(hook(text, "https://example.com"), PAGER).posts == (text,)

    def test_a_link_is_a_card_on_a_channel_with_cards(self) -> None:
        variant = fit(hook("News", LINK), BLUESKY)
        assert (variant.posts, variant.link) == (("News",), LINK)
        card = as_post(variant).link_card
        assert card is not None
        assert card.url == LINK

    def test_a_link_is_below_the_text_of_a_post_with_images(self) -> None:
        image = Image(source="cat.jpg")
        variant = fit(Draft(kind="hook", posts=("News",), link=LINK, images=(image,)), BLUESKY)
        assert as_post(variant).model_dump(include={"text", "images", "link_card"}) == {
            "text": f"News\n\n{LINK}",
            "images": (image.model_dump(),),
            "link_card": None,
        }

    def test_a_thread_has_images_above_and_its_card_below(self) -> None:
        draft = Draft(kind="thread", posts=("One.", "Two."), link=LINK, images=(Image(source="cat.jpg"),))
        first, last = as_post(fit(draft, BLUESKY)).posts()
        assert (len(first.images), first.link_card, last.text) == (1, None, "Two.")
        assert last.link_card is not None

    def test_texts_are_counted_as_the_channel_counts(self) -> None:
        with pytest.raises(DoesNotFit, match="5 over the limit"):
            fit(hook("x" * 24, "https://example.com"), PAGER)

    def test_a_thread_has_it_at_its_end(self) -> None:
        draft = Draft(kind="thread", posts=("One.", "Two."), link=LINK)
        variant = fit(draft, Rules("a channel", 60, max_posts=5))
        assert variant.posts == ("One.", "Two.", LINK)
        assert [post.link_card is not None for post in as_post(fit(draft, BLUESKY)).posts()] == [False, True]


class TestShortened:
    """As much of a text as fits."""

    @pytest.mark.parametrize(
        ("text", "short"),
        [
            ("It fits.", "It fits."),
            ("One sentence fits here. The other one does not any more.", "One sentence fits here."),
            ("A sentence that goes on and on, and never comes to its end", "A sentence that goes on and on, and…"),
            ("Donaudampfschifffahrtsgesellschaftskapitän", "Donaudampfschifffahrtsgesellschaftskapi…"),
        ],
    )
    def test_a_shortened_text_ends_where_a_reader_would_pause(self, text: str, short: str) -> None:
        assert PAGER.shortened(text) == short

    @given(texts, st.none() | st.just(LINK))
    def test_a_shortened_text_fits_with_its_link(self, text: str, link: str | None) -> None:
        rules = Rules("a channel", 80)
        assert not rules.excess(rules.with_link(rules.shortened(text, link), link))
