"""JWTs that clients have signed with ES256, checked in the words of a PDS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from json import dumps
from types import MappingProxyType
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from prefect_bluesky.sandbox.jwt_parts import decode, from_base64url, to_base64url

_BYTES = 32
"""The length of a number of the curve P-256."""

_PUBLIC = ("crv", "kty", "x", "y")


class BadJwt(Exception):
    """A JWT that is refused. The text says why, in the words of a PDS."""


@dataclass(frozen=True)
class Jwt:
    """A JWT.

    Attributes:
        header: the JSON object before the first dot.
        claims: the JSON object after it.
    """

    header: Mapping[str, Any]
    claims: Mapping[str, Any] = field(repr=False)
    _signed: str = field(repr=False)
    _signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a JWT without checking it.

        Raises:
            BadJwt: the text is no JWT.
        """
        signed, _, signature = text.rpartition(".")
        header, dot, claims = signed.partition(".")
        read = decode(header), decode(claims), from_base64url(signature)
        if not dot or read[0] is None or read[1] is None or read[2] is None:
            raise BadJwt("Invalid Compact JWS")
        return cls(read[0], read[1], signed, read[2])

    def verify(self, jwk: Mapping[str, Any]) -> None:
        """Check the signature.

        Raises:
            BadJwt: another key has signed, or `jwk` is no key for ES256.
        """
        if self.header.get("alg") != "ES256":
            raise BadJwt('"alg" (Algorithm) Header Parameter value not allowed')
        numbers = [from_base64url(str(jwk.get(name))) for name in ("x", "y")]
        halves = self._signature[:_BYTES], self._signature[_BYTES:]
        try:
            point = b"\4" + b"".join(number or b"" for number in numbers)
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
            signature = encode_dss_signature(*(int.from_bytes(half) for half in halves))
            key.verify(signature, self._signed.encode(), ec.ECDSA(hashes.SHA256()))
        except (ValueError, InvalidSignature):
            raise BadJwt("signature verification failed") from None

    def check_claims(
        self,
        now: float,
        expected: Mapping[str, str] = MappingProxyType({}),
        *,
        max_age: int,
        tolerance: int = 0,
        required: Sequence[str] = (),
    ) -> None:
        """Check the claims in the order of a PDS.

        Args:
            now: the server's time, in seconds since 1970.
            expected: values of claims. `aud` may be one of a list.
            max_age: seconds since `iat`.
            tolerance: seconds by which clocks may differ.
            required: claims that must be there, besides `iat` and those of `expected`.

        Raises:
            BadJwt: a claim is missing or wrong.
        """
        for name in (*expected, "iat", *required):
            if name not in self.claims:
                raise BadJwt(f'missing required "{name}" claim')
        for name, value in expected.items():
            found = self.claims[name]
            if value not in (found if isinstance(found, list) else [found]):
                raise BadJwt(f'unexpected "{name}" claim value')
        issued, expires, now = self.claims["iat"], self.claims.get("exp"), int(now)
        if not isinstance(issued, int | float):
            raise BadJwt('"iat" claim must be a number')
        if expires is not None and not (isinstance(expires, int | float) and expires > now - tolerance):
            raise BadJwt('"exp" claim timestamp check failed')
        if now - issued - tolerance > max_age:
            raise BadJwt('"iat" claim timestamp check failed (too far in the past)')
        if issued - now > tolerance:
            raise BadJwt('"iat" claim timestamp check failed (it should be in the past)')


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the hash of a public key, which names it (RFC 7638)."""
    return digest(dumps({name: jwk.get(name) for name in _PUBLIC}, separators=(",", ":")))


def private_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """Return a private key for ES256 as a JWK (RFC 7517)."""
    numbers = key.private_numbers()
    public = numbers.public_numbers
    named = {"x": public.x, "y": public.y, "d": numbers.private_value}
    coded = {name: to_base64url(number.to_bytes(_BYTES)) for name, number in named.items()}
    return {"kty": "EC", "crv": "P-256", **coded}


def digest(text: str) -> str:
    """Return the SHA-256 of a text, as code challenges (RFC 7636) and proofs (RFC 9449) have it."""
    return to_base64url(sha256(text.encode()).digest())
