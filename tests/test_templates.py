"""Drafts by rule: of an idea's own words, and such as their channel takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_bluesky.channels import Rules, fit
from prefect_bluesky.channels.bluesky import RULES as BLUESKY
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.compose.templates import TemplateGenerator
from prefect_bluesky.posts.richtext import tidy

PAGER = Rules("a pager", 60)
TEXT = """Release 2.0 is out. It is twice as fast, and half as large.

We rewrote the scheduler, which took a year. It was worth it, as the first measurements show on all our machines.

Thank you to everybody who tried the betas. Your reports were short, kind and always to the point."""
LINK = "https://example.com/2.0"

generate = TemplateGenerator().generate

written = st.text(st.characters(codec="utf-8") | st.sampled_from(". \n"), min_size=1, max_size=2000)
ideas = st.builds(
    Idea,
    text=written.filter(lambda text: bool(tidy(text))),
    title=st.text(max_size=400),
    link=st.none() | st.just(LINK),
)


def drafts_of(idea: Idea, rules: Rules = BLUESKY) -> dict[str, tuple[str, ...]]:
    """Return the posts of the first draft of each kind."""
    return {draft.kind: draft.posts for draft in reversed(generate(idea, rules, 20))}


def test_an_article_becomes_one_of_each_kind_and_a_hook_of_each_further_paragraph() -> None:
    drafts = generate(Idea(text=TEXT, link=LINK), BLUESKY, 10)
    assert [(draft.kind, draft.posts[0][:30], draft.link) for draft in drafts] == [
        ("hook", "Release 2.0 is out.", LINK),
        ("link", "Release 2.0 is out. It is twic", LINK),
        ("thread", "Release 2.0 is out. It is twic", LINK),
        ("summary", "Release 2.0 is out. It is twic", LINK),
        ("hook", "We rewrote the scheduler, whic", LINK),
        ("hook", "Thank you to everybody who tri", LINK),
    ]


def test_a_post_of_a_thread_is_about_two_thirds_full() -> None:
    assert drafts_of(Idea(text=TEXT))["thread"] == (
        "Release 2.0 is out. It is twice as fast, and half as large.\n\nWe rewrote the scheduler, which took a year. It"
        " was worth it, as the first measurements show on all our machines.",
        "Thank you to everybody who tried the betas. Your reports were short, kind and always to the point.",
    )


def test_a_sentence_that_is_too_long_leaves_no_scrap() -> None:
    sentence = "It was a long day " + "and then another one came " * 10 + "at last, as it is said."
    assert 300 < len(sentence) < 310
    assert [len(post) > 100 for post in drafts_of(Idea(text=sentence))["thread"]] == [True, True]


def test_a_title_begins_its_thread_and_is_no_post_by_itself() -> None:
    drafts = drafts_of(Idea(title="Faster", text=TEXT))
    assert [posts[0].split("\n\n")[:2] for posts in (drafts["hook"], drafts["thread"])] == [
        ["Faster", "Release 2.0 is out. It is twice as fast, and half as large."]
    ] * 2


@pytest.mark.parametrize(
    "text",
    [
        f"Release 2.0 is faster\n\n{TEXT}",
        f"RELEASE 2.0 IS FASTER!\n\n{TEXT}",
        f"1 December 2026\n\nRelease 2.0 is faster\n\n{TEXT}",
        f"Release 2.0 is faster\n{TEXT}",
    ],
)
@pytest.mark.parametrize("title", ["Release 2.0 is faster", "Release 2.0 is faster | Example"])
def test_a_headline_is_said_once(title: str, text: str) -> None:
    for draft in generate(Idea(title=title, text=text), BLUESKY, 20):
        assert "\n".join(draft.posts).casefold().count("release 2.0 is faster") <= 1


def test_a_heading_stays_with_its_section_and_a_list_whole() -> None:
    text = f"{TEXT}\n\nWhat is new\n\nThese three:\n\n• one of them\n• another\n• the last\n\nThat is all of it."
    posts = drafts_of(Idea(text=text))["thread"]
    (post,) = (post for post in posts if "What is new" in post)
    assert "What is new\nThese three:\n\n• one of them\n• another\n• the last" in post


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith joins us. She led the laboratory for ten years, and will lead ours from January on.",
        "The U.S. Government has answered. It says that nothing will change before the end of the year.",
        "Am 3. Oktober ist alles zu. Am 4. Oktober sind wir wieder da, und zwar den ganzen Tag lang.",
        "1. First do this with care. 2. Then do that with more care. 3. Then have a rest, as it is late.",
    ],
)
def test_no_post_ends_after_an_abbreviation_or_a_number(text: str) -> None:
    for draft in generate(Idea(text=text), PAGER, 20) + generate(Idea(text=text), BLUESKY, 20):
        assert all(len(post) > 15 for post in draft.posts)


def test_a_sentence_is_one_draft() -> None:
    assert [draft.kind for draft in generate(Idea(text="Hello."), BLUESKY, 5)] == ["hook"]


def test_where_there_are_no_threads_none_is_made() -> None:
    assert "thread" not in {draft.kind for draft in generate(Idea(text=TEXT, link=LINK), PAGER, 9)}


def test_there_are_no_more_than_were_asked_for() -> None:
    assert len(generate(Idea(text=TEXT, link=LINK), BLUESKY, 2)) == 2


@given(ideas, st.sampled_from([BLUESKY, PAGER, Rules("a channel", 500, max_posts=3)]))
def test_every_draft_fits_its_channel_but_a_thread_that_is_too_long(idea: Idea, rules: Rules) -> None:
    for draft in generate(idea, rules, 20):
        if draft.kind != "thread":
            fit(draft, rules)
