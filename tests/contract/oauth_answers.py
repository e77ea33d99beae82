"""What a PDS answers to OAuth, in its words. All that a real one was seen to answer is in `oauth-answers.md`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx

from prefect_bluesky.protocol.oauth import SigningKey
from prefect_bluesky.protocol.oauth.keys import digest
from tests.contract.oauth_caller import SESSION, Answer, OAuthCaller

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


def again(case: Callable[[OAuthCaller, str], httpx.Response]) -> Case:
    """A case that sends one proof twice."""

    def call(caller: OAuthCaller) -> httpx.Response:
        path = "oauth/par" if not caller.tokens else f"xrpc/{SESSION}"
        token = caller.tokens.get("access_token")
        proof = caller.proof("GET" if token else "POST", path, ath=digest(token) if token else None)
        case(caller, proof)
        return case(caller, proof)

    return call
