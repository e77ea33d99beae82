"""Codes, refresh tokens and what ends a session: the sandbox answers word for word what a real PDS answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from prefect_bluesky.protocol.oauth import Client
from prefect_bluesky.protocol.oauth.keys import digest
from tests.contract.caller import claims
from tests.contract.hosts import Host
from tests.contract.oauth_answers import (
    BURNT,
    DEAD,
    NO_ASSERTION,
    NO_KEY,
    NO_PROOF,
    OK,
    OTHER_KEY,
    OTHER_NONCE,
    POST,
    STRANGER,
    UNKNOWN,
    WANTS_NONCE,
    Case,
    bad_client,
    invalid_grant,
)
from tests.contract.oauth_caller import SCOPE, Answer, OAuthCaller, said
from tests.support import Pds


@pytest.fixture
def client(pds: Pds, host: Host) -> OAuthCaller:
    """A confidential client with a granted session of its own."""
    caller = OAuthCaller(pds, host)
    caller.sign_in()
    return caller


OF_CODES: dict[str, tuple[dict[str, Any], dict[str, Any], Answer, Answer]] = {
    "another verifier": ({"code_verifier": "x" * 43}, {}, invalid_grant("Invalid code_verifier"), BURNT),
    "a short verifier": (
        {"code_verifier": "x"},
        {},
        invalid_grant("Invalid request payload: String must contain at least 43 character(s) at body.code_verifier"),
        OK,
    ),
    "no verifier": ({"code_verifier": None}, {}, invalid_grant("code_verifier is required"), BURNT),
    "another redirect URI": (
        {"redirect_uri": "http://127.0.0.1/other"},
        {},
        invalid_grant("The redirect_uri parameter must match the one used in the authorization request"),
        BURNT,
    ),
    "no redirect URI": (
        {"redirect_uri": None},
        {},
        invalid_grant("Invalid request payload: Required at body.redirect_uri"),
        OK,
    ),
    "another key": ({}, {"key": STRANGER}, OTHER_KEY, BURNT),
    "no proof": ({}, {"dpop": None}, NO_PROOF, OK),
    "no nonce": ({}, {"nonce": None}, WANTS_NONCE, OK),
    "no assertion": ({"client_assertion": None}, {}, NO_ASSERTION, OK),
    "an unknown code": ({"code": f"cod-{'0' * 64}"}, {}, invalid_grant("Invalid code"), OK),
    "a malformed code": (
        {"code": "x"},
        {},
        invalid_grant("Invalid code: String must contain exactly 68 character(s) at code; Invalid code format at code"),
        OK,
    ),
    "a password": (
        {"grant_type": "password"},
        {},
        invalid_grant("Invalid request payload: Required at body.username; Required at body.password"),
        OK,
    ),
    "the client itself": (
        {"grant_type": "client_credentials"},
        {},
        invalid_grant('Grant type "client_credentials" is not supported by the server'),
        OK,
    ),
    "nothing": (
        {"grant_type": None},
        {},
        invalid_grant(
            "Invalid request payload: Invalid discriminator value. Expected 'authorization_code' | 'refresh_token' | "
            "'password' | 'client_credentials' at body.grant_type"
        ),
        OK,
    ),
}


@pytest.mark.parametrize(("form", "how", "expected", "afterwards"), OF_CODES.values(), ids=OF_CODES)
def test_a_code(
    confidential: OAuthCaller, form: dict[str, Any], how: dict[str, Any], expected: Answer, afterwards: Answer
) -> None:
    code = confidential.code()
    assert said(confidential.trade(code, form, how)) == expected
    assert said(confidential.trade(code)) == afterwards


def test_a_code_that_comes_twice_ends_its_session(confidential: OAuthCaller) -> None:
    code = confidential.code()
    confidential.trade(code)
    assert said(confidential.trade(code)) == BURNT
    assert said(confidential.call()) == DEAD
    assert said(confidential.refresh()) == UNKNOWN


def test_a_verifier_is_good_once(confidential: OAuthCaller) -> None:
    assert said(confidential.trade(confidential.code())) == OK
    used = confidential.verifier
    code = confidential.code({"code_challenge": digest(used)})
    expected = invalid_grant("Code challenge already used")
    assert said(confidential.trade(code, {"code_verifier": used})) == expected


OF_REFRESHES: dict[str, tuple[Case, Answer, Answer]] = {
    "another key": (lambda c: c.refresh(how={"key": STRANGER}), OTHER_KEY, UNKNOWN),
    "no proof": (lambda c: c.refresh(how={"dpop": None}), NO_PROOF, OK),
    "no nonce": (lambda c: c.refresh(how={"nonce": None}), WANTS_NONCE, OK),
    "another nonce": (lambda c: c.refresh(how={"nonce": "x"}), OTHER_NONCE, OK),
    "no assertion": (lambda c: c.refresh({"client_assertion": None}), NO_ASSERTION, OK),
    "another client key": (lambda c: c.refresh(c.assertion(key=STRANGER)), bad_client(NO_KEY), OK),
    "an old assertion": (
        lambda c: c.refresh(c.assertion(ago=70)),
        bad_client('"exp" claim timestamp check failed'),
        OK,
    ),
    "a malformed token": (
        lambda c: c.refresh({"refresh_token": "x"}),
        invalid_grant(
            "Invalid refresh token: String must contain exactly 68 character(s) at refresh_token; "
            "Invalid refresh token format at refresh_token"
        ),
        OK,
    ),
    "an unknown token": (lambda c: c.refresh({"refresh_token": f"ref-{'0' * 64}"}), UNKNOWN, OK),
    "no token": (
        lambda c: c.refresh({"refresh_token": None}),
        invalid_grant("Invalid request payload: Required at body.refresh_token"),
        OK,
    ),
    "a token of another client": (
        lambda c: c.refresh({"client_id": Client.loopback(SCOPE).client_id}),
        invalid_grant("Token was not issued to this client"),
        UNKNOWN,
    ),
}


@pytest.mark.parametrize(("call", "expected", "afterwards"), OF_REFRESHES.values(), ids=OF_REFRESHES)
def test_a_refresh(client: OAuthCaller, call: Case, expected: Answer, afterwards: Answer) -> None:
    assert said(call(client)) == expected
    assert said(client.refresh()) == afterwards


def test_a_refresh_token_is_good_once(client: OAuthCaller) -> None:
    used = client.tokens
    assert said(client.refresh()) == OK
    assert said(client.call(token=used["access_token"])) == DEAD
    assert said(client.call()) == OK
    assert said(client.refresh({"refresh_token": used["refresh_token"]})) == invalid_grant("Refresh token replayed")
    assert said(client.call()) == DEAD
    assert said(client.refresh()) == UNKNOWN
    assert said(client.refresh({"refresh_token": used["refresh_token"]})) == UNKNOWN


def test_tokens_are_answered_with_these_members(signed_in: OAuthCaller) -> None:
    tokens = signed_in.tokens
    assert tokens.keys() == {"access_token", "token_type", "refresh_token", "scope", "expires_in", "sub"}
    assert (tokens["token_type"], tokens["scope"], tokens["sub"]) == ("DPoP", SCOPE, signed_in.account.did)
    assert tokens["expires_in"] in (3599, 3600)
    own = claims(tokens["access_token"])
    assert own.keys() == {"jti", "sub", "iat", "exp", "aud", "cnf", "client_id", "iss"}
    assert (own["exp"] - own["iat"], own["iss"], own["aud"]) == (3600, signed_in.url, "did:web:localhost")


OF_REVOCATIONS: dict[str, tuple[Case, Answer, Answer]] = {
    "the refresh token": (lambda c: c.revoke(), OK, DEAD),
    "the access token": (lambda c: c.revoke({"token": c.tokens["access_token"]}), OK, DEAD),
    "an expired access token": (lambda c: c.revoke({"token": c.pds.expire(c.tokens["access_token"])}), OK, DEAD),
    "a used refresh token": (lambda c: c.revoke({"token": used(c)}), OK, DEAD),
    "another key": (lambda c: c.revoke(how={"key": STRANGER}), OK, OK),
    "no proof": (lambda c: c.revoke(how={"dpop": None}), OK, OK),
    "no nonce": (lambda c: c.revoke(how={"nonce": None}), WANTS_NONCE, OK),
    "no assertion": (lambda c: c.revoke({"client_assertion": None}), OK, OK),
    "another client key": (lambda c: c.revoke(c.assertion(key=STRANGER)), OK, OK),
    "another client": (lambda c: c.revoke({"client_id": Client.loopback(SCOPE).client_id}), OK, OK),
    "an unknown token": (lambda c: c.revoke({"token": f"ref-{'0' * 64}"}), OK, OK),
    "garbage": (lambda c: c.revoke({"token": "garbage"}), OK, OK),
}


def used(caller: OAuthCaller) -> str:
    token: str = caller.tokens["refresh_token"]
    caller.refresh()
    return token


@pytest.mark.parametrize(("call", "expected", "afterwards"), OF_REVOCATIONS.values(), ids=OF_REVOCATIONS)
def test_a_revocation(client: OAuthCaller, call: Case, expected: Answer, afterwards: Answer) -> None:
    assert said(call(client)) == expected
    assert said(client.call()) == afterwards


@pytest.mark.parametrize(
    ("happen", "read", "written", "refreshed"),
    [
        (lambda pds, account: pds.change_password(account, "another main password"), OK, OK, OK),
        (lambda pds, account: pds.revoke_app_password(account), OK, OK, OK),
        (lambda pds, account: pds.deactivate(account), OK, (401, "AccountDeactivated", "Account is deactivated"), OK),
        (lambda pds, account: pds.take_down(account), DEAD, DEAD, UNKNOWN),
        (lambda pds, account: pds.delete_account(account), DEAD, DEAD, UNKNOWN),
    ],
    ids=["change password", "revoke app password", "deactivate", "take down", "delete"],
)
def test_each_change_of_an_account_ends_its_grants_or_not(
    client: OAuthCaller, happen: Callable[[Pds, Any], None], read: Answer, written: Answer, refreshed: Answer
) -> None:
    happen(client.pds, client.account)
    assert said(client.call()) == read
    assert said(client.write(("create", POST))) == written
    assert said(client.refresh()) == refreshed


def test_an_account_that_was_taken_down_needs_another_consent(client: OAuthCaller) -> None:
    pds: Any = client.pds
    pds.take_down(client.account)
    pds.reinstate(client.account)
    assert said(client.call()) == DEAD
    assert said(client.refresh()) == UNKNOWN
    client.sign_in()
    assert said(client.call()) == OK
