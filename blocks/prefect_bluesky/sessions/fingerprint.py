"""Fingerprints of app passwords: compare two app passwords without storing them."""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from hashlib import scrypt
from typing import Self

from prefect_bluesky.validation import looks_like_app_password

_COST, _COST_OF_RANDOM = 2**14, 2**8
"""scrypt's N (https://datatracker.ietf.org/doc/html/rfc7914 section 2). A password chosen by a person must be expensive
to guess: 16 MiB and about 50 ms. An app password has 80 random bits, which nobody can guess; its fingerprint is cheap,
because each process makes one for each of its accounts."""
_BYTES = 32
_SALT_BYTES = 16


@dataclass(frozen=True)
class Fingerprint:
    """A salted hash (scrypt) of a credential: an app password together with its service."""

    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, credential: str) -> Self:
        """Return the fingerprint of a credential, with a new salt."""
        salt = secrets.token_bytes(_SALT_BYTES)
        return cls(salt, _digest(credential, salt, _cost(credential)))

    def matches(self, credential: str) -> bool:
        """Return True if the fingerprint was made of this credential."""
        # Before 17b8cce all fingerprints had the high cost. Sessions that were stored then must stay usable.
        costs = {_cost(credential): None, _COST: None}
        return any(hmac.compare_digest(self.digest, _digest(credential, self.salt, cost)) for cost in costs)

    def to_text(self) -> str:
        """Return the text to store."""
        return f"{b64encode(self.salt).decode()}:{b64encode(self.digest).decode()}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the output of `to_text`. Raise `ValueError` for any other text."""
        salt, digest = (b64decode(part, validate=True) for part in text.split(":"))
        if (len(salt), len(digest)) != (_SALT_BYTES, _BYTES):
            raise ValueError("not a fingerprint")
        return cls(salt, digest)


def _cost(credential: str) -> int:
    app_password = credential.rpartition(" ")[2]
    return _COST_OF_RANDOM if looks_like_app_password(app_password) else _COST


def _digest(credential: str, salt: bytes, cost: int) -> bytes:
    return scrypt(credential.encode(), salt=salt, n=cost, r=8, p=1, dklen=_BYTES)
