"""A session: the two tokens of an account, and what their claims say."""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.errors import AuthError
from prefect_bluesky.problems import AuthProblem

# A JWT in compact form (RFC 7519) and nothing else. httpx prints a header that it refuses, token and all, and a PDS
# answers uploadBlob with 500 where the token is no JWT: so nothing else may become a header.
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# What claims more is damaged, and would overflow a date.
_LONGEST_LIFE = timedelta(days=3650)


@dataclass(frozen=True)
class Session:
    """The session of one account. Neither `repr` nor `str` shows a token.

    Args:
        did: the account's DID.
        handle: its handle at the time of the last login or refresh.
        pds_url: where its repository is written, without a trailing slash.
        access_token: a JWT; 2 hours on a Bluesky PDS.
        refresh_token: a JWT; 90 days on a Bluesky PDS (both: packages/pds/src/account-manager/helpers/auth.ts).
        received_at: when this process, or another, received the tokens, by its own clock.

    Raises:
        AuthError: `malformed_token` if a token is no JWT, `wrong_account` if the access token is for another DID.
    """

    did: str
    handle: str
    pds_url: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    received_at: datetime

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
        """What the session may do: `com.atproto.access` with the main password, `com.atproto.appPass` without."""
        return str(self._claims.get("scope", ""))

    @cached_property
    def lifetime(self) -> timedelta:
        """How long the access token lives, as its server means it (`exp - iat`)."""
        exp, iat = self._claims.get("exp"), self._claims.get("iat")
        if not (isinstance(exp, int) and isinstance(iat, int)):
            raise AuthError(AuthProblem.MALFORMED_TOKEN, self.handle)
        return timedelta(seconds=min(max(exp - iat, 0), _LONGEST_LIFE.total_seconds()))

    @property
    def expires_at(self) -> datetime:
        """When the access token expires by the clock that `received_at` was read from.

        Not the token's own `exp`: that is the server's clock, and a drifting one here must not matter.
        """
        return self.received_at + self.lifetime


def _fault_of(token: str) -> AuthProblem:
    """What is wrong with a text that is no token: a piece of a header, or no token at all."""
    looks_like_header = any(character.isspace() or character in "\"'`" for character in token)
    return AuthProblem.MALFORMED_HEADER if looks_like_header else AuthProblem.MALFORMED_TOKEN


class SessionStatus(BaseModel):
    """What a gate found. Safe to log and to return: it holds no token.

    Example:
        >>> status = credentials.ensure_session()
        >>> status.action
        'reused'
    """

    model_config = ConfigDict(frozen=True)

    did: str = Field(description="The account's DID.")
    handle: str = Field(description="Its handle.")
    pds_url: str = Field(description="The PDS that holds its repository.")
    expires_at: datetime = Field(description="When the access token expires, by this machine's clock.")
    action: Literal["reused", "refreshed", "logged_in"] = Field(description="What the gate did.")

    def __str__(self) -> str:
        until = f"{self.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.handle} ({self.did}): session {self.action.replace('_', ' ')}, valid until {until}"
