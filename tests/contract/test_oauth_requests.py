"""Clients that ask for grants: the sandbox answers word for word what a real PDS answers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from prefect_bluesky.protocol.oauth import SigningKey
from tests.contract.hosts import Host, host_of
from tests.contract.oauth_answers import (
    NO_ASSERTION,
    NO_KEY,
    OTHER_NONCE,
    PUSHED,
    REPLAYED_PROOF,
    STRANGER,
    UNKNOWN,
    WANTS_NONCE,
    Case,
    again,
    bad_client,
    invalid_grant,
    proof_fault,
    unverified,
)
from tests.contract.oauth_caller import BY_KEY, SCOPE, TOKEN, Answer, OAuthCaller, ended_at, said
from tests.pds.client_host import DOCUMENT
from tests.support import Pds

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


@pytest.mark.parametrize(("endpoint", "status"), [("oauth/par", 405), (TOKEN, 404), ("oauth/revoke", 404)])
def test_an_endpoint_cannot_be_read(each_pds: Pds, endpoint: str, status: int) -> None:
    assert httpx.get(f"{each_pds.url}/{endpoint}", trust_env=False).status_code == status
