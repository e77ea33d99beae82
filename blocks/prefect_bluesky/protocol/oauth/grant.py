"""A grant: a person is asked for it with a link, and gives it in a browser, which may be on another machine."""

from __future__ import annotations

import hmac
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode, urlsplit

from prefect_bluesky.errors import BlueskyError, InvalidInput, ServiceUnavailable
from prefect_bluesky.protocol.oauth.client import Client
from prefect_bluesky.protocol.oauth.keys import SigningKey, digest
from prefect_bluesky.protocol.oauth.server import AuthorizationServer
from prefect_bluesky.protocol.oauth.tokens import Tokens, revoke

_AGAIN = "Ask for a new link."


@dataclass(frozen=True)
class AskedGrant:
    """A grant that a person was asked for. The link is good for five minutes (measured on @atproto/pds 0.5.35).

    Attributes:
        link: where the person consents.
        key: the key that the tokens will be bound to.
    """

    link: str
    server: AuthorizationServer
    client: Client
    did: str
    key: SigningKey = field(repr=False)
    _state: str = field(repr=False)
    _verifier: str = field(repr=False)

    def take(self, address: str) -> Tokens:
        """Return the tokens for the address at which the person's browser ended.

        Raises:
            InvalidInput: this is not that address, or the person did not consent; the message says what to do.
            RequestRefused, ServiceUnavailable, RateLimited: as `AuthorizationServer.request`. The link is used up.
        """
        found = dict(parse_qsl(urlsplit(address.strip()).query))
        if "state" not in found or "iss" not in found:
            what = "this is not the address at which the browser ended after the consent."
            raise InvalidInput("address", what, "Copy all of it, from https:// or http:// on, with what follows the ?.")
        if not hmac.compare_digest(found["state"].encode(), self._state.encode()):
            raise InvalidInput("address", "it belongs to another link.", "Use the link that was shown last.")
        if found["iss"] != self.server.issuer:
            raise InvalidInput("address", f"it comes from {found['iss'][:100]}, which was not asked.", _AGAIN)
        if "code" not in found:
            why = found.get("error_description") or found.get("error") or "there is no code in it"
            raise InvalidInput("address", f"the account's server gave no grant: {why[:200].rstrip('.')}.", _AGAIN)
        form = {
            "grant_type": "authorization_code",
            "code": found["code"],
            "redirect_uri": self.client.redirect_uri,
            "code_verifier": self._verifier,
        }
        tokens = Tokens.of(self.server.request(self.server.token_url, self.client, self.key, form), self.server)
        if tokens.did != self.did:
            self.give_back(tokens)
            what = f"another account has consented: {tokens.did}."
            raise InvalidInput("address", what, f"Sign in as {self.did} on the page of the link. {_AGAIN}")
        return tokens

    def give_back(self, tokens: Tokens) -> None:
        """End a session that is not kept, as far as the server can be asked. Nobody has its tokens."""
        with suppress(BlueskyError):
            revoke(self.server, self.client, self.key, tokens.refresh_token)


def ask_for_grant(server: AuthorizationServer, client: Client, scope: str, *, did: str, handle: str = "") -> AskedGrant:
    """Ask for a grant, and return it with its link.

    Args:
        server: the authorization server of the account's PDS.
        client: who asks.
        scope: what is asked for.
        did: the account.
        handle: the account's handle, which the page then shows.

    Raises: as `AuthorizationServer.request`.
    """
    # A server takes a challenge only once.
    key, state, verifier = SigningKey.new(), secrets.token_urlsafe(24), secrets.token_urlsafe(48)
    form = {
        "response_type": "code",
        "redirect_uri": client.redirect_uri,
        "scope": scope,
        "state": state,
        "login_hint": handle or did,
        "code_challenge": digest(verifier),
        "code_challenge_method": "S256",
    }
    answer = server.request(server.par_url, client, key, form)
    uri = answer.get("request_uri")
    if not isinstance(uri, str):
        raise ServiceUnavailable(server.issuer, "oauth/par", HTTPStatus.CREATED, message="no request_uri")
    link = f"{server.authorize_url}?{urlencode({'client_id': client.client_id, 'request_uri': uri})}"
    return AskedGrant(link, server, client, did, key, state, verifier)
