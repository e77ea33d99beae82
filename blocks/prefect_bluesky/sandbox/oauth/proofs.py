"""Proofs that a request comes from the owner of a key (DPoP, RFC 9449), and the nonces that proofs must have."""

import hmac
import secrets
from dataclasses import dataclass

from prefect_bluesky.sandbox.clock import Clock
from prefect_bluesky.sandbox.jwt_parts import to_base64url
from prefect_bluesky.sandbox.oauth.jwts import BadJwt, Jwt, digest, thumbprint
from prefect_bluesky.sandbox.oauth.refusals import invalid_proof, nonce_wanted
from prefect_bluesky.sandbox.refusal import Refusal
from prefect_bluesky.sandbox.xrpc import Call

_MAX_AGE = 10
_TOLERANCE = 180
_ROTATION = 60
"""Seconds of a nonce. The one before and the one after are good, too (oauth-provider 0.22.9, as all numbers here)."""


@dataclass(frozen=True)
class Proof:
    """A proof that was checked.

    Attributes:
        key: the thumbprint of the key.
    """

    key: str


class Proofs:
    """The checker of proofs. Not thread-safe: the caller holds the sandbox's lock.

    Args:
        clock: the server's time.
        url: the server's address, which proofs name.
    """

    def __init__(self, clock: Clock, url: str) -> None:
        self._clock = clock
        self._url = url
        self._secret = secrets.token_bytes(32)
        self._seen: set[str] = set()

    def nonce(self, later: int = 1) -> str:
        """Return the nonce that is good for the longest time, or one that is `later` by so many rotations."""
        number = int(self._clock.now()) // _ROTATION + later
        return to_base64url(hmac.digest(self._secret, str(number).encode(), "sha256"))

    def check(self, call: Call, access_token: str | None = None) -> Proof | None:
        """Return the proof of a call, or None for a call without one.

        Raises:
            Refusal: 400 if the nonce is missing or too old; 401 if the proof is bad or was sent before.
        """
        text = call.headers.get("dpop")
        if text is None:
            return None
        if not text:
            raise invalid_proof("DPoP header cannot be empty")
        try:
            jwt = self._verified(text)
        except BadJwt as bad:
            raise invalid_proof(f"Failed to verify DPoP proof: {bad}") from None
        if fault := self._fault(jwt, call, access_token):
            raise fault
        self._seen.add(jwt.claims["jti"])
        return Proof(thumbprint(jwt.header["jwk"]))

    def _verified(self, text: str) -> Jwt:
        jwt = Jwt.parse(text)
        jwk = jwt.header.get("jwk")
        if not isinstance(jwk, dict):
            raise BadJwt('"jwk" (JSON Web Key) Header Parameter must be a JSON object')
        jwt.verify(jwk)
        if jwt.header.get("typ") != "dpop+jwt":
            raise BadJwt('unexpected "typ" JWT header value')
        jwt.check_claims(self._clock.now(), max_age=_MAX_AGE, tolerance=_TOLERANCE)
        return jwt

    def _fault(self, jwt: Jwt, call: Call, access_token: str | None) -> Refusal | None:
        claims, nonce = jwt.claims, jwt.claims.get("nonce")
        if not isinstance(claims.get("jti"), str) or not claims["jti"]:
            return invalid_proof('DPoP "jti" missing')
        if claims.get("htm") != call.verb:
            return invalid_proof('DPoP "htm" mismatch')
        # A PDS takes a query for none.
        if str(claims.get("htu")).partition("?")[0] != f"{self._url}{call.path}":
            return invalid_proof('DPoP "htu" mismatch')
        if not nonce:
            return nonce_wanted()
        if nonce not in {self.nonce(later) for later in (-1, 0, 1)}:
            return nonce_wanted('DPoP "nonce" mismatch')
        if access_token is not None and claims.get("ath") != digest(access_token):
            return invalid_proof('DPoP "ath" mismatch')
        if access_token is None and "ath" in claims:
            return invalid_proof('DPoP "ath" claim not allowed')
        return invalid_proof("DPoP proof replayed") if claims["jti"] in self._seen else None
