"""A session by OAuth on a PDS: one without the package's own keeping of sessions, and one that it keeps."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx

from prefect_bluesky import BlueskyCredentials
from prefect_bluesky.protocol.oauth import AuthorizationServer, Client, SigningKey, Tokens, ask_for_grant, learn, proof
from prefect_bluesky.protocol.oauth import refresh as refresh_tokens
from prefect_bluesky.protocol.oauth import revoke as revoke_session
from prefect_bluesky.sessions import Session
from prefect_bluesky.sessions.granted_session import GrantedSession
from tests.contract.hosts import Host
from tests.pds.client_host import DOCUMENT
from tests.support import Account, Pds

POST = "app.bsky.feed.post"


def hosted(host: Host, scope: str, *others: SigningKey) -> Client:
    """Make a confidential client, and put its document on a host; `others` are keys that the document has too."""
    client = Client.hosted(host.url, SigningKey.new())
    publish(client, host, scope, *others)
    return client


def publish(client: Client, host: Host, scope: str, *others: SigningKey) -> None:
    """Put a client's document on a host, in place of an earlier one."""
    host.put(DOCUMENT, json.dumps(client.document(scope, others=others)).encode())


def let_token_expire(credentials: BlueskyCredentials, pds: Pds) -> None:
    """Let the access token in the store be one that the server refuses, as it has expired."""
    store = credentials.session_store()
    saved = store.load()
    assert saved
    assert saved.document.session
    expired = replace(saved.document.session, access_token=pds.expire(saved.document.session.access_token))
    store.save(replace(saved.document, session=expired), saved)


@dataclass
class Granted:
    """A session that a person has granted.

    Attributes:
        tokens: the latest tokens.
    """

    pds: Pds
    account: Account
    server: AuthorizationServer
    client: Client
    key: SigningKey
    tokens: Tokens

    @classmethod
    def to(cls, client: Client, scope: str, pds: Pds, account: Account) -> Granted:
        """Ask for a grant, which the account's person gives."""
        server = AuthorizationServer.of(pds.url)
        asked = ask_for_grant(server, client, scope, did=account.did, handle=account.handle)
        return cls(pds, account, server, client, asked.key, asked.take(pds.consent(account, asked.link)))

    @classmethod
    def copied(cls, pds: Pds, account: Account, session: Session | None) -> Granted:
        """Return a stored session as somebody has it who does not use this package. It is not refreshed."""
        assert isinstance(session, GrantedSession)
        tokens = Tokens(account.did, session.access_token, session.refresh_token, session.scope, session.lifetime)
        client = Client(session.client_id, "")
        return cls(pds, account, AuthorizationServer.of(pds.url), client, session.key, tokens)

    @property
    def session(self) -> GrantedSession:
        """The session as it is stored."""
        assert self.client.key
        return GrantedSession(
            did=self.account.did,
            handle=self.account.handle,
            pds_url=self.pds.url,
            access_token=self.tokens.access_token,
            refresh_token=self.tokens.refresh_token,
            received_at=datetime.now(UTC),
            issuer=self.server.issuer,
            client_id=self.client.client_id,
            client_key=self.client.key.thumbprint,
            key=self.key,
            granted_scope=self.tokens.scope,
            valid_for=self.tokens.lifetime,
            granted_at=datetime.now(UTC),
        )

    def refresh(self) -> None:
        """Trade the refresh token for new tokens."""
        self.tokens = refresh_tokens(self.server, self.client, self.key, self.tokens.refresh_token)

    def revoke(self) -> None:
        """End the session."""
        revoke_session(self.server, self.client, self.key, self.tokens.refresh_token)

    def write(self, action: str, collection: str = POST, **others: Any) -> httpx.Response:
        """Create, update or delete one record by applyWrites."""
        write = {"$type": f"com.atproto.repo.applyWrites#{action}", "collection": collection, **others}
        return self.call("com.atproto.repo.applyWrites", json={"repo": self.account.did, "writes": [write]})

    def post(self, text: str) -> httpx.Response:
        """Create one post."""
        return self.write("create", value={"$type": POST, "text": text, "createdAt": "2026-01-01T00:00:00Z"})

    def call(self, method: str, **how: Any) -> httpx.Response:
        """Call a procedure with a proof; once more if the server has told its nonce or its time."""
        url = f"{self.server.issuer}/xrpc/{method}"
        more = how.pop("headers", {})
        for _ in range(2):
            access_token = self.tokens.access_token
            sent = proof(self.key, "POST", url, access_token)
            signed = {"Authorization": f"DPoP {access_token}", "DPoP": sent}
            answer = httpx.post(url, headers=signed | more, trust_env=False, **how)
            is_news = learn(url, answer.headers, sent)
            if not (is_news and answer.is_error and answer.json()["error"] in {"use_dpop_nonce", "invalid_dpop_proof"}):
                break
        return answer
