"""Bluesky as a channel: what leaves the fitter is taken by each PDS, and is there once, as it was shown."""

from __future__ import annotations

from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_bluesky import BlueskyCredentials
from prefect_bluesky.channels.bluesky import BlueskyChannel
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.compose.templates import TemplateGenerator
from prefect_bluesky.errors import DoesNotFit
from prefect_bluesky.posts.richtext import SHOWN
from tests.support import Pds, record_at

ARTICLE = Idea(
    title="Release 2.0 is out",
    text="""It is twice as fast, and half as large: https://example.com/2.0/what-is-new #release

We rewrote the scheduler, which took a year. It was worth it.""",
)

words = st.sampled_from(
    ["a", "word", "é" * 90, "x" * 310, "https://example.com/a/long/way", "#tag", "。", "👍🏽", "\n\n"]
)
texts = st.lists(words | st.text(st.characters(codec="utf-8"), max_size=20), max_size=40).map(" ".join)
drafts = st.builds(
    Draft, kind=st.sampled_from(["hook", "thread", "summary"]), posts=st.lists(texts, min_size=1, max_size=3).map(tuple)
)


def stored(pds: Pds, credentials: BlueskyCredentials, urls: tuple[str, ...]) -> list[str]:
    """The texts of some posts, as a PDS has them."""
    did = credentials.ensure_session().did
    uris = [f"at://{did}/app.bsky.feed.post/{url.rpartition('/')[2]}" for url in urls]
    return [record_at(pds, uri)["value"]["text"] for uri in uris]


# A PDS is asked for each example, and it is the same one for all of them.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draft=drafts)
def test_every_fitted_variant_is_accepted(pds: Pds, credentials: BlueskyCredentials, draft: Draft) -> None:
    channel = BlueskyChannel(credentials)
    try:
        variant = channel.fit(draft)
    except DoesNotFit:
        return
    published = channel.publish(variant, key=uuid4().hex)
    assert len(published.urls) == len(variant.posts)


def test_an_article_becomes_posts_that_are_there_once_however_often_they_are_published(
    pds: Pds, credentials: BlueskyCredentials
) -> None:
    channel = BlueskyChannel(credentials)
    for draft in TemplateGenerator().generate(ARTICLE, channel.rules, 9):
        variant, key = channel.fit(draft), uuid4().hex
        first, again = channel.publish(variant, key), channel.publish(variant, key)
        assert first == again
        assert stored(pds, credentials, first.urls) == [SHOWN.of(text) for text in variant.posts]
