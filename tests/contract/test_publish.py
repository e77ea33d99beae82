"""Publishing, on the sandbox and on a real PDS."""

import asyncio
from typing import Any

import pytest

from prefect_bluesky import Post
from prefect_bluesky.errors import KeyConflict, RequestRefused
from prefect_bluesky.posts import trimmed
from tests.support import WRITE, Pds, block, counted, texts

_FAMILY = "👩‍👩‍👧‍👦"  # one grapheme, 25 bytes


def _published(pds: Pds, account: Any) -> dict[str, Any]:
    (post,) = pds.posts(account)
    return post


def test_a_post_is_in_the_repository_as_it_was_computed(pds: Pds) -> None:
    account = pds.create_account()
    published = block(pds, account).publish("Hello")
    found = _published(pds, account)
    assert (found["uri"], found["cid"]) == (published.uri, published.cid)
    assert found["value"]["text"] == "Hello"
    assert published.url == f"https://bsky.app/profile/{account.handle}/post/{published.uri.rsplit('/', 1)[1]}"


def test_links_mentions_and_hashtags_are_facets_at_their_bytes(pds: Pds) -> None:
    account, friend = pds.create_account(), pds.create_account()
    text = f"{_FAMILY} @{friend.handle} wrote https://example.com/é about #Prefect, and @nobody.test did not"
    block(pds, account).publish(text)
    record = _published(pds, account)["value"]
    marked = {
        record["text"].encode()[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode(): facet["features"]
        for facet in record["facets"]
    }
    assert marked == {
        f"@{friend.handle}": [{"$type": "app.bsky.richtext.facet#mention", "did": friend.did}],
        "example.com/é": [{"$type": "app.bsky.richtext.facet#link", "uri": "https://example.com/é"}],
        "#Prefect": [{"$type": "app.bsky.richtext.facet#tag", "tag": "Prefect"}],
    }


@pytest.mark.parametrize(
    "text",
    ["x" * 300, _FAMILY * 120, "e\u0301" * 300, "🇩🇪" * 300, "क्षि" * 100, "한" * 300, "\r\n".join("x" * 150)],
    ids=["ascii", "family", "combining", "flags", "devanagari", "jamo", "crlf"],
)
def test_the_longest_texts_that_a_post_takes_the_server_takes(pds: Pds, text: str) -> None:
    account = pds.create_account()
    block(pds, account).publish(Post(text=text))
    assert texts(pds, account) == [trimmed(text)]


def test_the_same_key_publishes_once(pds: Pds) -> None:
    account = pds.create_account()
    first = block(pds, account).publish("once", key="launch")
    with counted(pds) as requests:
        second = block(pds, account).publish("once", key="launch")
    assert first == second
    assert texts(pds, account) == ["once"]
    assert requests[WRITE] == 1


def test_a_key_taken_by_another_post_is_a_conflict(pds: Pds) -> None:
    account = pds.create_account()
    first = block(pds, account).publish("one thing", key="launch")
    with pytest.raises(KeyConflict) as conflict:
        block(pds, account).publish("another thing", key="launch")
    assert conflict.value.uri == first.uri
    assert texts(pds, account) == ["one thing"]


def test_without_a_key_each_call_is_a_post_of_its_own(pds: Pds) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    credentials.publish("again")
    credentials.publish("again")
    assert texts(pds, account) == ["again", "again"]


def test_two_accounts_may_use_one_key(pds: Pds) -> None:
    accounts = [pds.create_account(), pds.create_account()]
    for account in accounts:
        block(pds, account).publish("mine", key="launch")
    assert [texts(pds, account) for account in accounts] == [["mine"], ["mine"]]


async def _apublish(pds: Pds, account: Any) -> str:
    credentials = block(pds, account)
    assert (await credentials.aensure_session()).action == "logged_in"
    return (await credentials.apublish("from async code")).uri


def test_async_code_publishes_alike(pds: Pds) -> None:
    account = pds.create_account()
    uri = asyncio.run(_apublish(pds, account))
    assert _published(pds, account)["uri"] == uri


def test_a_refusal_is_reported_in_the_server_s_words(pds: Pds) -> None:
    account = pds.create_account()
    unchecked = Post.model_construct(text="x" * 301)
    with pytest.raises(RequestRefused, match="grapheme too big") as refused:
        block(pds, account).publish(unchecked)
    assert (refused.value.status, refused.value.error) == (400, "InvalidRequest")
    assert not refused.value.retryable
