"""The sessions that accounts have granted to clients, and their tokens."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect_bluesky.sandbox.clock import Clock
from prefect_bluesky.sandbox.oauth.clients import Client
from prefect_bluesky.sandbox.oauth.refusals import invalid_grant, invalid_proof, invalid_token
from prefect_bluesky.sandbox.oauth.requests import Bound, malformed
from prefect_bluesky.sandbox.tokens import Tokens

ACCESS = 60 * 60
"""Seconds of an access token (oauth-provider 0.22.9, as all numbers here)."""

_TWO_WEEKS = 14 * 86_400
_TWO_YEARS = 2 * 365.25 * 86_400
_THREE_MONTHS = 365.25 / 4 * 86_400
_REFRESH = re.compile(r"ref-[0-9a-f]{64}")


@dataclass
class GrantedSession:
    """A session. Neither `repr` nor `str` shows its tokens.

    Attributes:
        did: the account.
        bound: who may refresh and revoke.
        scope: what is allowed.
        created_at: when it was granted, in seconds since 1970.
        updated_at: when it was refreshed last.
        token_id: the name of its access token. An earlier token is dead.
        refresh_token: the token for the next refresh; None if the client may not refresh.
        code: the code that it came from.
    """

    did: str
    bound: Bound
    scope: str
    created_at: float
    updated_at: float
    token_id: str = field(default="", repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    used: set[str] = field(default_factory=set, repr=False)
    code: str | None = field(default=None, repr=False)


class Grants:
    """All sessions. Not thread-safe: the caller holds the sandbox's lock."""

    def __init__(self, clock: Clock, tokens: Tokens, issuer: str) -> None:
        self._clock = clock
        self._tokens = tokens
        self._issuer = issuer
        self._sessions: list[GrantedSession] = []

    def open(self, did: str, client: Client, bound: Bound, scope: str, code: str | None = None) -> dict[str, Any]:
        """Begin a session. Return its tokens, as the token endpoint answers them."""
        now = self._clock.now()
        session = GrantedSession(did, bound, scope, now, now, code=code)
        self._sessions.append(session)
        return self._new_tokens(session, client)

    def refresh(self, refresh_token: str, client: Client, bound: Bound) -> dict[str, Any]:
        """Trade a refresh token for new tokens. Who may not do that ends the session.

        Raises:
            Refusal: 400. The token is malformed, unknown, used or too old, or the session belongs to another client or
                key.
        """
        if not _REFRESH.fullmatch(refresh_token):
            message = malformed(refresh_token, "refresh_token", "refresh token")
            raise invalid_grant(f"Invalid refresh token: {message}")
        session = self._of_refresh_token(refresh_token)
        if session is None:
            raise invalid_grant("Invalid refresh token")
        # Whatever goes wrong from here on, the session is over, unless it is put back.
        self._sessions.remove(session)
        if session.refresh_token != refresh_token:
            raise invalid_grant("Refresh token replayed")
        session.bound.refuse_other(bound)
        now = self._clock.now()
        if now - session.created_at > _lifetime_of(client):
            raise invalid_grant("Session expired")
        if now - session.updated_at > (_THREE_MONTHS if client.is_confidential else _TWO_WEEKS):
            raise invalid_grant("Refresh token expired")
        self._sessions.append(session)
        session.updated_at = now
        session.used.add(refresh_token)
        return self._new_tokens(session, client)

    def revoke(self, token: str, bound: Bound) -> None:
        """End the session of an access token or a refresh token, used or not.

        Raises:
            Refusal: 400. The session belongs to another client or key.
        """
        signed = self._tokens.signed_parts(token)
        found = self._of_token_id(str(signed[1].get("jti"))) if signed else self._of_refresh_token(token)
        if found is not None:
            found.bound.refuse_other(bound)
            self._sessions.remove(found)

    def replay(self, code: str) -> None:
        """End the session that a code has given, as the code came again."""
        self._keep(lambda session: session.code != code)

    def end(self, did: str) -> None:
        """End all sessions of an account."""
        self._keep(lambda session: session.did != did)

    def session(self, access_token: str, proof_key: str | None) -> GrantedSession:
        """Return the session of an access token that comes with a proof.

        Raises:
            Refusal: 401. The token is bad, expired or dead, or the proof is missing or of another key.
        """
        claims = self._claims(access_token)
        if proof_key is None:
            raise invalid_proof("DPoP proof required")
        if claims["cnf"]["jkt"] != proof_key:
            raise invalid_token("Invalid DPoP key binding")
        session = self._of_token_id(claims["jti"])
        if session is None:
            raise invalid_token("Invalid token")
        return session

    def _claims(self, access_token: str) -> Mapping[str, Any]:
        if access_token.count(".") != 2:
            raise invalid_token("Malformed token")
        parts = self._tokens.signed_parts(access_token)
        if parts is None:
            raise invalid_token("signature verification failed")
        header, claims = parts
        if header.get("typ") != "at+jwt":
            raise invalid_token('unexpected "typ" JWT header value')
        if "iss" not in claims:
            raise invalid_token('missing required "iss" claim')
        if claims["exp"] <= int(self._clock.now()):
            raise invalid_token('"exp" claim timestamp check failed')
        return claims

    def _new_tokens(self, session: GrantedSession, client: Client) -> dict[str, Any]:
        now = int(self._clock.now())
        # No token outlives its session.
        lifetime = int(min(ACCESS, session.created_at + _lifetime_of(client) - now))
        session.token_id = f"tok-{secrets.token_hex(16)}"
        session.refresh_token = f"ref-{secrets.token_hex(32)}" if client.may("refresh_token") else None
        claims = {
            "jti": session.token_id,
            "sub": session.did,
            "iat": now,
            "exp": now + lifetime,
            "aud": self._tokens.service_did,
            "cnf": {"jkt": session.bound.proof_key},
            "client_id": client.client_id,
            "iss": self._issuer,
        }
        answer = {
            "access_token": self._tokens.sign("at+jwt", claims),
            "token_type": "DPoP",
            "refresh_token": session.refresh_token,
            "scope": session.scope,
            "expires_in": lifetime - 1,
            "sub": session.did,
        }
        return {name: value for name, value in answer.items() if value is not None}

    def _of_refresh_token(self, token: str) -> GrantedSession | None:
        return next((each for each in self._sessions if token == each.refresh_token or token in each.used), None)

    def _of_token_id(self, token_id: str) -> GrantedSession | None:
        return next((each for each in self._sessions if each.token_id == token_id), None)

    def _keep(self, which: Callable[[GrantedSession], bool]) -> None:
        self._sessions = [session for session in self._sessions if which(session)]


def _lifetime_of(client: Client) -> float:
    """Return the seconds of a client's sessions."""
    return _TWO_YEARS if client.is_confidential else _TWO_WEEKS
