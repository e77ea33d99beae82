"""An account moves between two posts: from one real PDS to another, with one directory of DIDs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from prefect_bluesky import AuthError, AuthProblem, BlueskyCredentials
from tests.pds import server
from tests.pds.server import Account, RealPds
from tests.support import WRITE, block, counted, forget_processes_memory, texts

pytestmark = pytest.mark.pds


@pytest.fixture(scope="module")
def old() -> Iterator[RealPds]:
    with server.run(did_doc=True, own_did=True) as pds:
        yield pds


@pytest.fixture(scope="module")
def new(old: RealPds) -> Iterator[RealPds]:
    with server.run(did_doc=True, own_did=True, plc_url=old.plc_url) as pds:
        yield pds


@pytest.fixture
def account(old: RealPds, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", old.plc_url)
    return old.create_account()


@pytest.fixture
def credentials(old: RealPds, account: Account) -> BlueskyCredentials:
    """The account's block, with which the first post has gone out."""
    credentials = block(old, account)
    credentials.publish("before the move")
    return credentials


def refused(credentials: BlueskyCredentials) -> AuthError:
    with pytest.raises(AuthError) as refusal:
        credentials.publish("after the move", key="second")
    return refusal.value


def test_nothing_is_written_to_the_old_pds_and_the_new_one_is_named(
    old: RealPds, new: RealPds, account: Account, credentials: BlueskyCredentials
) -> None:
    new.adopt(account, old)
    old.deactivate(account)
    before = len(old.requests(WRITE))
    refusal = refused(credentials)
    assert refusal.problem is AuthProblem.ACCOUNT_MOVED
    assert new.url in str(refusal)
    assert [request.status for request in old.requests(WRITE)[before:]] == [401]
    with counted(old) as asked:
        assert refused(credentials).problem is AuthProblem.ACCOUNT_MOVED
    assert asked == {}


def test_a_refresh_notices_it_although_the_account_is_still_active_at_the_old_pds(
    old: RealPds, new: RealPds, account: Account, credentials: BlueskyCredentials
) -> None:
    new.adopt(account, old)
    with pytest.raises(AuthError) as refusal:
        credentials.keep_alive(timedelta())
    assert refusal.value.problem is AuthProblem.ACCOUNT_MOVED
    assert new.url in str(refusal.value)
    assert refused(credentials).problem is AuthProblem.ACCOUNT_MOVED
    assert texts(old, account) == ["before the move"]


def test_with_the_new_service_url_it_goes_on_and_each_post_is_there_once(
    old: RealPds, new: RealPds, account: Account, credentials: BlueskyCredentials
) -> None:
    moved = new.adopt(account, old)
    old.deactivate(account)
    refused(credentials)
    mended = block(new, moved)
    for _ in range(2):
        mended.publish("after the move", key="second")
        forget_processes_memory()
    assert texts(new, moved) == ["after the move", "before the move"]
