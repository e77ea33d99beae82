"""Exactly once, whatever the network does."""

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import strategies as st

from prefect_bluesky import Post, sandbox
from prefect_bluesky.errors import CidMismatch, ServiceUnavailable
from prefect_bluesky.materials import Placeholders
from prefect_bluesky.publication import Publication
from prefect_bluesky.records import cid
from tests.support import WRITE, block, counted, texts, web_page

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
        publication = Publication.of(
            Post(text="out"), elsewhere, Placeholders(), key="k", planned_at=None, created_at=MOMENT
        )
        with pytest.raises(ServiceUnavailable):
            publication.send(httpx.Auth(), look_first=False)


def test_outside_a_run_and_without_a_key_a_lost_answer_is_not_retryable(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    pds.drop(WRITE)
    pds.fail(LOOK, status=503)
    with pytest.raises(ServiceUnavailable) as unknown:
        block(pds, account).publish("who knows")
    assert not unknown.value.retryable


def test_another_cid_than_computed_is_reported(pds: sandbox.Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    account = pds.create_account()
    monkeypatch.setattr("prefect_bluesky.composition.cid", lambda record: cid({**record, "more": 1}))
    with pytest.raises(CidMismatch) as mismatch:
        block(pds, account).publish("published all the same")
    assert mismatch.value.uri == pds.posts(account)[0]["uri"]
