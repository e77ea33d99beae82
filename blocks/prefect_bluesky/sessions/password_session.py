"""A session that was made with an app password: two JWTs and their claims."""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from prefect_bluesky.errors import AuthError
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.session import Session

# A JWT in compact form (RFC 7519). Nothing else may become a header: httpx prints an invalid header together with the
# token, and a PDS answers uploadBlob with 500 if the token is no JWT.
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# A token that claims a longer life is damaged, and would overflow a date.
_LONGEST_LIFE = timedelta(days=3650)


@dataclass(frozen=True)
class PasswordSession(Session):
    """A session whose tokens are JWTs.

    On a Bluesky PDS, the access token is valid for 2 hours, and the refresh token for 90 days
    (packages/pds/src/account-manager/helpers/auth.ts).

    Raises:
        AuthError: `malformed_token` if a token is no JWT, `wrong_account` if the access token is for another DID.
    """

    def __post_init__(self) -> None:
        for token, other_type in ((self.access_token, "refresh+jwt"), (self.refresh_token, "at+jwt")):
            if not _JWT.fullmatch(token):
                raise AuthError(_fault_of(token), self.handle)
            if (self._part(token, 0) or {}).get("typ") == other_type:
                raise AuthError(AuthProblem.WRONG_TOKEN_TYPE, self.handle)
        if self._claims.get("sub") != self.did:
            raise AuthError(AuthProblem.WRONG_ACCOUNT, self.handle)
        if not timedelta() < self.lifetime < _LONGEST_LIFE:
            raise AuthError(AuthProblem.MALFORMED_TOKEN, self.handle)

    @cached_property
    def _claims(self) -> dict[str, Any]:
        claims = self._part(self.access_token, 1)
        if claims is None:
            raise AuthError(AuthProblem.MALFORMED_TOKEN, self.handle)
        return claims

    @staticmethod
    def _part(token: str, number: int) -> dict[str, Any] | None:
        part = token.split(".")[number]
        try:
            content = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except (binascii.Error, ValueError):
            return None
        return content if isinstance(content, dict) else None

    @property
    def scope(self) -> str:
        """The scope: `com.atproto.access` with the main password, `com.atproto.appPass` with an app password."""
        return str(self._claims.get("scope", ""))

    @property
    def audience(self) -> str:
        """The DID of the server that the access token is for."""
        return str(self._claims.get("aud", ""))

    @cached_property
    def lifetime(self) -> timedelta:
        """The lifetime of the access token, by the server's clock (`exp - iat`)."""
        exp, iat = self._claims.get("exp"), self._claims.get("iat")
        if not (isinstance(exp, int) and isinstance(iat, int)):
            raise AuthError(AuthProblem.MALFORMED_TOKEN, self.handle)
        return timedelta(seconds=min(max(exp - iat, 0), _LONGEST_LIFE.total_seconds()))


def _fault_of(token: str) -> AuthProblem:
    looks_like_header = any(character.isspace() or character in "\"'`" for character in token)
    return AuthProblem.MALFORMED_HEADER if looks_like_header else AuthProblem.MALFORMED_TOKEN
