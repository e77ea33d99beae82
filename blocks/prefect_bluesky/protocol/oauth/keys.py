"""Keys for ES256, and what is signed with them: a client's assertions, and proofs that a token is held by its owner."""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from prefect_bluesky.errors import InvalidInput

_BYTES = 32
"""The length of a number of the curve P-256."""


def encode(data: bytes) -> str:
    """Encode as base64url without padding, as JWTs have it (RFC 7515)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Decode the output of `encode`."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def digest(text: str) -> str:
    """Return the SHA-256 of a text, as a code challenge (RFC 7636) or a proof (RFC 9449) has it."""
    return encode(sha256(text.encode()).digest())


@dataclass(frozen=True)
class SigningKey:
    """A private key for ES256. Neither `repr` nor `str` shows the key.

    Example:
        >>> key = SigningKey.new()
        >>> SigningKey.from_text(key.to_text()) == key
        True
    """

    _private: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    thumbprint: str
    """The hash of the public key (RFC 7638), which names the key."""

    @classmethod
    def new(cls) -> Self:
        """Make a key."""
        return cls._of(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def _of(cls, private: ec.EllipticCurvePrivateKey) -> Self:
        members = _public(private)
        return cls(private, digest(json.dumps(dict(sorted(members.items())), separators=(",", ":"))))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the output of `to_text`: a private JWK (RFC 7517).

        Raises:
            InvalidInput: the text is no key for ES256. The message does not show the text.
        """
        try:
            members = json.loads(text)
            private = ec.derive_private_key(int.from_bytes(decode(members["d"])), ec.SECP256R1())
            is_whole = _public(private) == {name: members[name] for name in _MEMBERS}
        except (ValueError, KeyError, TypeError, binascii.Error):
            is_whole = False
        if not is_whole:
            raise InvalidInput("key", "the text is no private key for ES256.", "Give a JWK with kty, crv, x, y and d.")
        return cls._of(private)

    def to_text(self) -> str:
        """Return the key as a private JWK, to store."""
        number = self._private.private_numbers().private_value
        return json.dumps({**self.public, "d": encode(number.to_bytes(_BYTES))})

    @cached_property
    def public(self) -> dict[str, str]:
        """The public key as a JWK."""
        return _public(self._private)

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        """Return a JWT, signed."""
        parts = {"alg": "ES256", **header}, claims
        signed = ".".join(encode(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
        numbers = decode_dss_signature(self._private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{encode(b''.join(number.to_bytes(_BYTES) for number in numbers))}"


_MEMBERS = ("kty", "crv", "x", "y")


def _public(private: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = private.public_key().public_numbers()
    x, y = (encode(number.to_bytes(_BYTES)) for number in (numbers.x, numbers.y))
    return dict(zip(_MEMBERS, ("EC", "P-256", x, y), strict=True))
