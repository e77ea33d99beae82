"""Sign tokens, parse Authorization headers, and refuse bad tokens."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

from .clock import Clock
from .jwt_parts import decode, encode, from_base64url, to_base64url
from .refusal import bad_request, server_error, unauthorized

SERVICE_DID = "did:web:localhost"
_DIGESTS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
_SCHEMES = {"basic", "bearer", "dpop"}


class Scope(StrEnum):
    """The scope of a token. The main password and the two kinds of app password give different scopes."""

    MAIN = "com.atproto.access"
    APP = "com.atproto.appPass"
    APP_PRIVILEGED = "com.atproto.appPassPrivileged"
    TAKEN_DOWN = "com.atproto.takendown"
    REFRESH = "com.atproto.refresh"


MAIN_ONLY = (Scope.MAIN,)
ANY_SESSION = (Scope.MAIN, Scope.APP_PRIVILEGED, Scope.APP)


class Tokens:
    """The signer and checker of tokens, with this sandbox's own key.

    Attributes:
        service_did: the DID of this sandbox, for which its tokens are.
    """

    def __init__(self, clock: Clock, service_did: str) -> None:
        self.service_did = service_did
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def sign(self, kind: str, claims: Mapping[str, Any]) -> str:
        """Return a signed token of `kind` "at+jwt" (access), "refresh+jwt" or "JWT" (for another service)."""
        signed = f"{encode({'typ': kind, 'alg': 'HS256'})}.{encode(claims)}"
        return f"{signed}.{to_base64url(self._signature('HS256', signed))}"

    def access(self, authorization: str | None, scopes: Collection[Scope] = ANY_SESSION) -> dict[str, Any]:
        """Return the claims of the access token in an Authorization header.

        Raises:
            Refusal: the header is missing or malformed, or the token is bad, expired or of another scope.
        """
        header = parse_authorization(authorization)
        if header is None:
            raise unauthorized(error="AuthMissing")
        scheme, token = header
        if scheme != "bearer":
            raise bad_request("Unexpected authorization type", "InvalidToken")
        return self._verify(token, "at+jwt", scopes)

    def refresh(self, authorization: str | None, *, allow_expired: bool = False) -> dict[str, Any]:
        """Return the claims of the refresh token in an Authorization header.

        Raises:
            Refusal: as for `access`, or the token has no id.
        """
        header = parse_authorization(authorization)
        if header is None or header[0] != "bearer":
            raise unauthorized(error="AuthMissing")
        claims = self._verify(header[1], "refresh+jwt", (Scope.REFRESH,), allow_expired=allow_expired)
        if not claims.get("jti"):
            raise unauthorized("Unexpected missing refresh token id", "MissingTokenId")
        return claims

    def subject(self, authorization: str | None) -> str | None:
        """Return the account (DID) of a token of this sandbox, expired or not; None for anything else."""
        scheme, _, token = (authorization or "").partition(" ")
        parts = self.signed_parts(token) if scheme.lower() in ("bearer", "dpop") else None
        subject = parts[1].get("sub", parts[1].get("iss")) if parts else None
        return subject if isinstance(subject, str) else None

    def has_signed(self, authorization: str | None) -> bool:
        """Return True if the token in an Authorization header was signed by this sandbox and is unchanged."""
        header = parse_authorization(authorization)
        return header is not None and self.signed_parts(header[1]) is not None

    def _verify(
        self, token: str, kind: str, scopes: Collection[Scope], *, allow_expired: bool = False
    ) -> dict[str, Any]:
        parts = self.signed_parts(token)
        if parts is None or not self._meant_for_us(*parts, kind, allow_expired):
            raise bad_request("Token could not be verified", "InvalidToken")
        claims = parts[1]
        # Checked after the other faults: a token that is both expired and otherwise wrong counts as wrong.
        if "exp" in claims and claims["exp"] <= int(self._clock.now()) and not allow_expired:
            raise bad_request("Token has expired", "ExpiredToken")
        if "cnf" in claims or not re.fullmatch(r"did:[a-z]+:[\w.:%-]*[\w.-]", str(claims.get("sub")), re.ASCII):
            raise bad_request("Malformed token", "InvalidToken")
        if claims.get("scope") not in scopes:
            raise bad_request("Bad token scope", "InvalidToken")
        return claims

    def _meant_for_us(self, header: dict[str, Any], claims: dict[str, Any], kind: str, allow_expired: bool) -> bool:
        times = [claims.get(name, 0) for name in ("iat", "nbf", "exp")]
        return (
            header.get("typ") == kind
            and claims.get("aud") == self.service_did
            and all(isinstance(time, int | float) for time in times)
            and (allow_expired or times[1] <= int(self._clock.now()))
        )

    def signed_parts(self, token: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return header and claims, or None if the signature is not ours."""
        parts = token.split(".")
        if len(parts) != 3:
            return None
        header, claims, signature = decode(parts[0]), decode(parts[1]), from_base64url(parts[2])
        if header is None or claims is None or signature is None or header.get("alg") not in _DIGESTS:
            return None
        expected = self._signature(header["alg"], f"{parts[0]}.{parts[1]}")
        return (header, claims) if hmac.compare_digest(expected, signature) else None

    def _signature(self, algorithm: str, signed: str) -> bytes:
        return hmac.new(self._key, signed.encode(), _DIGESTS[algorithm]).digest()


def unverified(authorization: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a bearer token, without checking the signature. Both are empty without a token.

    Raises:
        Refusal: 500 for a bearer token that is no JWT. A PDS intends a 400, but fails before.
    """
    header = parse_authorization(authorization)
    if header is None or header[0] != "bearer":
        return {}, {}
    parts = header[1].split(".")
    claims = decode(parts[1]) if len(parts) == 3 else None
    if claims is None:
        raise server_error()
    return decode(parts[0]) or {}, claims


def parse_authorization(authorization: str | None) -> tuple[str, str] | None:
    """Return scheme, in lower case, and token of an Authorization header, or None without one.

    Raises:
        Refusal: 400 for another form or an unknown scheme.
    """
    if not authorization:
        return None
    parts = authorization.split(" ")
    if len(parts) != 2:
        raise bad_request("Malformed authorization header", "InvalidToken")
    if parts[0].lower() not in _SCHEMES:
        raise bad_request(f"Unsupported authorization type: {parts[0]}", "InvalidToken")
    return parts[0].lower(), parts[1]
