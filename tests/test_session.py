"""A session: what its tokens say, and what it shows."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_bluesky import AuthError, AuthProblem, SessionStatus
from prefect_bluesky.errors import ServiceUnavailable
from prefect_bluesky.sessions.login import session_from_answer
from prefect_bluesky.sessions.password_session import PasswordSession

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def token(**claims: Any) -> str:
    """A JWT with these claims; its signature is anything."""
    parts = [{"alg": "HS256"}, {"sub": DID, "iat": 1000, "exp": 8200, **claims}]
    return ".".join(
        [*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "s"]
    )


def session(**changes: Any) -> PasswordSession:
    """A sound session with some fields changed."""
    fields: dict[str, Any] = {
        "did": DID,
        "handle": "alice.test",
        "pds_url": "https://pds.test",
        "access_token": token(),
        "refresh_token": token(jti="r"),
        "received_at": NOW,
    }
    return PasswordSession(**{**fields, **changes})


def test_expiry_counts_from_receipt_and_the_tokens_own_lifetime() -> None:
    assert session().lifetime == timedelta(hours=2)
    assert session().expires_at == NOW + timedelta(hours=2)


@pytest.mark.parametrize("show", [repr, str, "{}".format, lambda shown: f"{shown!r}"])
def test_no_form_of_it_shows_a_token(show: Any) -> None:
    shown = show(session())
    assert "alice.test" in shown
    assert token() not in shown
    assert "eyJ" not in shown


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("", AuthProblem.MALFORMED_TOKEN),
        ("opaque", AuthProblem.MALFORMED_TOKEN),
        ("a.b", AuthProblem.MALFORMED_TOKEN),
        ("a.b.c.d", AuthProblem.MALFORMED_TOKEN),
        ("é{}", AuthProblem.MALFORMED_TOKEN),
        ("{}\n", AuthProblem.MALFORMED_HEADER),
        (" {}", AuthProblem.MALFORMED_HEADER),
        ('"{}"', AuthProblem.MALFORMED_HEADER),
        ("Bearer {}", AuthProblem.MALFORMED_HEADER),
        ("{}\r\nX: y", AuthProblem.MALFORMED_HEADER),
    ],
)
@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_a_token_that_could_not_be_a_header_is_refused_and_not_shown(
    name: str, damage: str, problem: AuthProblem
) -> None:
    with pytest.raises(AuthError) as failure:
        session(**{name: damage.format(token())})
    assert failure.value.problem is problem
    assert "eyJ" not in f"{failure.value} {failure.value!r}"


@pytest.mark.parametrize("claims", [{"exp": None}, {"iat": "then"}, {"exp": 1000}, {"exp": 1}])
def test_a_token_without_a_life_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(AuthError) as failure:
        session(access_token=token(**claims))
    assert failure.value.problem is AuthProblem.MALFORMED_TOKEN


@pytest.mark.parametrize("payload", ["e30x", "W10", "AAAA"])
def test_a_token_without_claims_is_refused(payload: str) -> None:
    with pytest.raises(AuthError):
        session(access_token=f"a.{payload}.c")


def test_a_token_of_another_account_is_refused() -> None:
    with pytest.raises(AuthError) as failure:
        session(access_token=token(sub="did:plc:somebodyelse"))
    assert failure.value.problem is AuthProblem.WRONG_ACCOUNT


def answer(**changes: Any) -> dict[str, Any]:
    """An answer of createSession."""
    return {"did": DID, "handle": "alice.test", "accessJwt": token(), "refreshJwt": token(), **changes}


def pds_document(endpoint: str) -> dict[str, Any]:
    """A DID document that names a PDS."""
    return {"service": [{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": endpoint}]}


@pytest.mark.parametrize(
    ("document", "pds_url"),
    [
        (None, "https://bsky.social"),
        ({}, "https://bsky.social"),
        ({"service": "none"}, "https://bsky.social"),
        (pds_document("https://pds.test/"), "https://pds.test"),
        (pds_document("http://pds.test"), "https://bsky.social"),
        (pds_document("file:///etc/passwd"), "https://bsky.social"),
    ],
)
def test_the_pds_is_the_one_that_the_did_document_names_if_tokens_may_go_there(document: Any, pds_url: str) -> None:
    found = session_from_answer(answer(didDoc=document), server_url="https://bsky.social", received_at=NOW)
    assert found.pds_url == pds_url


def test_an_answer_without_tokens_is_that_of_something_before_the_server() -> None:
    with pytest.raises(ServiceUnavailable, match=r"Something before https://example\.com answered"):
        session_from_answer({"ok": True}, server_url="https://example.com", received_at=NOW)


def test_a_status_is_one_line_for_the_log() -> None:
    status = SessionStatus(
        did=DID, handle="alice.test", pds_url="https://pds.test", expires_at=session().expires_at, action="logged_in"
    )
    assert str(status) == f"alice.test ({DID}): session logged in, valid until 2026-11-22 14:00:00 UTC"
