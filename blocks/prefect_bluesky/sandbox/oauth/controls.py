"""What a test can do to clients and grants of a sandbox."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from cryptography.hazmat.primitives.asymmetric import ec

from prefect_bluesky.sandbox.accounts import Account, Holder
from prefect_bluesky.sandbox.oauth.jwts import private_jwk, thumbprint
from prefect_bluesky.sandbox.oauth.requests import Bound
from prefect_bluesky.sandbox.oauth.scopes import POSTING, understood
from prefect_bluesky.sandbox.service import Service

_REDIRECT = "http://127.0.0.1/callback"
_DAY = 86_400


@dataclass(frozen=True)
class Grant:
    """A session that an account's owner has granted. `repr()` and `str()` show neither its tokens nor its key.

    Attributes:
        did: the account's DID.
        client_id: the client, a public one on loopback.
        scope: what is allowed.
        access_token: the token for calls: `Authorization: DPoP ...`.
        refresh_token: the token for the next tokens. It is good once.
        key: the private key of the proofs in the header `DPoP`: a JWK for ES256, as text.
    """

    did: str
    client_id: str
    scope: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    key: str = field(repr=False)


class GrantControls:
    """The part of `Sandbox` that is about OAuth."""

    def __init__(self, url: str, service: Service) -> None:
        self.url = url
        self._service = service

    def host_client(self, document: Mapping[str, Any]) -> None:
        """Let the sandbox find the document of an OAuth client, in place of an earlier one of this client.

        A client on loopback (`http://localhost?...`) needs no document.

        Args:
            document: the JSON that the client has on the web, at its `client_id`.

        Raises:
            ValueError: the `client_id` is no https:// address.
        """
        with self._service.lock:
            self._service.clients.host(document)

    def remove_client(self, client_id: str) -> None:
        """Let the document of a client be out of reach, as if the client's host were down.

        A real PDS remembers a document for ten minutes; a sandbox does not.

        Raises:
            LookupError: there is no such document (any more).
        """
        with self._service.lock:
            self._service.clients.remove(client_id)

    def consent(self, account: Account, link: str) -> str:
        """Let the account's owner open a link, sign in and consent. Return the address where the browser ends.

        Args:
            account: who consents.
            link: the address to which the client sends the owner.

        Raises:
            ValueError: this is no link for a consent on this sandbox, or the account was taken down.
            LookupError: there is no such account, or no such request for a grant (any more).

        Example:
            >>> from prefect_bluesky import BlueskyOAuthClient
            >>> client = BlueskyOAuthClient()
            >>> credentials = BlueskyCredentials(handle=alice.handle, service_url=pds.url, oauth_client=client)
            >>> visit = credentials.visit()
            >>> session = visit.take(pds.consent(alice, visit.link()))
        """
        uri, client_id = self._asked(link)
        with self._service.lock:
            holder = self._holder(account)
            if holder.taken_down:
                raise ValueError(f"account: {account.handle} was taken down, so nobody can sign in.")
            return self._service.grant_requests.consent(uri, client_id, holder)

    def refuse(self, link: str) -> str:
        """Let an account's owner open a link and refuse. Return the address where the browser ends.

        Raises:
            ValueError: this is no link for a consent on this sandbox.
            LookupError: there is no such request for a grant (any more).
        """
        uri, client_id = self._asked(link)
        with self._service.lock:
            return self._service.grant_requests.refuse(uri, client_id)

    def grant(self, account: Account, scopes: str = POSTING) -> Grant:
        """Return a granted session, for a test that signs its own calls.

        Args:
            account: who grants.
            scopes: what is granted, in the AT Protocol's syntax with spaces; by default to post, and nothing else.

        Raises:
            ValueError: `atproto` is missing, or a PDS does not understand a scope.
            LookupError: there is no such account (any more).

        Example:
            >>> grant = pds.grant(alice, "atproto repo:app.bsky.feed.post?action=create")
        """
        unknown = [each for each in scopes.split(" ") if each not in understood(scopes).split(" ")]
        if unknown or "atproto" not in scopes.split(" "):
            what = f"{unknown[0]!r} is no scope that a PDS understands." if unknown else "atproto is missing."
            raise ValueError(f"scopes: {what} Write them like {POSTING!r}.")
        key = private_jwk(ec.generate_private_key(ec.SECP256R1()))
        client_id = f"http://localhost?{urlencode({'redirect_uri': _REDIRECT, 'scope': scopes})}"
        with self._service.lock:
            client = self._service.clients.find(client_id)
            bound = Bound(client_id, None, thumbprint(key))
            given = self._service.grants.open(self._holder(account).did, client, bound, scopes)
        return Grant(account.did, client_id, scopes, given["access_token"], given["refresh_token"], json.dumps(key))

    def end_grants(self, account: Account) -> None:
        """Let the account's owner revoke all grants, as in the account's settings.

        Raises:
            LookupError: there is no such account (any more).
        """
        with self._service.lock:
            self._service.grants.end(self._holder(account).did)

    def expire(self, access_token: str) -> str:
        """Return the access token of a grant as the sandbox would see it a day later, when it has expired.

        Raises:
            ValueError: this is no access token of this sandbox.
        """
        parts = self._service.tokens.signed_parts(access_token)
        if parts is None:
            raise ValueError("access_token: the sandbox has not signed it.")
        claims = parts[1]
        earlier = {name: claims[name] - _DAY for name in ("iat", "exp")}
        return self._service.tokens.sign("at+jwt", {**claims, **earlier})

    def _asked(self, link: str) -> tuple[str, str]:
        """Return the name of the request in a link, and the client."""
        page, _, query = link.partition("?")
        asked = dict(parse_qsl(query))
        if page != f"{self.url}/oauth/authorize" or not asked.keys() >= {"request_uri", "client_id"}:
            raise ValueError(f"link: this is no link of a client for the owner of an account on {self.url}.")
        return asked["request_uri"], asked["client_id"]

    def _holder(self, account: Account) -> Holder:
        holder = self._service.accounts.find(account.did)
        if holder is None:
            raise LookupError(f"account: the sandbox has no account {account.handle}. The account may be deleted.")
        return holder
