"""Sessions by a grant, kept as those by an app password are, on the sandbox and on a real PDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from prefect_bluesky.alerts import Reporter
from prefect_bluesky.errors import AuthError, ServiceUnavailable, StoreUnavailable
from prefect_bluesky.protocol import oauth
from prefect_bluesky.sessions import Authenticator, LoginPolicy, MemorySessionStore, SessionAuth, SessionDocument
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.grant_sign_in import GrantSignIn
from prefect_bluesky.sessions.granted_session import GrantedSession
from prefect_bluesky.sessions.stores.base import Saved
from tests.contract.granted import Granted, hosted
from tests.contract.hosts import Host, host_of
from tests.support import Pds, texts

SCOPE = oauth.scope_of()
TOKEN = "oauth/token"


class Account:
    """An account whose person has granted a session and a spare one, and workers that share its store."""

    def __init__(self, pds: Pds, host: Host) -> None:
        self.pds, self.host, self.account = pds, host, pds.create_account()
        self.client = hosted(host, SCOPE)
        self.store = Store(uuid4().hex)
        self.granted = [Granted.to(self.client, SCOPE, pds, self.account) for _ in range(2)]
        self.keep(*(each.session for each in self.granted))
        self.now = datetime.now(UTC)
        self.worker = self.new_worker()

    def keep(self, session: GrantedSession, spare: GrantedSession | None = None) -> None:
        """Store sessions, as after the person's visit."""
        made_with = Fingerprint.of(f"oauth {self.client.client_id}")
        document = replace(SessionDocument().with_session(session, made_with), spare=spare)
        self.store.save(document, self.store.load())

    @property
    def stored(self) -> SessionDocument:
        saved = self.store.load()
        assert saved
        return saved.document

    def new_worker(self) -> Authenticator:
        """A worker that has just started."""
        assert self.client.key
        clients = {self.client.key.thumbprint: self.client}
        return Authenticator(
            account=self.account.handle,
            sign_in=GrantSignIn(self.account.handle, lambda: clients, self.pds.plc_url),
            service_url=self.pds.url,
            store=self.store,
            lock=nullcontext,
            policy=LoginPolicy(),
            reporter=Reporter(None),
            directory_url=self.pds.plc_url,
            now=lambda: self.now,
        )

    def post(self, text: str, worker: Authenticator | None = None) -> httpx.Response:
        """Publish a post."""
        value = {"$type": "app.bsky.feed.post", "text": text, "createdAt": "2026-01-01T00:00:00Z"}
        write = {"$type": "com.atproto.repo.applyWrites#create", "collection": value["$type"], "value": value}
        return httpx.post(
            f"{self.pds.url}/xrpc/com.atproto.repo.applyWrites",
            json={"repo": self.account.did, "writes": [write]},
            auth=SessionAuth(worker or self.worker),
            trust_env=False,
        )

    @property
    def texts(self) -> list[str]:
        return texts(self.pds, self.account)

    def token_requests(self) -> int:
        """How often tokens were asked for."""
        return len(self.pds.requests(TOKEN))


class Store(MemorySessionStore):
    """A store that does what a test says before it saves."""

    before_save: Callable[[SessionDocument], None] = staticmethod(lambda document: None)

    def save(self, document: SessionDocument, replacing: Saved | None) -> Saved:
        self.before_save(document)
        return super().save(document, replacing)


@pytest.fixture
def account(pds: Pds) -> Iterator[Account]:
    with host_of(pds) as host:
        yield Account(pds, host)


def test_a_session_signs_and_is_refreshed_when_it_is_due(account: Account) -> None:
    account.post("one").raise_for_status()
    assert account.worker.ensure().action == "reused"
    account.now += timedelta(minutes=55)
    assert account.worker.ensure().action == "refreshed"
    account.post("two", account.new_worker()).raise_for_status()
    assert sorted(account.texts) == ["one", "two"]
    assert account.stored.begun_at is None


def test_a_valid_session_costs_one_request_for_a_post(account: Account) -> None:
    account.post("one")  # which learns the nonce
    account.pds.requests()
    before = len(account.pds.requests())
    account.post("two").raise_for_status()
    assert [request.nsid for request in account.pds.requests()[before:]] == ["com.atproto.repo.applyWrites"]


def test_an_expired_token_is_refreshed_and_the_call_replayed_once(account: Account) -> None:
    session = account.stored.session
    assert isinstance(session, GrantedSession)
    account.keep(replace(session, access_token=account.pds.expire(session.access_token)))
    account.post("replayed", account.new_worker()).raise_for_status()
    assert account.texts == ["replayed"]


def test_without_a_post_there_is_one_refresh_a_day(account: Account) -> None:
    before = account.token_requests()
    actions = []
    for _ in range(26):
        actions.append(account.worker.ensure(max_age=timedelta(minutes=30)).action)
        account.now += timedelta(hours=1)
    assert actions.count("refreshed") == 1
    assert account.token_requests() - before == 1


def test_threads_that_meet_at_the_expiry_refresh_once(account: Account) -> None:
    account.now += timedelta(minutes=59)
    before = account.token_requests()
    with ThreadPoolExecutor(8) as threads:
        actions = list(threads.map(lambda _: account.worker.ensure().action, range(8)))
    assert sorted(actions) == ["refreshed", *["reused"] * 7]
    assert account.token_requests() - before == 1


class TestEnds:
    """A session that has ended, by whatever cause."""

    def test_the_spare_session_takes_over(self, account: Account) -> None:
        account.granted[0].revoke()
        account.post("by the spare").raise_for_status()
        assert account.texts == ["by the spare"]
        assert account.stored.spare is None

    def test_without_a_spare_no_login_is_counted(self, account: Account) -> None:
        _revoke_all(account)
        with pytest.raises(AuthError, match="grant_revoked"):
            account.post("never seen")
        assert account.stored.logins == ()

    def test_a_spare_session_that_has_rested_for_a_month_is_refreshed(self, account: Account) -> None:
        before = account.stored.spare
        account.now += timedelta(days=31)
        account.worker.ensure()
        after = account.stored.spare
        assert before
        assert after
        assert after.refresh_token != before.refresh_token
        account.granted[0].tokens = replace(account.granted[0].tokens, refresh_token=_refresh_token(account))
        account.granted[0].revoke()
        account.post("by the spare", account.new_worker()).raise_for_status()

    def test_a_spare_session_that_has_ended_while_it_rested_is_given_up(self, account: Account) -> None:
        account.granted[1].revoke()
        account.now += timedelta(days=31)
        account.worker.ensure()
        assert account.stored.spare is None
        assert account.stored.visit_told == ("spare",)
        account.post("by the first").raise_for_status()

    def test_another_visit_of_the_person_heals_it(self, account: Account) -> None:
        _revoke_all(account)
        with pytest.raises(AuthError):
            account.post("never seen")
        account.keep(Granted.to(account.client, SCOPE, account.pds, account.account).session)
        account.post("healed", account.new_worker()).raise_for_status()


def _refresh_token(account: Account) -> str:
    assert account.stored.session
    return account.stored.session.refresh_token


def _revoke_all(account: Account) -> None:
    for granted in account.granted:
        granted.revoke()


class Dies(BaseException):
    """The end of a worker."""


def dies(*_: Any) -> None:
    raise Dies


class TestLostRefreshes:
    """A worker that dies, and a store that fails, at each step of a refresh."""

    @pytest.fixture(autouse=True)
    def due(self, account: Account) -> None:
        account.now += timedelta(minutes=52)

    def saved(self, account: Account, number: int, does: Callable[..., None]) -> None:
        """Let a save of the coming refresh do something: the first notes that the refresh begins."""
        count = 0

        def before(document: SessionDocument) -> None:
            nonlocal count
            count += 1
            if count == number:
                does(document)

        account.store.before_save = before

    def test_a_refresh_that_cannot_be_noted_is_not_sent(self, account: Account) -> None:
        def fails(_: object) -> None:
            raise StoreUnavailable("the store", "it is away.")

        self.saved(account, 1, fails)
        before = account.token_requests()
        assert account.worker.ensure().action == "reused"
        assert account.token_requests() == before
        assert account.new_worker().ensure().action == "refreshed"

    def test_a_worker_that_dies_before_it_sends_costs_nothing(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(oauth, "refresh", dies)
            with pytest.raises(Dies):
                account.worker.ensure()
        assert account.stored.begun_at is not None
        assert account.new_worker().ensure().action == "refreshed"
        assert account.stored.spare is not None

    def test_a_token_that_only_its_server_calls_expired_is_not_taken_for_a_spent_one(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = account.stored.session
        assert isinstance(session, GrantedSession)
        expired = replace(session, access_token=account.pds.expire(session.access_token))
        account.keep(expired, spare=account.granted[1].session)
        with monkeypatch.context() as patched:
            patched.setattr(oauth, "refresh", dies)
            with pytest.raises(Dies):
                account.new_worker().ensure()
        account.post("by the first", account.new_worker()).raise_for_status()
        assert account.stored.spare is not None

    def test_a_worker_that_dies_before_it_saves_leaves_the_spare(self, account: Account) -> None:
        self.saved(account, 2, dies)
        with pytest.raises(Dies):
            account.worker.ensure()
        account.store.before_save = lambda document: None
        account.post("by the spare", account.new_worker()).raise_for_status()
        assert account.texts == ["by the spare"]
        assert account.stored.spare is None

    def test_an_answer_that_is_lost_leaves_the_spare(self, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        refresh = oauth.refresh

        def loses_the_answer(*given: Any) -> None:
            refresh(*given)
            raise ServiceUnavailable(account.pds.url, TOKEN, None, message="ReadTimeout")

        with monkeypatch.context() as patched:
            patched.setattr(oauth, "refresh", loses_the_answer)
            assert account.worker.ensure().action == "reused"
        account.post("by the spare").raise_for_status()
        assert account.texts == ["by the spare"]

    def test_a_session_that_cannot_be_saved_is_used_and_saved_later(self, account: Account) -> None:
        def fails(_: object) -> None:
            raise StoreUnavailable("the store", "it is away.")

        self.saved(account, 2, fails)
        assert account.worker.ensure().action == "refreshed"
        account.post("unsaved").raise_for_status()
        account.now += timedelta(seconds=31)
        account.worker.ensure()
        assert account.stored.begun_at is None
        account.post("saved", account.new_worker()).raise_for_status()
        assert account.stored.spare is not None
