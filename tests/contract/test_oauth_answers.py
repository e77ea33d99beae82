"""What a PDS answers to OAuth, word for word: the sandbox is believed because the real one says the same.

All that a real PDS was seen to answer is in `tests/pds/oauth-answers.md`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from prefect_bluesky.protocol.oauth import Client, SigningKey
from prefect_bluesky.protocol.oauth.keys import digest
from tests.contract.caller import claims
from tests.contract.hosts import Host, host_of
from tests.contract.oauth_caller import BY_KEY, SCOPE, SESSION, TOKEN, Answer, OAuthCaller, ended_at, said
from tests.pds.client_host import DOCUMENT
from tests.support import Pds

POST, LIKE, REPO = "app.bsky.feed.post", "app.bsky.feed.like", "com.atproto.repo"
HOUR = timedelta(hours=1)
WANTS_NONCE = (400, "use_dpop_nonce", "Authorization server requires nonce in DPoP proof")
OTHER_NONCE = (400, "use_dpop_nonce", 'DPoP "nonce" mismatch')
NO_PROOF = (401, "invalid_dpop_proof", "DPoP proof required")
REPLAYED_PROOF = (401, "invalid_dpop_proof", "DPoP proof replayed")
NO_ASSERTION = (400, "invalid_request", 'client authentication method "private_key_jwt" required a "client_assertion"')
NO_KEY = "no applicable key found in the JSON Web Key Set"
DEAD = (401, "invalid_token", "Invalid token")
UNKNOWN = (400, "invalid_grant", "Invalid refresh token")
OTHER_KEY = (400, "invalid_grant", "DPoP proof does not match the expected JKT")
BURNT = (400, "invalid_grant", "Invalid code")
PUSHED, OK = (201, None, None), (200, None, None)
STRANGER = SigningKey.new()

Case = Callable[[OAuthCaller], httpx.Response]


def proof_fault(description: str) -> Answer:
    return 401, "invalid_dpop_proof", description


def unverified(why: str) -> Answer:
    return proof_fault(f"Failed to verify DPoP proof: {why}")


def bad_client(why: str) -> Answer:
    return 400, "invalid_client", f'Validation of "client_assertion" failed: {why}'


def invalid_grant(description: str) -> Answer:
    return 400, "invalid_grant", description


def missing(scope: str) -> Answer:
    return 403, "ScopeMissingError", f'Missing required scope "{scope}"'


@pytest.fixture(scope="module", params=["sandbox", pytest.param("real", marks=pytest.mark.pds)])
def pds_of_module(request: pytest.FixtureRequest) -> Pds:
    found: Pds = request.getfixturevalue(f"{request.param}_pds")
    return found


@pytest.fixture(scope="module")
def public(pds_of_module: Pds) -> OAuthCaller:
    """A loopback client, shared by all cases that leave it as it is."""
    return OAuthCaller(pds_of_module)


@pytest.fixture(scope="module")
def confidential(pds_of_module: Pds) -> Iterator[OAuthCaller]:
    """A confidential client, shared likewise."""
    with host_of(pds_of_module) as host:
        yield OAuthCaller(pds_of_module, host)


@pytest.fixture(scope="module")
def signed_in(pds_of_module: Pds) -> OAuthCaller:
    """An account with a granted session, shared likewise."""
    caller = OAuthCaller(pds_of_module)
    caller.sign_in()
    return caller


@pytest.fixture
def client(pds: Pds, host: Host) -> OAuthCaller:
    """A confidential client with a granted session of its own."""
    caller = OAuthCaller(pds, host)
    caller.sign_in()
    return caller


def again(case: Callable[[OAuthCaller, str], httpx.Response]) -> Case:
    """A case that sends one proof twice."""

    def call(caller: OAuthCaller) -> httpx.Response:
        path = "oauth/par" if not caller.tokens else f"xrpc/{SESSION}"
        token = caller.tokens.get("access_token")
        proof = caller.proof("GET" if token else "POST", path, ath=digest(token) if token else None)
        case(caller, proof)
        return case(caller, proof)

    return call


OF_PAR: dict[str, tuple[Case, Answer]] = {
    "all well": (lambda c: c.push(), PUSHED),
    "no proof": (lambda c: c.push(how={"dpop": None}), PUSHED),
    "no nonce": (lambda c: c.push(how={"nonce": None}), WANTS_NONCE),
    "another nonce": (lambda c: c.push(how={"nonce": "x"}), OTHER_NONCE),
    "garbage as proof": (lambda c: c.push(how={"dpop": "garbage"}), unverified("Invalid Compact JWS")),
    "an empty proof": (lambda c: c.push(how={"dpop": ""}), proof_fault("DPoP header cannot be empty")),
    "another address in the proof": (lambda c: c.push(how={"htu": c.url}), proof_fault('DPoP "htu" mismatch')),
    "another verb in the proof": (lambda c: c.push(how={"htm": "GET"}), proof_fault('DPoP "htm" mismatch')),
    "a token in the proof": (lambda c: c.push(how={"ath": "x"}), proof_fault('DPoP "ath" claim not allowed')),
    "a proof twice": (again(lambda c, proof: c.push(how={"dpop": proof})), REPLAYED_PROOF),
    "no state": (lambda c: c.push({"state": None}), PUSHED),
    "a hint that is no handle": (
        lambda c: c.push({"login_hint": "@@"}),
        (400, "invalid_request", 'Invalid login_hint "@@"'),
    ),
    "no scope": (lambda c: c.push({"scope": None}), (400, "invalid_scope", 'The "atproto" scope is required')),
    "a scope without atproto": (
        lambda c: c.push({"scope": c.scope.split(" ")[1]}),
        (400, "invalid_scope", 'The "atproto" scope is required'),
    ),
    "a scope of no document": (
        lambda c: c.push({"scope": "atproto blob:image/*"}),
        (400, "invalid_scope", 'Scope "blob:image/*" is not declared in the client metadata'),
    ),
    "another redirect URI": (
        lambda c: c.push({"redirect_uri": "http://127.0.0.1/other"}),
        (400, "invalid_request", "Invalid redirect_uri http://127.0.0.1/other"),
    ),
    "the redirect URI with a port": (lambda c: c.push({"redirect_uri": "http://127.0.0.1:8080/callback"}), PUSHED),
    "no challenge": (
        lambda c: c.push({"code_challenge": None, "code_challenge_method": None}),
        (400, "invalid_request", "Use of PKCE is required"),
    ),
    "a plain challenge": (
        lambda c: c.push({"code_challenge_method": "plain"}),
        (400, "invalid_request", 'atproto requires use of "S256" code_challenge_method'),
    ),
    "tokens without a code": (
        lambda c: c.push({"response_type": "token"}),
        (400, "unsupported_response_type", 'Unsupported response_type "token"'),
    ),
    "no page": (
        lambda c: c.push({"prompt": "none"}),
        (400, "invalid_request", "Public clients are not allowed to use silent-sign-on"),
    ),
    "a client that is no URL": (
        lambda c: c.push({"client_id": "nobody"}),
        (400, "invalid_client_metadata", 'Unable to obtain client metadata for "nobody": Invalid URL'),
    ),
    "a loopback client with a path": (
        lambda c: c.push({"client_id": "http://localhost/x"}),
        (400, "invalid_client_metadata", 'Invalid client ID "http://localhost/x"'),
    ),
    "a client of a test": (
        lambda c: c.push({"client_id": "https://bot.test/x.json"}),
        (400, "invalid_client_id", "The client_id's TLD must not be a local hostname"),
    ),
    "a client of an example": (
        lambda c: c.push({"client_id": "https://example.org/x.json"}),
        (
            400,
            "invalid_client_metadata",
            'Unable to obtain client metadata for "https://example.org/x.json": Forbidden hostname',
        ),
    ),
    "a redirect URI with a name": (
        lambda c: c.push({"redirect_uri": "http://localhost/callback"}),
        (
            400,
            "invalid_request",
            'Invalid authorization request: Use of "localhost" hostname is not allowed (RFC 8252), use a loopback IP '
            'such as "127.0.0.1" instead at body.redirect_uri',
        ),
    ),
    "nothing": (
        lambda c: c.push({"response_type": None}),
        (
            400,
            "invalid_request",
            "Invalid authorization request: Required at body.response_type, or Required at body.request, "
            "or Required at body.request",
        ),
    ),
    "an assertion of a public client": (
        lambda c: c.push({"client_assertion_type": BY_KEY, "client_assertion": "a.b.c"}),
        PUSHED,
    ),
}


@pytest.mark.parametrize(("call", "expected"), OF_PAR.values(), ids=OF_PAR)
def test_a_request_for_a_grant(public: OAuthCaller, call: Case, expected: Answer) -> None:
    answer = call(public)
    assert said(answer) == expected
    assert answer.headers["dpop-nonce"]
    assert answer.headers["cache-control"] == "no-store"


OF_ASSERTIONS: dict[str, tuple[Case, Answer]] = {
    "all well": (lambda c: c.push(), PUSHED),
    "none": (lambda c: c.push({"client_assertion": None}), NO_ASSERTION),
    "no type": (lambda c: c.push({"client_assertion_type": None}), NO_ASSERTION),
    "garbage": (lambda c: c.push({"client_assertion": "garbage"}), NO_ASSERTION),
    "another key": (lambda c: c.push(c.assertion(key=STRANGER)), bad_client(NO_KEY)),
    "another key under the name of the right one": (
        lambda c: c.push(c.assertion(key=STRANGER, kid=key_of(c).thumbprint)),
        bad_client("signature verification failed"),
    ),
    "another name of the key": (lambda c: c.push(c.assertion(kid="other")), bad_client(NO_KEY)),
    "no name of the key": (
        lambda c: c.push(c.assertion(kid=None)),
        (400, "invalid_client", '"kid" required in client_assertion'),
    ),
    "another audience": (lambda c: c.push(c.assertion(aud="x")), bad_client('unexpected "aud" claim value')),
    "the endpoint as audience": (
        lambda c: c.push(c.assertion(aud=f"{c.url}/oauth/par")),
        bad_client('unexpected "aud" claim value'),
    ),
    "one of several audiences": (lambda c: c.push(c.assertion(aud=[c.url])), PUSHED),
    "another issuer": (lambda c: c.push(c.assertion(iss="x")), bad_client('unexpected "iss" claim value')),
    "another subject": (lambda c: c.push(c.assertion(sub="x")), bad_client('unexpected "sub" claim value')),
    "no id": (lambda c: c.push(c.assertion(jti=None)), bad_client('missing required "jti" claim')),
    "no time": (lambda c: c.push(c.assertion(iat=None)), bad_client('missing required "iat" claim')),
    "no end": (lambda c: c.push(c.assertion(exp=None)), PUSHED),
    "30 seconds old": (lambda c: c.push(c.assertion(ago=30)), PUSHED),
    "over": (lambda c: c.push(c.assertion(ago=70)), bad_client('"exp" claim timestamp check failed')),
    "old without an end": (
        lambda c: c.push(c.assertion(ago=70, exp=None)),
        bad_client('"iat" claim timestamp check failed (too far in the past)'),
    ),
    "of a clock that is ahead": (
        lambda c: c.push(c.assertion(ago=-30)),
        bad_client('"iat" claim timestamp check failed (it should be in the past)'),
    ),
    "sent twice": (lambda c: sent_twice(c, c.assertion()), invalid_grant("private_key_jwt jti reused")),
    "spent by a refusal": (
        lambda c: sent_twice(c, c.assertion(), {"scope": "x:y"}),
        invalid_grant("private_key_jwt jti reused"),
    ),
    "not spent by a missing nonce": (lambda c: sent_twice(c, c.assertion(), how={"nonce": None}), PUSHED),
    # A PDS means to refuse it, but compares two kinds of hashes.
    "by the key of the proof": (lambda c: c.push(how={"key": key_of(c)}), PUSHED),
}


def key_of(caller: OAuthCaller) -> SigningKey:
    assert caller.client.key
    return caller.client.key


def sent_twice(
    caller: OAuthCaller, assertion: dict[str, Any], first: dict[str, Any] | None = None, how: Any = None
) -> httpx.Response:
    caller.push({**assertion, **(first or {})}, how)
    return caller.push(assertion)


@pytest.mark.parametrize(("call", "expected"), OF_ASSERTIONS.values(), ids=OF_ASSERTIONS)
def test_an_assertion_of_a_client(confidential: OAuthCaller, call: Case, expected: Answer) -> None:
    assert said(call(confidential)) == expected


OF_DOCUMENTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no keys": ({"jwks": None}, "invalid_client_metadata", "private_key_jwt auth method requires jwks or jwks_uri"),
    "an empty list of keys": (
        {"jwks": {"keys": []}},
        "invalid_client_metadata",
        "private_key_jwt auth method requires at least one key in jwks",
    ),
    "tokens without proofs": (
        {"dpop_bound_access_tokens": False},
        "invalid_client_metadata",
        '"dpop_bound_access_tokens" must be true',
    ),
    "no algorithm": (
        {"token_endpoint_auth_signing_alg": None},
        "invalid_client_metadata",
        "Missing token_endpoint_auth_signing_alg client metadata",
    ),
    "a native application": (
        {"application_type": "native"},
        "invalid_client_metadata",
        'Native clients must authenticate using "none" method',
    ),
    "a loopback redirect URI": (
        {"redirect_uris": ["http://127.0.0.1/callback"]},
        "invalid_redirect_uri",
        "Loopback redirect URIs are only allowed for native apps",
    ),
    "a redirect URI of a test": (
        {"redirect_uris": ["https://bot.test/callback"]},
        "invalid_redirect_uri",
        'Redirect URI "https://bot.test/callback"\'s domain name must not be a local hostname',
    ),
    "no redirect URIs": (
        {"redirect_uris": []},
        "invalid_client_metadata",
        'Unable to obtain client metadata for "{client_id}": Validation of "redirect_uris" failed with error: '
        "Array must contain at least 1 element(s)",
    ),
    "no scope": ({"scope": None}, "invalid_client_metadata", "Missing scope property"),
    "a scope without atproto": ({"scope": "blob:image/*"}, "invalid_client_metadata", 'Missing "atproto" scope'),
}


@pytest.mark.parametrize(("changed", "error", "description"), OF_DOCUMENTS.values(), ids=OF_DOCUMENTS)
def test_a_document_of_a_client(pds: Pds, changed: dict[str, Any], error: str, description: str) -> None:
    with host_of(pds) as host:
        caller = OAuthCaller(pds, host)
        document = {**caller.client.document(SCOPE), **changed}
        document = {name: value for name, value in document.items() if value is not None}
        host.put(DOCUMENT, json.dumps(document).encode())
        host.reread()
        expected = (400, error, description.format(client_id=caller.client.client_id))
        assert said(caller.push()) == expected


def test_a_document_without_the_grant_to_refresh_gives_no_refresh_token(pds: Pds, host: Host) -> None:
    caller = OAuthCaller(pds, host)
    document = {**caller.client.document(SCOPE), "grant_types": ["authorization_code"]}
    host.put(DOCUMENT, json.dumps(document).encode())
    host.reread()
    assert "refresh_token" not in caller.trade(caller.code()).json()
    caller.tokens["refresh_token"] = f"ref-{'0' * 64}"
    expected = invalid_grant('"refresh_token" grant type is not allowed for this client')
    assert said(caller.refresh()) == expected


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


@pytest.mark.parametrize(("endpoint", "status"), [("oauth/par", 405), (TOKEN, 404), ("oauth/revoke", 404)])
def test_an_endpoint_cannot_be_read(each_pds: Pds, endpoint: str, status: int) -> None:
    assert httpx.get(f"{each_pds.url}/{endpoint}", trust_env=False).status_code == status


def test_the_scope_of_app_passwords_allows_what_these_may(each_pds: Pds) -> None:
    caller = OAuthCaller(each_pds, scope="atproto transition:generic")
    caller.sign_in()
    made = caller.call(f"{REPO}.createRecord", json=record(caller)).json()
    rkey = made["uri"].rpartition("/")[2]
    assert said(caller.call(f"{REPO}.putRecord", json=record(caller, rkey=rkey))) == OK
    assert said(caller.call(f"{REPO}.deleteRecord", json=record(caller, rkey=rkey, record=None))) == OK
    asked = {"aud": "did:web:localhost", "lxm": f"{REPO}.uploadBlob"}
    assert said(caller.call("com.atproto.server.getServiceAuth", params=asked)) == OK


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


class TestConsent:
    """Where the owner's browser ends."""

    @pytest.fixture
    def caller(self, each_pds: Pds) -> OAuthCaller:
        return OAuthCaller(each_pds)

    def test_a_consent_ends_with_a_code(self, caller: OAuthCaller) -> None:
        address = caller.pds.consent(caller.account, caller.link())
        found = ended_at(address)
        assert address.startswith("http://127.0.0.1/callback?")
        assert found.pop("code").startswith("cod-")
        assert found == {"state": "st", "iss": caller.url}

    def test_a_refusal_ends_without_one(self, caller: OAuthCaller) -> None:
        assert ended_at(caller.pds.refuse(caller.link())) == denied(caller, "The user rejected the request")

    def test_a_deactivated_account_cannot_consent(self, caller: OAuthCaller) -> None:
        caller.pds.deactivate(caller.account)
        found = ended_at(caller.pds.consent(caller.account, caller.link()))
        assert found == denied(caller, "This account has been deactivated")

    @pytest.mark.parametrize("happen", ["take_down", "delete_account"])
    def test_an_account_that_is_away_cannot_sign_in(self, caller: OAuthCaller, happen: str) -> None:
        link = caller.link()
        getattr(caller.pds, happen)(caller.account)
        with pytest.raises((RuntimeError, ValueError, LookupError)):
            caller.pds.consent(caller.account, link)

    def test_a_refused_request_is_unknown(self, caller: OAuthCaller) -> None:
        link = caller.link()
        caller.pds.refuse(link)
        with pytest.raises((RuntimeError, LookupError)):
            caller.pds.consent(caller.account, link)


def denied(caller: OAuthCaller, why: str) -> dict[str, str]:
    return {"state": "st", "iss": caller.url, "error": "access_denied", "error_description": why}


def test_the_documents_name_the_endpoints(each_pds: Pds) -> None:
    found = httpx.get(f"{each_pds.url}/.well-known/oauth-protected-resource", trust_env=False).json()
    assert found["authorization_servers"] == [found["resource"]] == [each_pds.url]
    url = f"{each_pds.url}/.well-known/oauth-authorization-server"
    about = httpx.get(url, trust_env=False).json()
    assert about["issuer"] == each_pds.url
    ends = {name: about[name].removeprefix(each_pds.url) for name in about if name.endswith(("_endpoint", "_uri"))}
    assert ends == {
        "authorization_endpoint": "/oauth/authorize",
        "jwks_uri": "/oauth/jwks",
        "pushed_authorization_request_endpoint": "/oauth/par",
        "revocation_endpoint": "/oauth/revoke",
        "token_endpoint": "/oauth/token",
    }
    assert httpx.get(about["jwks_uri"], trust_env=False).json() == {"keys": []}
    required = {"require_pushed_authorization_requests", "authorization_response_iss_parameter_supported"}
    assert all(about[name] is True for name in {*required, "client_id_metadata_document_supported"})
    assert {"none", "private_key_jwt"} == set(about["token_endpoint_auth_methods_supported"])
    assert "ES256" in about["dpop_signing_alg_values_supported"]


def test_a_form_may_be_json(public: OAuthCaller) -> None:
    form = {"client_id": public.client.client_id, "grant_type": "refresh_token", "refresh_token": f"ref-{'0' * 64}"}
    headers = {"DPoP": public.proof("POST", TOKEN)}
    assert said(httpx.post(f"{public.url}/{TOKEN}", json=form, headers=headers, trust_env=False)) == UNKNOWN
    answer = httpx.post(
        f"{public.url}/{TOKEN}", content=b"{", headers={"Content-Type": "application/json"}, trust_env=False
    )
    assert said(answer) == (400, "invalid_request", "Invalid JSON")
    answer = httpx.post(f"{public.url}/{TOKEN}", content=b"", headers=headers, trust_env=False)
    assert said(answer) == (415, "invalid_request", "Unsupported content-type: application/octet-stream")
