"""Calls with the token of a grant: the sandbox answers word for word what a real PDS answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.oauth_answers import (
    HOUR,
    LIKE,
    NO_PROOF,
    OK,
    OTHER_NONCE,
    POST,
    REPLAYED_PROOF,
    REPO,
    STRANGER,
    WANTS_NONCE,
    Case,
    again,
    missing,
    proof_fault,
    unverified,
)
from tests.contract.oauth_caller import SESSION, Answer, OAuthCaller, said
from tests.support import Pds

OF_CALLS: dict[str, tuple[Case, Answer]] = {
    "all well": (lambda c: c.call(), OK),
    "no proof": (lambda c: c.call(dpop=None), NO_PROOF),
    "no nonce": (lambda c: c.call(nonce=None), (401, *WANTS_NONCE[1:])),
    "an empty nonce": (lambda c: c.call(nonce=""), (401, *WANTS_NONCE[1:])),
    "another nonce": (lambda c: c.call(nonce="x"), (401, *OTHER_NONCE[1:])),
    "garbage as proof": (lambda c: c.call(dpop="garbage"), unverified("Invalid Compact JWS")),
    "a signature of another key": (lambda c: c.call(signer=STRANGER), unverified("signature verification failed")),
    "another key": (lambda c: c.call(key=STRANGER), (401, "invalid_token", "Invalid DPoP key binding")),
    "another verb": (lambda c: c.call(htm="POST"), proof_fault('DPoP "htm" mismatch')),
    "another address": (lambda c: c.call(htu=f"{c.url}/x"), proof_fault('DPoP "htu" mismatch')),
    "a query in the proof": (lambda c: c.call(htu=f"{c.url}/xrpc/{SESSION}?a=b"), OK),
    "another token": (lambda c: c.call(ath="x"), proof_fault('DPoP "ath" mismatch')),
    "no token in the proof": (lambda c: c.call(ath=None), proof_fault('DPoP "ath" mismatch')),
    "no id": (lambda c: c.call(jti=None), proof_fault('DPoP "jti" missing')),
    "no time": (lambda c: c.call(iat=None), unverified('missing required "iat" claim')),
    "another type": (lambda c: c.call(header={"typ": "JWT"}), unverified('unexpected "typ" JWT header value')),
    "no key": (
        lambda c: c.call(header={"jwk": None}),
        unverified('"jwk" (JSON Web Key) Header Parameter must be a JSON object'),
    ),
    "a proof twice": (again(lambda c, proof: c.call(dpop=proof)), REPLAYED_PROOF),
    "a clock three minutes back": (lambda c: c.call(ago=180), OK),
    "a clock far back": (
        lambda c: c.call(ago=200),
        unverified('"iat" claim timestamp check failed (too far in the past)'),
    ),
    "a clock nearly three minutes ahead": (lambda c: c.call(ago=-175), OK),
    "a clock far ahead": (
        lambda c: c.call(ago=-190),
        unverified('"iat" claim timestamp check failed (it should be in the past)'),
    ),
    "an expired token": (
        lambda c: c.call(token=c.pds.expire(c.tokens["access_token"])),
        (401, "invalid_token", '"exp" claim timestamp check failed'),
    ),
    "a token with another signature": (
        lambda c: c.call(token=c.tokens["access_token"][:-4] + "AAAA"),
        (401, "invalid_token", "signature verification failed"),
    ),
    "garbage as token": (lambda c: c.call(token="garbage"), (401, "invalid_token", "Malformed token")),
    "the refresh token": (lambda c: c.call(token=c.tokens["refresh_token"]), (401, "invalid_token", "Malformed token")),
    "the refresh token of an app password": (
        lambda c: c.call(token=c.pds.mint(c.account, "refresh", expires_in=HOUR)),
        (401, "invalid_token", 'unexpected "typ" JWT header value'),
    ),
    "the token of an app password": (
        lambda c: c.call(token=c.pds.mint(c.account, expires_in=HOUR)),
        (401, "invalid_token", 'missing required "iss" claim'),
    ),
    "sent as bearer": (lambda c: c.call(scheme="Bearer"), (400, "InvalidToken", "Malformed token")),
    "expired and sent as bearer": (
        lambda c: c.call(scheme="Bearer", token=c.pds.expire(c.tokens["access_token"])),
        (400, "ExpiredToken", "Token has expired"),
    ),
    "a refresh as by a password": (
        lambda c: c.call("com.atproto.server.refreshSession", content=b""),
        (401, "AuthMissing", "Authentication Required"),
    ),
    "a new app password": (
        lambda c: c.call("com.atproto.server.createAppPassword", json={"name": "x"}),
        (403, "Forbidden", "OAuth credentials are not supported for this endpoint"),
    ),
    "a list of app passwords": (
        lambda c: c.call("com.atproto.server.listAppPasswords"),
        (403, "Forbidden", "OAuth credentials are not supported for this endpoint"),
    ),
    "a post": (lambda c: c.write(("create", POST)), OK),
    "a like": (lambda c: c.write(("create", LIKE)), missing(f"repo:{LIKE}?action=create")),
    "an update": (lambda c: c.write(("update", POST)), missing(f"repo:{POST}?action=update")),
    "a deletion": (lambda c: c.write(("delete", POST)), missing(f"repo:{POST}?action=delete")),
    "a deletion before a like": (
        lambda c: c.write(("delete", POST), ("create", LIKE)),
        missing(f"repo:{LIKE}?action=create"),
    ),
    "a post as a single record": (lambda c: c.call(f"{REPO}.createRecord", json=record(c)), OK),
    "a post under a key": (
        lambda c: c.call(f"{REPO}.putRecord", json=record(c, rkey="3kaaaaaaaaaaa")),
        missing(f"repo:{POST}?action=update"),
    ),
    "a deletion of a single record": (
        lambda c: c.call(f"{REPO}.deleteRecord", json=record(c, rkey="3kaaaaaaaaaaa", record=None)),
        missing(f"repo:{POST}?action=delete"),
    ),
    "a file": (
        lambda c: c.call(f"{REPO}.uploadBlob", content=b"x", headers={"Content-Type": "image/png"}),
        missing("blob:image/png"),
    ),
    "somebody else's repository": (
        lambda c: c.write(("create", POST), repo=c.pds.create_account().did),
        (401, "AuthenticationRequired", "Authentication Required"),
    ),
    "a token of another service": (
        lambda c: c.call(
            "com.atproto.server.getServiceAuth", params={"aud": "did:web:localhost", "lxm": f"{REPO}.uploadBlob"}
        ),
        missing(f"rpc:{REPO}.uploadBlob?aud=did:web:localhost"),
    ),
}


def record(caller: OAuthCaller, **others: Any) -> dict[str, Any]:
    value = {"$type": POST, "text": "x", "createdAt": "2026-01-01T00:00:00Z"}
    made = {"repo": caller.account.did, "collection": POST, "record": value, **others}
    return {name: value for name, value in made.items() if value is not None}


@pytest.mark.parametrize(("call", "expected"), OF_CALLS.values(), ids=OF_CALLS)
def test_a_call(signed_in: OAuthCaller, call: Case, expected: Answer) -> None:
    answer = call(signed_in)
    assert said(answer) == expected
    is_checked = expected[1] not in {"AuthMissing", "InvalidToken", "ExpiredToken"}
    assert ("dpop-nonce" in answer.headers) == is_checked


def test_a_session_does_not_tell_the_address(signed_in: OAuthCaller) -> None:
    account = signed_in.account
    assert signed_in.call().json() == {"did": account.did, "handle": account.handle, "active": True}


@pytest.mark.parametrize(
    ("scope", "allowed", "refused"),
    [
        ("atproto", [], ["image/png"]),
        ("atproto blob:image/*", ["image/png"], ["video/mp4", "text/vtt", "*/*", "image/*"]),
        ("atproto blob:*/*", ["image/png", "video/mp4"], ["*/*"]),
        ("atproto blob?accept=image/png&accept=text/*", ["image/png", "text/vtt"], ["image/gif"]),
        ("atproto transition:generic", ["image/png", "text/vtt"], []),
    ],
)
def test_files_by_their_types(each_pds: Pds, scope: str, allowed: list[str], refused: list[str]) -> None:
    caller = OAuthCaller(each_pds, scope=scope)
    caller.sign_in()
    for content_type in allowed + refused:
        answer = caller.call(f"{REPO}.uploadBlob", content=b"x", headers={"Content-Type": content_type})
        assert said(answer) == (OK if content_type in allowed else missing(f"blob:{content_type}"))


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("atproto foo:bar", "atproto"),
        ("atproto repo:nodots", "atproto"),
        ("atproto repo:app.bsky.feed.post?action=post", "atproto"),
        ("atproto repo:app.bsky.feed.post?collection=app.bsky.feed.like", "atproto"),
        ("atproto rpc:*?aud=*", "atproto"),
        ("atproto rpc:com.atproto.repo.uploadBlob?aud=did:web:localhost", "atproto"),
        ("atproto rpc:com.atproto.repo.uploadBlob?aud=*", "atproto rpc:com.atproto.repo.uploadBlob?aud=*"),
        ("atproto blob:image", "atproto"),
        ("atproto account:email identity:*", "atproto account:email identity:*"),
        ("atproto repo:* transition:generic", "atproto repo:* transition:generic"),
        (
            "atproto blob:image/* repo?collection=app.bsky.feed.threadgate&collection=app.bsky.feed.post&action=create",
            "atproto blob:image/* repo?collection=app.bsky.feed.threadgate&collection=app.bsky.feed.post&action=create",
        ),
    ],
)
def test_a_scope_is_granted_as_far_as_it_is_understood(each_pds: Pds, asked: str, granted: str) -> None:
    caller = OAuthCaller(each_pds, scope=asked)
    caller.sign_in()
    assert caller.tokens["scope"] == granted


def test_a_permission_set_that_nobody_knows_is_not_granted(each_pds: Pds) -> None:
    caller = OAuthCaller(each_pds, scope="atproto include:internal.client.unknownSet")
    said_of_it = "Could not resolve Lexicon for NSID (internal.client.unknownSet)"
    assert said(caller.push()) == (400, "invalid_scope", said_of_it)


def test_the_scope_of_app_passwords_allows_what_these_may(each_pds: Pds) -> None:
    caller = OAuthCaller(each_pds, scope="atproto transition:generic")
    caller.sign_in()
    made = caller.call(f"{REPO}.createRecord", json=record(caller)).json()
    rkey = made["uri"].rpartition("/")[2]
    assert said(caller.call(f"{REPO}.putRecord", json=record(caller, rkey=rkey))) == OK
    assert said(caller.call(f"{REPO}.deleteRecord", json=record(caller, rkey=rkey, record=None))) == OK
    asked = {"aud": "did:web:localhost", "lxm": f"{REPO}.uploadBlob"}
    assert said(caller.call("com.atproto.server.getServiceAuth", params=asked)) == OK
