"""A session as data: two tokens and their claims. `login` fetches a session, `authenticator` decides when."""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.errors import AuthError
from prefect_bluesky.problems import AuthProblem

# A JWT in compact form (RFC 7519). Nothing else may become a header: httpx prints an invalid header together with the
# token, and a PDS answers uploadBlob with 500 if the token is no JWT.
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# A token that claims a longer life is damaged, and would overflow a date.
_LONGEST_LIFE = timedelta(days=3650)


@dataclass(frozen=True)
class Session:
    """The session of one account. Neither `repr` nor `str` shows a token.

    Args:
        did: the account's DID.
        handle: the account's handle at the last login or refresh.
        pds_url: the PDS of the account's repository, without a trailing slash.
        access_token: a JWT; valid for 2 hours on a Bluesky PDS.
        refresh_token: a JWT; valid for 90 days on a Bluesky PDS
            (both: packages/pds/src/account-manager/helpers/auth.ts).
        received_at: the time at which a process received the tokens, by its own clock.

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

    @property
    def expires_at(self) -> datetime:
        """The expiry of the access token, by the clock of `received_at`.

        The token's own `exp` is by the server's clock; a drift between the two clocks must not matter.
        """
        return self.received_at + self.lifetime


def _fault_of(token: str) -> AuthProblem:
    looks_like_header = any(character.isspace() or character in "\"'`" for character in token)
    return AuthProblem.MALFORMED_HEADER if looks_like_header else AuthProblem.MALFORMED_TOKEN


class SessionStatus(BaseModel):
    """The outcome of `ensure_session`. Safe to log and to return, as it contains no token.

    Example:
        >>> status = credentials.ensure_session()
        >>> status.action
        'reused'
    """

    model_config = ConfigDict(frozen=True)

    did: str = Field(description="The account's DID.")
    handle: str = Field(description="The account's handle.")
    pds_url: str = Field(description="The PDS that holds the account's repository.")
    expires_at: datetime = Field(description="The expiry of the access token, by this machine's clock.")
    action: Literal["reused", "refreshed", "logged_in"] = Field(description="The way the session was obtained.")

    def __str__(self) -> str:
        until = f"{self.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.handle} ({self.did}): session {self.action.replace('_', ' ')}, valid until {until}"

    if not TYPE_CHECKING:  # type checkers refuse an `await` by themselves

        def __await__(self) -> NoReturn:
            """Say what to do in place of awaiting the result of `ensure_session`."""
            raise TypeError("ensure_session is not awaited. Call it without await, or await aensure_session.")
