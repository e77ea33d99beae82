"""Drafts for the Bluesky app: what they hold, and what they cannot. Only an AppView keeps any; the sandbox does."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_bluesky import BlueskyCredentials, Image, LinkCard, Post, Video, sandbox
from prefect_bluesky.errors import InvalidInput, ServiceError
from tests.support import Pds, block, picture, texts


class Author:
    """An account, and its drafts."""

    def __init__(self, pds: Pds) -> None:
        self.account = pds.create_account()
        self.credentials: BlueskyCredentials = block(pds, self.account)

    def drafts(self) -> list[Any]:
        """Return the drafts, as the app reads them."""
        found: list[Any] = self.credentials.get_client().app.bsky.draft.get_drafts().drafts
        return found


@pytest.fixture
def author(pds: sandbox.Sandbox) -> Author:
    return Author(pds)


def test_a_draft_has_the_text_and_nothing_is_published(author: Author, pds: sandbox.Sandbox) -> None:
    saved = author.credentials.publish("To be finished #soon", as_draft=True)
    (draft,) = author.drafts()
    assert (draft.id, [post.text for post in draft.draft.posts]) == (saved.id, ["To be finished #soon"])
    assert texts(pds, author.account) == []


def test_a_draft_is_a_thread_with_languages_labels_links_quotes_and_gates(author: Author) -> None:
    quoted = author.credentials.publish("Quote me")
    post = Post(
        text="One",
        thread=[
            {"text": "Two", "quote": quoted.uri},
            {"text": "Three", "link_card": LinkCard(url="https://example.com")},
        ],
        languages=["en"],
        labels=["nudity"],
        replies_from=["mentioned"],
        quotable=False,
    )
    author.credentials.publish(post, as_draft=True)
    draft = author.drafts()[0].draft
    first, second, third = draft.posts
    assert (first.text, first.labels.values[0].val) == ("One", "nudity")
    assert (second.embed_records[0].record.uri, third.embed_externals[0].uri) == (quoted.uri, "https://example.com")
    assert draft.langs == ["en"]
    assert [rule.py_type for rule in draft.threadgate_allow] == ["app.bsky.feed.threadgate#mentionRule"]
    assert [rule.py_type for rule in draft.postgate_embedding_rules] == ["app.bsky.feed.postgate#disableRule"]


def test_an_equal_draft_is_saved_once(author: Author) -> None:
    ids = {author.credentials.publish("Again", as_draft=True).id for _ in range(2)}
    assert len(ids) == len(author.drafts()) == 1


@pytest.mark.parametrize(
    ("post", "field"),
    [
        (Post(text="a", images=[Image(source=picture(8, 8), alt="red")]), "images"),
        (Post(text="a", thread=[{"text": "b", "video": Video(source=b"", alt="x")}]), "thread[0].video"),
        (Post(text="a", tags=["b"]), "tags"),
        (Post(text="a", link_card=LinkCard(url="https://example.com", title="Mine")), "link_card"),
        (Post(text="a", reply_to="at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3l6"), "reply_to"),
        (Post(text="a", expires="2027-01-01 08:00"), "expires"),
    ],
)
def test_what_a_draft_cannot_hold_is_named(author: Author, post: Post, field: str) -> None:
    with pytest.raises(InvalidInput, match="a draft cannot hold it") as refused:
        author.credentials.publish(post, as_draft=True)
    assert refused.value.field == field
    assert author.drafts() == []


def test_a_draft_has_no_key(author: Author) -> None:
    with pytest.raises(InvalidInput, match="key: a draft has no key"):
        author.credentials.publish("a", key="k", as_draft=True)  # type: ignore[call-overload]


@pytest.mark.pds
def test_where_no_appview_keeps_drafts_the_server_is_quoted(real_pds: Pds) -> None:
    with pytest.raises(ServiceError, match=r"app\.bsky\.draft\.getDrafts"):
        Author(real_pds).credentials.publish("a", as_draft=True)
