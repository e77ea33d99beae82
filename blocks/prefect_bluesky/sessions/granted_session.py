"""A session that a person has granted in a browser: tokens of OAuth, bound to a key."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from prefect_bluesky.errors import AuthError
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.protocol import oauth
from prefect_bluesky.sessions.session import Session

_WITH_KEY, _WITHOUT_KEY = timedelta(days=730), timedelta(days=14)
"""How long a server lets a session live, by whether its client has a key (measured on @atproto/pds 0.5.35)."""


@dataclass(frozen=True)
class GrantedSession(Session):
    """A session by a grant. Neither `repr` nor `str` shows a token or the key.

    Args:
        issuer: the authorization server that gave the tokens.
        client_id: the client that they were given to.
        client_key: the thumbprint of the client's key at that time; "" if the client had none. A server ends a session
            that is refreshed with another one.
        key: the key that the tokens are bound to.
        granted_scope: what the server says that they allow.
        valid_for: the lifetime of the access token.
        granted_at: when the person consented.

    Raises:
        AuthError: `wrong_account` if the tokens are another account's.
    """

    issuer: str
    client_id: str
    client_key: str
    key: oauth.SigningKey = field(repr=False)
    granted_scope: str
    valid_for: timedelta
    granted_at: datetime

    @property
    def scope(self) -> str:
        """The scopes that were granted, with spaces between them."""
        return self.granted_scope

    @property
    def began_at(self) -> datetime:
        """The time at which the person consented."""
        return self.granted_at

    @property
    def ends_at(self) -> datetime:
        """The time at which the person has to consent again."""
        return self.granted_at + (_WITH_KEY if self.client_key else _WITHOUT_KEY)

    @property
    def lifetime(self) -> timedelta:
        """The lifetime of the access token: 60 minutes on a Bluesky PDS (oauth-provider 0.22.9)."""
        return self.valid_for

    def renewed(self, tokens: oauth.Tokens, received_at: datetime) -> GrantedSession:
        """Return the session with new tokens."""
        if tokens.did != self.did:
            raise AuthError(AuthProblem.WRONG_ACCOUNT, self.handle)
        return replace(
            self,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            received_at=received_at,
            granted_scope=tokens.scope,
            valid_for=tokens.lifetime,
        )
