"""Drafts by rule: of an idea's own words, and such as their channel takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefect_bluesky.channels import Rules, fit
from prefect_bluesky.channels.bluesky import RULES as BLUESKY
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.compose.templates import TemplateGenerator
from prefect_bluesky.posts.richtext import tidy

PAGER = Rules("a pager", 60)
TEXT = """Release 2.0 is out. It is twice as fast, and half as large.

We rewrote the scheduler, which took a year. It was worth it.

Thank you to everybody who tried the betas."""
LINK = "https://example.com/2.0"

generate = TemplateGenerator().generate

written = st.text(st.characters(codec="utf-8") | st.sampled_from(". \n"), min_size=1, max_size=2000)
ideas = st.builds(
    Idea,
    text=written.filter(lambda text: bool(tidy(text))),
    title=st.text(max_size=400),
    link=st.none() | st.just(LINK),
)


def test_an_article_becomes_one_of_each_kind_and_a_hook_of_each_further_paragraph() -> None:
    drafts = generate(Idea(text=TEXT, link=LINK), BLUESKY, 10)
    assert [(draft.kind, draft.posts[0][:30]) for draft in drafts] == [
        ("hook", "Release 2.0 is out."),
        ("link", "Release 2.0 is out."),
        ("thread", "Release 2.0 is out. It is twic"),
        ("summary", "Release 2.0 is out. It is twic"),
        ("hook", "We rewrote the scheduler, whic"),
        ("hook", "Thank you to everybody who tri"),
    ]


def test_a_thread_has_a_post_for_each_paragraph_and_leads_to_the_link() -> None:
    (thread,) = (draft for draft in generate(Idea(text=TEXT, link=LINK), BLUESKY, 9) if draft.kind == "thread")
    assert thread.posts == tuple(TEXT.split("\n\n"))
    assert thread.link == LINK


def test_a_title_is_the_headline() -> None:
    drafts = generate(Idea(title="Faster", text=TEXT), BLUESKY, 3)
    assert [draft.posts[0] for draft in drafts if draft.kind in {"hook", "thread"}] == ["Faster", "Faster"]


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
