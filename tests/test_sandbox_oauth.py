"""Grants in tests of other teams: an account's owner consents without a browser, and what may go wrong is caused.

What the sandbox answers to each request is compared with a real PDS by the tests in `tests/contract`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from prefect_bluesky import AuthError, BlueskyCredentials, BlueskyOAuthClient, sandbox
from prefect_bluesky.errors import InvalidInput, RequestRefused, ServiceUnavailable
from prefect_bluesky.protocol import oauth
from prefect_bluesky.sandbox import Account, Sandbox
from tests.contract.caller import said
from tests.contract.granted import Granted
from tests.support import LOGIN, texts

TOKEN = "oauth/token"
CLIENT = "https://client.internal"
SCOPE = oauth.scope_of()


@pytest.fixture
def pds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox that is its own directory of DIDs."""
    with sandbox.run() as pds:
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", pds.plc_url)
        yield pds


@pytest.fixture
def alice(pds: Sandbox) -> Account:
    return pds.create_account("alice.test")


def block(pds: Sandbox, account: Account, client: BlueskyOAuthClient | None = None) -> BlueskyCredentials:
    """The block of an account that has an OAuth client in place of an app password."""
    return BlueskyCredentials(
        handle=account.handle, service_url=pds.url, oauth_client=client or BlueskyOAuthClient(rights="create")
    )


def hosted(pds: Sandbox) -> BlueskyOAuthClient:
    """A confidential client, whose document the sandbox finds."""
    client = BlueskyOAuthClient(url=CLIENT, key=BlueskyOAuthClient.new_key())
    *_, latest = client.clients().values()
    pds.host_client(latest.document(client.scope))
    return client


@pytest.fixture
def credentials(prefect_api: str, pds: Sandbox, alice: Account) -> BlueskyCredentials:
    """The block of an account whose owner has consented."""
    credentials = block(pds, alice)
    visit = credentials.visit()
    visit.take(pds.consent(alice, visit.link()))
    return credentials


class TestAccountOfAFlow:
    """A block with a grant, used as by a flow."""

    def test_posts_are_published(self, pds: Sandbox, alice: Account, credentials: BlueskyCredentials) -> None:
        credentials.publish("one")
        credentials.publish("two")
        assert texts(pds, alice) == ["one", "two"]
        assert pds.requests(LOGIN) == []

    def test_what_was_not_granted_is_refused(
        self, pds: Sandbox, alice: Account, credentials: BlueskyCredentials
    ) -> None:
        post = credentials.publish("stays")
        with pytest.raises(AuthError, match="insufficient_scope"):
            credentials.delete_post(post)
        assert texts(pds, alice) == ["stays"]

    def test_an_expired_token_is_refreshed(self, pds: Sandbox, alice: Account, credentials: BlueskyCredentials) -> None:
        credentials.publish("before")
        pds.advance(timedelta(minutes=61))
        credentials.publish("after")
        assert texts(pds, alice) == ["after", "before"]
        assert [request.status for request in pds.requests(TOKEN)][-1] == 200

    def test_a_grant_that_the_owner_revokes_is_named(
        self, pds: Sandbox, alice: Account, credentials: BlueskyCredentials
    ) -> None:
        pds.end_grants(alice)
        with pytest.raises(AuthError, match="grant_revoked"):
            credentials.publish("never seen")

    def test_a_lost_answer_to_a_refresh_ends_the_grant(
        self, pds: Sandbox, alice: Account, credentials: BlueskyCredentials
    ) -> None:
        credentials.publish("before")
        pds.advance(timedelta(minutes=61))
        pds.drop(TOKEN)
        with pytest.raises(AuthError, match="refresh_replayed"):
            credentials.publish("never seen")
        # The token was spent, although nobody has the new ones. It is not sent again.
        assert [request.status for request in pds.requests(TOKEN)].count(None) == 1
        assert texts(pds, alice) == ["before"]

    def test_a_spare_session_takes_over_when_an_answer_is_lost(
        self, pds: Sandbox, alice: Account, credentials: BlueskyCredentials
    ) -> None:
        visit = credentials.visit()
        visit.take(pds.consent(alice, visit.link()), is_spare=True)
        pds.advance(timedelta(minutes=61))
        pds.drop(TOKEN)
        credentials.publish("by the spare")
        assert texts(pds, alice) == ["by the spare"]

    def test_a_refusal_of_the_owner_is_named(self, pds: Sandbox, alice: Account, prefect_api: str) -> None:
        visit = block(pds, alice).visit()
        with pytest.raises(InvalidInput, match="The user rejected the request"):
            visit.take(pds.refuse(visit.link()))

    @pytest.mark.usefixtures("prefect_api")
    def test_a_client_whose_document_is_away_is_named(self, pds: Sandbox, alice: Account) -> None:
        client = hosted(pds)
        credentials = block(pds, alice, client)
        visit = credentials.visit()
        visit.take(pds.consent(alice, visit.link()))
        credentials.publish("before")
        pds.remove_client(f"{CLIENT}/client-metadata.json")
        pds.advance(timedelta(minutes=61))
        with pytest.raises(AuthError, match="client_unreadable"):
            credentials.publish("never seen")


class TestOwnCalls:
    """A grant without a page, for a test that signs its own calls."""

    def test_a_grant_can_post_and_refresh(self, pds: Sandbox, alice: Account) -> None:
        granted = session(pds, alice)
        assert granted.post("one").is_success
        granted.refresh()
        assert granted.post("two").is_success
        assert texts(pds, alice) == ["one", "two"]

    def test_the_usual_grant_is_what_this_package_asks_for(self, pds: Sandbox, alice: Account) -> None:
        assert pds.grant(alice).scope == oauth.scope_of()

    def test_a_grant_allows_what_its_scope_says(self, pds: Sandbox, alice: Account) -> None:
        granted = session(pds, alice, "atproto repo:app.bsky.feed.post?action=delete")
        missing = 'Missing required scope "repo:app.bsky.feed.post?action=create"'
        assert said(granted.post("never seen")) == (403, "ScopeMissingError", missing)

    def test_a_grant_that_the_owner_revokes_is_dead(self, pds: Sandbox, alice: Account) -> None:
        granted = session(pds, alice)
        pds.end_grants(alice)
        assert said(granted.post("never seen")) == (401, "invalid_token", "Invalid token")
        with pytest.raises(RequestRefused, match="Invalid refresh token"):
            granted.refresh()

    def test_a_grant_shows_no_secret(self, pds: Sandbox, alice: Account) -> None:
        grant = pds.grant(alice)
        for shown in (repr(grant), str(grant)):
            assert not any(secret in shown for secret in (grant.access_token, grant.refresh_token, grant.key))

    def test_a_token_can_be_expired_without_moving_the_clock(self, pds: Sandbox, alice: Account) -> None:
        granted = session(pds, alice)
        good = granted.tokens
        granted.tokens = replace(good, access_token=pds.expire(good.access_token))
        assert said(granted.post("never seen")) == (401, "invalid_token", '"exp" claim timestamp check failed')
        granted.tokens = good
        assert granted.post("still good").is_success

    @pytest.mark.parametrize(
        ("scopes", "message"),
        [
            ("repo:app.bsky.feed.post", "scopes: atproto is missing."),
            ("atproto repo:post", "scopes: 'repo:post' is no scope that a PDS understands."),
        ],
    )
    def test_a_scope_that_cannot_be_granted_is_named(
        self, pds: Sandbox, alice: Account, scopes: str, message: str
    ) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            pds.grant(alice, scopes)

    def test_a_grant_of_nobody_is_refused(self, pds: Sandbox, alice: Account) -> None:
        pds.delete_account(alice)
        for call in (pds.grant, pds.end_grants):
            with pytest.raises(LookupError, match=r"alice\.test"):
                call(alice)


def session(pds: Sandbox, account: Account, *scopes: str) -> Granted:
    """A session by `Sandbox.grant`."""
    grant = pds.grant(account, *scopes)
    hour = timedelta(hours=1)
    tokens = oauth.Tokens(grant.did, grant.access_token, grant.refresh_token, grant.scope, hour)
    client = oauth.Client(grant.client_id, "http://127.0.0.1/callback")
    return Granted(
        pds, account, oauth.AuthorizationServer.of(pds.url), client, oauth.SigningKey.from_text(grant.key), tokens
    )


class TestAges:
    """What ends with time, by the sandbox's own clock."""

    @pytest.fixture(params=["public", "confidential"])
    def granted(self, request: pytest.FixtureRequest, pds: Sandbox, alice: Account) -> Granted:
        client = oauth.Client.loopback(SCOPE)
        if request.param == "confidential":
            client = oauth.Client.hosted(CLIENT, oauth.SigningKey.new())
            pds.host_client(client.document(SCOPE))
        return Granted.to(client, SCOPE, pds, alice)

    def test_an_access_token_lives_for_an_hour(self, pds: Sandbox, granted: Granted) -> None:
        pds.advance(timedelta(minutes=59))
        assert granted.post("good").is_success
        pds.advance(timedelta(minutes=1))
        assert said(granted.post("never seen")) == (401, "invalid_token", '"exp" claim timestamp check failed')

    @pytest.mark.parametrize(
        ("granted", "days", "refused"),
        [
            ("public", [13], None),
            ("public", [15], "Session expired"),
            ("public", [10, 10], "Session expired"),
            ("confidential", [90], None),
            ("confidential", [92], "Refresh token expired"),
            ("confidential", [90] * 8, None),
            ("confidential", [90] * 8 + [11], "Session expired"),
        ],
        indirect=["granted"],
    )
    def test_a_session_ends_by_its_age_and_unused(
        self, pds: Sandbox, granted: Granted, days: list[int], refused: str | None
    ) -> None:
        *first, last = days
        for wait in first:
            pds.advance(timedelta(days=wait))
            granted.refresh()
        pds.advance(timedelta(days=last))
        if refused is None:
            granted.refresh()
            return
        for message in (refused, "Invalid refresh token"):
            with pytest.raises(RequestRefused, match=message):
                granted.refresh()

    def test_a_link_and_a_code_are_good_for_five_minutes(self, pds: Sandbox, alice: Account) -> None:
        server, client = oauth.AuthorizationServer.of(pds.url), oauth.Client.loopback(SCOPE)
        for early in (True, False):
            asked = oauth.ask_for_grant(server, client, SCOPE, did=alice.did)
            address = pds.consent(alice, asked.link) if early else ""
            pds.advance(timedelta(minutes=5, seconds=1))
            error: type[Exception] = RequestRefused if early else InvalidInput
            with pytest.raises(error, match="This code has expired" if early else "This request has expired"):
                asked.take(address or pds.consent(alice, asked.link))


class TestLinks:
    """A link that is opened once too often, or by the wrong client."""

    @pytest.fixture
    def asked(self, pds: Sandbox, alice: Account) -> oauth.AskedGrant:
        server, client = oauth.AuthorizationServer.of(pds.url), oauth.Client.loopback(SCOPE)
        return oauth.ask_for_grant(server, client, SCOPE, did=alice.did)

    def test_a_link_that_is_opened_again_spends_its_code(
        self, pds: Sandbox, alice: Account, asked: oauth.AskedGrant
    ) -> None:
        first, again = (pds.consent(alice, asked.link) for _ in range(2))
        with pytest.raises(InvalidInput, match="This request was already authorized"):
            asked.take(again)
        with pytest.raises(RequestRefused, match="Invalid code"):
            asked.take(first)

    def test_a_link_with_another_client_is_refused(self, pds: Sandbox, alice: Account, asked: oauth.AskedGrant) -> None:
        link = asked.link.replace("scope", "other")
        with pytest.raises(InvalidInput, match="This request was initiated for another client"):
            asked.take(pds.consent(alice, link))


class TestFaults:
    """Faults of the endpoints, which are called as methods are."""

    def test_a_failure_spends_nothing(self, pds: Sandbox, alice: Account) -> None:
        granted = session(pds, alice)
        pds.fail(TOKEN, 500)
        with pytest.raises(ServiceUnavailable) as failed:
            granted.refresh()
        assert (failed.value.error, failed.value.message) == ("server_error", "Server error")
        granted.refresh()

    def test_a_dropped_answer_has_spent_the_token(self, pds: Sandbox, alice: Account) -> None:
        granted = session(pds, alice)
        granted.refresh()  # which learns the nonce
        pds.drop(TOKEN)
        with pytest.raises(ServiceUnavailable):
            granted.refresh()
        with pytest.raises(RequestRefused, match="Refresh token replayed"):
            granted.refresh()
        assert [request.status for request in pds.requests(TOKEN)][-2:] == [None, 400]
        assert pds.requests(TOKEN)[-3].did == alice.did

    def test_requests_are_counted_by_endpoint(self, pds: Sandbox, alice: Account) -> None:
        granted = Granted.to(oauth.Client.loopback(SCOPE), SCOPE, pds, alice)
        granted.revoke()
        assert {request.nsid for request in pds.requests()} == {"oauth/par", TOKEN, "oauth/revoke"}


class TestMistakes:
    """Calls that cannot be right."""

    def test_a_link_of_elsewhere_is_named(self, pds: Sandbox, alice: Account) -> None:
        for link in ("https://bsky.social/oauth/authorize?request_uri=x&client_id=y", f"{pds.url}/oauth/authorize"):
            for call in (lambda link: pds.consent(alice, link), pds.refuse):
                with pytest.raises(ValueError, match="link: this is no link"):
                    call(link)

    def test_an_unknown_request_is_named(self, pds: Sandbox, alice: Account) -> None:
        with pytest.raises(LookupError, match="Ask for a new link"):
            pds.consent(alice, f"{pds.url}/oauth/authorize?request_uri=x&client_id=y")

    def test_a_document_without_an_address_is_named(self, pds: Sandbox) -> None:
        with pytest.raises(ValueError, match="document: its client_id is None"):
            pds.host_client({})

    def test_a_document_that_is_not_there_is_named(self, pds: Sandbox) -> None:
        with pytest.raises(LookupError, match="client_id: the sandbox has no document"):
            pds.remove_client(CLIENT)

    def test_a_token_of_elsewhere_cannot_expire(self, pds: Sandbox) -> None:
        with pytest.raises(ValueError, match="access_token: the sandbox has not signed it"):
            pds.expire("a.b.c")
