"""A session by a grant: what is stored of it, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_bluesky.errors import AuthError, ServiceUnavailable, StoreDamaged
from prefect_bluesky.protocol import oauth
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.grant_sign_in import GrantSignIn
from prefect_bluesky.sessions.granted_session import GrantedSession
from tests.support import web_page
from tests.test_session import DID, session

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
MADE_WITH = Fingerprint.of("oauth https://bot.test/client-metadata.json")


def granted(name: str = "first") -> GrantedSession:
    """A session by a grant."""
    return GrantedSession(
        did=DID,
        handle="alice.test",
        pds_url="https://pds.test",
        access_token=f"access-{name}",
        refresh_token=f"refresh-{name}",
        received_at=NOW,
        issuer="https://bsky.social",
        client_id="https://bot.test/client-metadata.json",
        client_key="thumbprint",
        key=oauth.SigningKey.new(),
        granted_scope="atproto",
        valid_for=timedelta(hours=1),
        granted_at=NOW,
    )


BEFORE = SessionDocument().with_session(session(), Fingerprint.of("https://bsky.social abcd-efgh-2345-6723"))
DOCUMENT = replace(BEFORE.with_session(granted(), MADE_WITH), spare=granted("spare"), begun_at=NOW)


def test_what_is_stored_is_read_again() -> None:
    read = SessionDocument.from_json(DOCUMENT.to_json(), place="here")
    assert read == DOCUMENT
    assert [each.session for each in read.others] == [session()]
    assert isinstance(read.spare, GrantedSession)
    assert isinstance(DOCUMENT.spare, GrantedSession)
    assert read.spare.key.to_text() == DOCUMENT.spare.key.to_text()


def test_an_older_release_reads_all_but_grants() -> None:
    assert json.loads(DOCUMENT.to_json())["version"] == 3
    assert json.loads(DOCUMENT.as_seen_by(lambda made_with: made_with != MADE_WITH).to_json())["version"] == 3
    assert json.loads(BEFORE.to_json())["version"] == 2


@pytest.mark.parametrize("show", [repr, str])
def test_no_form_of_it_shows_a_secret(show: Callable[[object], str]) -> None:
    shown = show(DOCUMENT)
    assert "alice.test" in shown
    secrets = json.loads(DOCUMENT.to_json())
    for each in (secrets["granted"], secrets["spare"]):
        assert not any(secret in shown for secret in (each["access_token"], each["refresh_token"]))
        assert json.loads(each["key"])["d"] not in shown


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "no key"), ("key", "{}"), ("issuer", "http://elsewhere.test"), ("valid_for", "long"),
        ("granted_at", "soon"), ("client_id", ""),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named_by_its_field_and_not_shown(field: str, value: Any) -> None:
    content = json.loads(DOCUMENT.to_json())
    content["spare"][field] = value
    with pytest.raises(StoreDamaged) as refused:
        SessionDocument.from_json(json.dumps(content), place="here")
    assert f"spare.{field}" in str(refused.value)
    assert "refresh-spare" not in str(refused.value)


def test_new_tokens_keep_the_grant() -> None:
    tokens = oauth.Tokens(DID, "access-2", "refresh-2", "atproto", timedelta(minutes=30))
    later = NOW + timedelta(minutes=50)
    renewed = granted().renewed(tokens, later)
    assert (renewed.refresh_token, renewed.expires_at) == ("refresh-2", later + timedelta(minutes=30))
    assert renewed.granted_at == NOW


def test_tokens_of_another_account_are_refused() -> None:
    with pytest.raises(AuthError, match="wrong_account"):
        granted().renewed(oauth.Tokens("did:plc:other", "a", "r", "atproto", timedelta(hours=1)), NOW)


def test_a_server_without_oauth_ends_no_session() -> None:
    with web_page(b"Not Found", status=404) as url:
        session = replace(granted(), pds_url=url, issuer=url)
        sign_in = GrantSignIn(session.handle, lambda: {"thumbprint": oauth.Client.loopback("atproto")}, url)
        with pytest.raises(ServiceUnavailable, match="there is no OAuth here"):
            sign_in.refresh(session, NOW)
