"""Exactly once, whatever the network does."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import strategies as st

from prefect_bluesky import Image, LinkCard, Post, sandbox
from prefect_bluesky.errors import CidMismatch, InvalidInput, KeyConflict, RateLimited, ServiceUnavailable
from prefect_bluesky.protocol.records import cid
from prefect_bluesky.publishing.commits import send
from prefect_bluesky.publishing.materials import NoMaterials, UploadedMaterials
from prefect_bluesky.publishing.publication import Publication
from prefect_bluesky.sessions.session_auth import SessionAuth
from tests.support import WRITE, block, counted, picture, texts, web_page

LOOK = "com.atproto.repo.getRecord"
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
MOMENT = datetime(2026, 11, 22, 12, tzinfo=UTC)
TID_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"

moments = st.datetimes(datetime(2023, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@pytest.fixture(scope="module")
def pds() -> Iterator[sandbox.Sandbox]:
    """A sandbox whose faults disturb nobody else."""
    with sandbox.run() as own:
        yield own


@pytest.mark.parametrize("retry_delivers", [True, False], ids=["next", "later"])
def test_a_write_whose_answer_is_lost_is_found_and_not_repeated(pds: sandbox.Sandbox, retry_delivers: bool) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    credentials.ensure_session()
    pds.drop(WRITE)
    if not retry_delivers:
        pds.fail(LOOK, status=503)
        with pytest.raises(ServiceUnavailable):
            credentials.publish("once", key="k")
    with counted(pds) as requests:
        credentials.publish("once", key="k")
    assert requests[WRITE] == 1
    assert texts(pds, account) == ["once"]


def test_a_write_that_never_happened_is_repeated(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    pds.fail(WRITE, status=502)
    block(pds, account).publish("once")
    assert texts(pds, account) == ["once"]


def test_a_server_that_stays_down_is_retryable_and_nothing_is_out(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    pds.fail(WRITE, status=503, times=2)
    with pytest.raises(ServiceUnavailable) as trouble:
        block(pds, account).publish("not yet", key="k")
    assert trouble.value.retryable
    assert texts(pds, account) == []
    block(pds, account).publish("not yet", key="k")
    assert texts(pds, account) == ["not yet"]


def test_a_mention_that_cannot_be_looked_up_now_is_not_sent_as_text(pds: sandbox.Sandbox) -> None:
    account, friend = pds.create_account(), pds.create_account()
    pds.fail("com.atproto.identity.resolveHandle", status=502)
    with pytest.raises(ServiceUnavailable):
        block(pds, account).publish(f"hi @{friend.handle}")
    assert texts(pds, account) == []


def test_a_mention_that_resolves_otherwise_on_the_next_attempt_is_the_same_post(pds: sandbox.Sandbox) -> None:
    account, friend = pds.create_account(), pds.create_account()
    first = block(pds, account).publish(f"hi @{friend.handle}", key="k")
    pds.fail("com.atproto.identity.resolveHandle", status=400, error="HandleNotFound")
    assert block(pds, account).publish(f"hi @{friend.handle}", key="k") == first


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"results": [{}]}', b"<html>", b"[" * 100_000])
def test_an_answer_that_makes_no_sense_is_looked_behind(pds: sandbox.Sandbox, answer: bytes) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    status = credentials.ensure_session()
    with web_page(answer) as nonsense:
        elsewhere = status.model_copy(update={"pds_url": nonsense})
        publication = Publication(
            Post(text="out"),
            elsewhere,
            NoMaterials(),
            key="k",
            planned_at=None,
            created_at=MOMENT,
            is_repeatable=True,
            look_first=False,
        )
        (outcome,) = send([publication], elsewhere, SessionAuth(credentials._authenticator()))
        assert isinstance(outcome, ServiceUnavailable)


def test_outside_a_run_and_without_a_key_a_lost_answer_is_not_retryable(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    pds.drop(WRITE)
    pds.fail(LOOK, status=503)
    with pytest.raises(ServiceUnavailable) as unknown:
        block(pds, account).publish("who knows")
    assert not unknown.value.retryable


def test_a_look_that_is_refused_after_a_lost_answer_leaves_it_unknown(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    pds.drop(WRITE)
    pds.fail(LOOK, status=429)
    with pytest.raises(RateLimited) as unknown:
        block(pds, account).publish("who knows", key="")
    assert not unknown.value.retryable


@pytest.mark.parametrize("method", ["com.atproto.repo.uploadBlob", "com.atproto.identity.resolveHandle"])
def test_trouble_before_the_first_write_is_retryable(pds: sandbox.Sandbox, method: str) -> None:
    account = pds.create_account()
    pds.fail(method, status=503)
    post = Post(text="@alice.test", images=(Image(source=picture(5, 5)),))
    with pytest.raises(ServiceUnavailable) as trouble:
        block(pds, account).publish(post)
    assert trouble.value.retryable
    assert texts(pds, account) == []


def card(**said: str) -> Post:
    """A post with a link card that needs nothing from its page."""
    return Post(link_card=LinkCard(url="https://x.test", thumbnail=picture(3, 3), **said))


def shown(width: int) -> Post:
    """A post with an image of its own."""
    return Post(text="Look", images=(Image(source=picture(width, 5), alt="chart"),))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Post(text="https://x.com/2026/11/22/one"), Post(text="https://x.com/2026/11/22/two")),
        (card(title="One", description="d"), card(title="Two", description="d")),
        (card(title="One", description="d"), card(title="One", description="e")),
        (Post(text="a", languages=("en",)), Post(text="a", languages=("de",))),
    ],
    ids=["link", "card's title", "card's description", "language"],
)
def test_posts_that_look_alike_are_two_under_one_key(pds: sandbox.Sandbox, one: Post, other: Post) -> None:
    credentials = block(pds, pds.create_account())
    credentials.publish(one, key="k")
    with pytest.raises(KeyConflict):
        credentials.publish(other, key="k")


def test_another_image_under_the_same_path_is_not_taken_for_the_one_that_is_out(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    status = credentials.ensure_session()
    auth = SessionAuth(credentials._authenticator())
    options: dict[str, Any] = {
        "key": "k",
        "planned_at": None,
        "created_at": MOMENT,
        "is_repeatable": True,
        "look_first": False,
    }
    first = Publication(shown(10), status, UploadedMaterials(status, auth), **options)
    second = Publication(shown(11), status, UploadedMaterials(status, auth), **options)
    send([first], status, auth)
    (outcome,) = send([second], status, auth)
    assert isinstance(outcome, KeyConflict)


@pytest.mark.parametrize("post", [["one", "two"], Post(text="g", replies_from=("nobody",))], ids=["thread", "gate"])
def test_the_rest_of_a_deleted_post_is_a_conflict(pds: sandbox.Sandbox, post: Any) -> None:
    credentials = block(pds, pds.create_account())
    published = credentials.publish(post, key="k")
    client = credentials.get_client()
    rkey = published.uri.rsplit("/", 1)[1]
    client.com.atproto.repo.delete_record(
        {"repo": credentials.ensure_session().did, "collection": "app.bsky.feed.post", "rkey": rkey}
    )
    with pytest.raises(KeyConflict):
        credentials.publish(post, key="k")


def test_a_retry_needs_no_quoted_post_that_is_gone(pds: sandbox.Sandbox) -> None:
    credentials = block(pds, pds.create_account())
    quoted = credentials.publish("Quote me")
    first = credentials.publish(Post(text="Well said", quote=quoted), key="k")
    credentials.delete_post(quoted)
    assert credentials.publish(Post(text="Well said", quote=quoted), key="k") == first


def test_a_thread_that_no_server_takes_is_refused_before_it_is_sent(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    with pytest.raises(InvalidInput, match=r"thread: it takes [0-9,]+ bytes as JSON, over the limit of [0-9,]+"):
        block(pds, account).publish(["#a " * 100] * 100)
    assert texts(pds, account) == []


def test_a_key_that_is_no_line_of_text_is_refused(pds: sandbox.Sandbox) -> None:
    with pytest.raises(InvalidInput, match="key: "):
        block(pds, pds.create_account()).publish("Hello", key="\ud800")


def test_a_server_that_a_stranger_names_is_not_asked_in_a_private_network(
    pds: sandbox.Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
    service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer"}
    asked: list[str] = []
    with web_page(b"{}", on_request=asked.append) as home:
        document = json.dumps({"id": stranger, "service": [{**service, "serviceEndpoint": home}]}).encode()
        with web_page(document) as directory:
            monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", directory)
            with pytest.raises(InvalidInput, match="quote: there is no at://"):
                block(pds, pds.create_account()).publish(Post(quote=f"at://{stranger}/app.bsky.feed.post/3l6"))
    assert asked == []


def test_another_cid_than_computed_is_reported(pds: sandbox.Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    account = pds.create_account()
    monkeypatch.setattr("prefect_bluesky.publishing.post_records.cid", lambda record: cid({**record, "more": 1}))
    with pytest.raises(CidMismatch) as mismatch:
        block(pds, account).publish("published all the same")
    assert mismatch.value.uri == pds.posts(account)[0]["uri"]
