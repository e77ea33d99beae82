"""OAuth on the sandbox and on a real PDS: grants by a person, tokens, and each way in which a server refuses them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from prefect_bluesky.errors import InvalidInput, RequestRefused
from prefect_bluesky.protocol.oauth import (
    AskedGrant,
    AuthorizationServer,
    Client,
    SigningKey,
    allows_blob,
    allows_record,
    ask_for_grant,
    proofs,
    scope_of,
)
from tests import browser
from tests.contract.granted import POST, Granted, hosted, publish
from tests.contract.hosts import Host
from tests.pds.consent import consent_in_browser
from tests.pds.server import Account as RealAccount
from tests.pds.server import RealPds
from tests.support import Account, Pds, picture, texts

SCOPE = scope_of()


@pytest.fixture(params=["loopback", "hosted"])
def client(request: pytest.FixtureRequest) -> Client:
    """A client of each kind."""
    if request.param == "loopback":
        return Client.loopback(SCOPE)
    return hosted(request.getfixturevalue("host"), SCOPE)


@pytest.fixture
def granted(pds: Pds, host: Host, account: Account) -> Granted:
    """A session of a confidential client."""
    return Granted.to(hosted(host, SCOPE), SCOPE, pds, account)


@pytest.fixture
def asked(pds: Pds, account: Account) -> AskedGrant:
    """A grant that the account's owner was asked for."""
    server = AuthorizationServer.of(pds.url)
    return ask_for_grant(server, Client.loopback(SCOPE), SCOPE, did=account.did, handle=account.handle)


class TestGrant:
    """A person consents, or does not."""

    def test_a_client_with_consent_writes_refreshes_and_writes(
        self, pds: Pds, client: Client, account: Account
    ) -> None:
        granted = Granted.to(client, SCOPE, pds, account)
        assert (granted.tokens.did, granted.tokens.scope) == (account.did, SCOPE)
        assert 3590 <= granted.tokens.lifetime.total_seconds() <= 3600
        granted.post("before the refresh").raise_for_status()
        granted.refresh()
        granted.post("after the refresh").raise_for_status()
        assert texts(pds, account) == ["after the refresh", "before the refresh"]

    def test_a_refusal_is_named(self, pds: Pds, asked: AskedGrant) -> None:
        with pytest.raises(InvalidInput) as refused:
            asked.take(pds.refuse(asked.link))
        assert str(refused.value) == (
            "address: the account's server gave no grant: The user rejected the request. Ask for a new link."
        )

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda found: {}, "this is not the address at which the browser ended after the consent."),
            (lambda found: found | {"state": "another"}, "it belongs to another link. Use the link that was shown"),
            (lambda found: found | {"iss": "https://evil.test"}, "it comes from https://evil.test, which was not"),
        ],
        ids=["no address", "another link", "another server"],
    )
    def test_an_address_that_is_another_is_refused_and_the_right_one_is_taken(
        self,
        pds: Pds,
        asked: AskedGrant,
        account: Account,
        change: Callable[[dict[str, str]], dict[str, str]],
        said: str,
    ) -> None:
        address = pds.consent(account, asked.link)
        found = dict(parse_qsl(urlsplit(address).query))
        with pytest.raises(InvalidInput) as refused:
            asked.take(f"http://127.0.0.1/callback?{urlencode(change(found))}")
        assert str(refused.value).startswith(f"address: {said}")
        assert asked.take(address).did == account.did

    def test_another_account_that_consents_is_named_and_gets_its_session_ended(
        self, pds: Pds, asked: AskedGrant
    ) -> None:
        other = pds.create_account()
        address = pds.consent(other, asked.link)
        before = len(pds.requests("oauth/revoke"))
        with pytest.raises(InvalidInput, match=f"another account has consented: {other.did}"):
            asked.take(address)
        assert [request.status for request in pds.requests("oauth/revoke")[before:]] == [200]

    def test_an_address_is_good_once(self, pds: Pds, asked: AskedGrant, account: Account) -> None:
        address = pds.consent(account, asked.link)
        asked.take(address)
        assert refusal(lambda: asked.take(address)) == ("invalid_grant", "Invalid code")


@pytest.mark.pds
class TestPages:
    """What a sandbox does not have: pages, and handles that change."""

    @pytest.fixture
    def pds(self, real_pds: RealPds) -> RealPds:
        return real_pds

    @pytest.mark.slow
    def test_a_person_consents_in_a_browser(self, asked: AskedGrant, account: Account) -> None:
        with browser.chromium() as chromium, chromium.new_page() as page:
            address = consent_in_browser(page, asked.link, account)
        assert asked.take(f"  {address}\n").did == account.did

    def test_an_app_password_cannot_consent(self, pds: RealPds, asked: AskedGrant, account: RealAccount) -> None:
        with pytest.raises(RuntimeError, match="App passwords are not allowed"):
            pds.consent(replace(account, password=account.app_password), asked.link)

    def test_the_handle_cannot_be_changed(self, granted: Granted, account: Account) -> None:
        answer = granted.call("com.atproto.identity.updateHandle", json={"handle": account.handle})
        assert answer.status_code == 403


class TestRights:
    """The default scope allows to publish, and nothing else."""

    @pytest.mark.parametrize(
        ("action", "collection"),
        [
            ("create", POST),
            ("create", "app.bsky.feed.threadgate"),
            ("create", "app.bsky.feed.like"),
            ("update", POST),
            ("delete", POST),
            ("delete", "app.bsky.feed.like"),
            ("update", "app.bsky.actor.profile"),
        ],
    )
    def test_a_record_is_refused_where_the_scope_says_so(
        self, granted: Granted, account: Account, action: str, collection: str
    ) -> None:
        uri = granted.post("first").json()["results"][0]["uri"]
        value = {
            POST: {"text": "x"},
            "app.bsky.feed.threadgate": {"post": uri, "allow": []},
            "app.bsky.feed.like": {
                "subject": {"uri": uri, "cid": "bafyreieqyabdae2fmyw2xg2aylcwox3ex6uexgqgkgzsoa3j72jvncsopa"}
            },
            "app.bsky.actor.profile": {},
        }[collection]
        written: dict[str, Any] = {"value": {"$type": collection, "createdAt": "2026-01-01T00:00:00Z", **value}}
        if action != "create" or collection == "app.bsky.feed.threadgate":
            written["rkey"] = uri.rpartition("/")[2]
        if action == "delete":
            del written["value"]
        answer = granted.write(action, collection, **written)
        is_allowed = allows_record(SCOPE, collection, action)
        assert (answer.status_code, answer.json().get("error")) == (
            (200, None) if is_allowed else (403, "ScopeMissingError")
        )

    @pytest.mark.parametrize("content_type", ["image/png", "text/vtt", "video/mp4"])
    def test_a_file_is_refused_where_the_scope_says_so(self, granted: Granted, content_type: str) -> None:
        answer = granted.call(
            "com.atproto.repo.uploadBlob", content=picture(4, 4), headers={"Content-Type": content_type}
        )
        assert answer.is_success == allows_blob(SCOPE, content_type)

    @pytest.mark.parametrize("method", ["createAppPassword", "revokeAppPassword"])
    def test_passwords_cannot_be_changed(self, granted: Granted, method: str) -> None:
        answer = granted.call(f"com.atproto.server.{method}", json={"name": "x"})
        assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden")

    def test_what_a_server_does_not_know_is_not_granted(self, pds: Pds, account: Account) -> None:
        scope = f"{SCOPE} foo:bar"
        assert Granted.to(Client.loopback(scope), scope, pds, account).tokens.scope == SCOPE


class TestClock:
    """A clock that is wrong by minutes, which a server tells in its first answer."""

    @pytest.mark.parametrize("minutes", [-10, 10])
    def test_a_wrong_clock_costs_one_attempt(
        self, monkeypatch: pytest.MonkeyPatch, pds: Pds, host: Host, account: Account, minutes: int
    ) -> None:
        monkeypatch.setattr(proofs, "_servers", type(proofs._servers)(proofs._Known))
        right = time.time
        monkeypatch.setattr("prefect_bluesky.protocol.oauth.proofs.time.time", lambda: right() + 60 * minutes)
        granted = Granted.to(hosted(host, SCOPE), SCOPE, pds, account)
        granted.refresh()
        assert granted.post("on time").is_success


def refusal(call: Callable[[], object]) -> tuple[str | None, str | None]:
    """Why a call is refused."""
    with pytest.raises(RequestRefused) as refused:
        call()
    return refused.value.error, refused.value.message


class TestRefusals:
    """What a server answers, and whether the session survives."""

    def test_a_refresh_token_that_was_used_ends_the_session(self, granted: Granted) -> None:
        used = granted.tokens
        granted.refresh()
        latest, granted.tokens = granted.tokens, used
        assert refusal(granted.refresh) == ("invalid_grant", "Refresh token replayed")
        granted.tokens = latest
        assert granted.post("never seen").status_code == 401
        assert refusal(granted.refresh) == ("invalid_grant", "Invalid refresh token")

    def test_another_proof_key_ends_the_session(self, granted: Granted) -> None:
        right, granted.key = granted.key, SigningKey.new()
        assert refusal(granted.refresh) == ("invalid_grant", "DPoP proof does not match the expected JKT")
        granted.key = right
        assert refusal(granted.refresh) == ("invalid_grant", "Invalid refresh token")

    def test_a_newer_client_key_ends_the_session_of_the_older_one(self, granted: Granted, host: Host) -> None:
        older = granted.client
        assert older.key
        granted.client = hosted(host, SCOPE, older.key)
        host.reread()
        assert refusal(granted.refresh)[0] == "invalid_grant"
        granted.client = older
        assert refusal(granted.refresh) == ("invalid_grant", "Invalid refresh token")

    def test_a_newer_client_key_beside_the_older_one_leaves_its_sessions(self, granted: Granted, host: Host) -> None:
        assert granted.client.key
        newer = hosted(host, SCOPE, granted.client.key)
        host.reread()
        granted.refresh()
        assert Granted.to(newer, SCOPE, granted.pds, granted.account).post("by the newer key").is_success
        assert granted.post("by the older key").is_success

    def test_a_client_key_that_left_the_document_is_refused_and_the_session_waits_for_it(
        self, granted: Granted, host: Host
    ) -> None:
        hosted(host, SCOPE)
        host.reread()
        assert refusal(granted.refresh)[0] == "invalid_client"
        publish(granted.client, host, SCOPE)
        host.reread()
        granted.refresh()

    def test_a_document_that_cannot_be_read_is_named_and_the_session_waits_for_it(
        self, granted: Granted, host: Host
    ) -> None:
        host.stop()
        granted.refresh()  # the server remembers the document for ten minutes
        host.reread()
        assert refusal(granted.refresh)[0] == "invalid_client_metadata"
        host.start()
        granted.refresh()

    def test_an_expired_access_token_is_refused_and_can_be_refreshed(self, granted: Granted) -> None:
        expired = granted.pds.expire(granted.tokens.access_token)
        granted.tokens = replace(granted.tokens, access_token=expired)
        answer = granted.post("never seen")
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
        granted.refresh()
        assert granted.post("seen").is_success

    def test_a_revoked_session_is_over(self, granted: Granted) -> None:
        granted.revoke()
        assert granted.post("never seen").json()["error"] == "invalid_token"
        assert refusal(granted.refresh) == ("invalid_grant", "Invalid refresh token")

    def test_the_sessions_of_one_account_live_side_by_side(self, granted: Granted) -> None:
        spare = Granted.to(granted.client, SCOPE, granted.pds, granted.account)
        granted.revoke()
        spare.refresh()
        assert spare.post("by the spare").is_success
