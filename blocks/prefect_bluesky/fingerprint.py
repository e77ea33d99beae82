"""A fingerprint of an app password: tells whether two are the same without keeping either."""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from hashlib import scrypt
from typing import Self

# 16 MiB and about 50 ms: once a process and account (https://datatracker.ietf.org/doc/html/rfc7914 section 2).
_COST = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}
_SALT_BYTES = 16


@dataclass(frozen=True)
class Fingerprint:
    """A salted hash (scrypt) of a credential: an app password together with the service that it is for.

    Example:
        >>> fingerprint = Fingerprint.of("https://bsky.social xxxx-xxxx-xxxx-xxxx")
        >>> fingerprint.matches("https://bsky.social xxxx-xxxx-xxxx-xxxx")
        True
    """

    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, credential: str) -> Self:
        """The fingerprint of a credential, under a salt of its own."""
        salt = secrets.token_bytes(_SALT_BYTES)
        return cls(salt, scrypt(credential.encode(), salt=salt, **_COST))

    def matches(self, credential: str) -> bool:
        """Whether this is the credential that the fingerprint was taken of."""
        return hmac.compare_digest(self.digest, scrypt(credential.encode(), salt=self.salt, **_COST))

    def to_text(self) -> str:
        """What is stored."""
        return f"{b64encode(self.salt).decode()}:{b64encode(self.digest).decode()}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `to_text` wrote.

        Raises:
            ValueError: it is something else.
        """
        salt, digest = (b64decode(part, validate=True) for part in text.split(":"))
        if (len(salt), len(digest)) != (_SALT_BYTES, _COST["dklen"]):
            raise ValueError("not a fingerprint")
        return cls(salt, digest)
