"""Tokens: what they are, and how they are refreshed and revoked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Self

from prefect_bluesky.errors import ServiceUnavailable
from prefect_bluesky.protocol.oauth.client import Client
from prefect_bluesky.protocol.oauth.keys import SigningKey
from prefect_bluesky.protocol.oauth.server import AuthorizationServer

# What a header may hold (RFC 6750). httpx prints an invalid header together with the token.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True)
class Tokens:
    """The tokens of a session. Neither `repr` nor `str` shows them.

    Attributes:
        did: whose they are.
        scope: what they allow. A server leaves out what it does not know, without a word.
        lifetime: the lifetime of the access token.
    """

    did: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    scope: str
    lifetime: timedelta

    @classmethod
    def of(cls, answer: Mapping[str, Any], server: AuthorizationServer) -> Self:
        """Return the tokens in an answer. Raise `ServiceUnavailable` if there are none."""
        did, scope, lifetime = answer.get("sub"), answer.get("scope"), answer.get("expires_in")
        tokens = answer.get("access_token"), answer.get("refresh_token")
        is_bound = str(answer.get("token_type")).lower() == "dpop"
        if is_bound and isinstance(lifetime, int) and all(isinstance(each, str) for each in (did, scope, *tokens)):
            access_token, refresh_token = map(str, tokens)
            if _TOKEN.fullmatch(access_token) and _TOKEN.fullmatch(refresh_token) and 0 < lifetime < 10**9:
                return cls(str(did), access_token, refresh_token, str(scope), timedelta(seconds=lifetime))
        raise ServiceUnavailable(server.issuer, "oauth/token", HTTPStatus.OK, message="no tokens of a session")


def refresh(server: AuthorizationServer, client: Client, key: SigningKey, refresh_token: str) -> Tokens:
    """Trade a refresh token for new tokens. The old access token is dead at once.

    A refresh token is good once. A server that sees one again ends the session, the new tokens too. So the caller holds
    the account's lock, and never sends a token again of which it does not know that it was not spent.

    Raises: as `AuthorizationServer.request`.
    """
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return Tokens.of(server.request(server.token_url, client, key, form), server)


def revoke(server: AuthorizationServer, client: Client, key: SigningKey, refresh_token: str) -> None:
    """End a session. A server answers alike if there was none, or the key is another's (@atproto/pds 0.5.35).

    Raises: as `AuthorizationServer.request`.
    """
    server.request(server.revoke_url, client, key, {"token": refresh_token})
