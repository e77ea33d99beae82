"""A client of OAuth that makes each part of its requests by hand, so that any part can be wrong."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from prefect_bluesky.protocol.oauth import AuthorizationServer, Client, SigningKey
from prefect_bluesky.protocol.oauth.keys import digest
from tests.contract.granted import publish
from tests.contract.hosts import Host
from tests.support import Account, Pds

SCOPE = "atproto repo:app.bsky.feed.post?action=create"
PAR, TOKEN, REVOKE = "oauth/par", "oauth/token", "oauth/revoke"
SESSION = "com.atproto.server.getSession"
ALGORITHMS = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES256K ES384 ES512"
BY_KEY = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Answer = tuple[int, str | None, str | None]


class OAuthCaller:
    """A client, an account, and the account's granted session once there is one.

    Attributes:
        key: the key of the proofs.
        tokens: the latest answer of the token endpoint.
    """

    def __init__(self, pds: Pds, host: Host | None = None, scope: str = SCOPE) -> None:
        self.pds, self.scope = pds, scope
        self.account: Account = pds.create_account()
        self.url = AuthorizationServer.of(pds.url).issuer
        self.key = SigningKey.new()
        self.client = Client.hosted(host.url, SigningKey.new()) if host else Client.loopback(scope)
        if host:
            publish(self.client, host, scope)
        self.tokens: dict[str, Any] = {}
        self.verifier = ""
        self.nonce = self.post(PAR, {}).headers["dpop-nonce"]

    def proof(
        self,
        verb: str,
        path: str,
        *,
        key: SigningKey | None = None,
        signer: SigningKey | None = None,
        header: Mapping[str, Any] | None = None,
        ago: int = 0,
        **claims: Any,
    ) -> str:
        """A proof; a claim or a part of the header that is None is left out."""
        key = key or self.key
        usual: dict[str, Any] = {"jti": secrets.token_urlsafe(16), "htm": verb, "htu": f"{self.url}/{path}"}
        usual |= {"iat": int(time.time()) - ago, "nonce": self.nonce, **claims}
        parts = {"typ": "dpop+jwt", "jwk": key.public, **(header or {})}
        return (signer or key).sign(_without_none(parts), _without_none(usual))

    def assertion(
        self, *, key: SigningKey | None = None, kid: str | None = "", ago: int = 0, **claims: Any
    ) -> dict[str, Any]:
        """What shows who the client is; a claim that is None is left out."""
        assert self.client.key
        key, now = key or self.client.key, int(time.time()) - ago
        usual = {"iss": self.client.client_id, "sub": self.client.client_id, "aud": self.url, "iat": now}
        usual |= {"jti": secrets.token_urlsafe(16), "exp": now + 60, **claims}
        header = _without_none({"kid": key.thumbprint if kid == "" else kid})
        return {"client_assertion_type": BY_KEY, "client_assertion": key.sign(header, _without_none(usual))}

    def post(self, endpoint: str, form: Mapping[str, Any], proof: str | None = None) -> httpx.Response:
        """Send a form as it is, with a proof or without one."""
        headers = {} if proof is None else {"DPoP": proof}
        body = urlencode(_without_none(form)).encode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return httpx.post(f"{self.pds.url}/{endpoint}", content=body, headers=headers, timeout=60, trust_env=False)

    def ask(self, endpoint: str, form: Mapping[str, Any], how: Mapping[str, Any] | None = None) -> httpx.Response:
        """Send a form with what else it needs; `how` is for the proof, or has it as `dpop`."""
        own = self.assertion() if self.client.key else {}
        how = dict(how or {})
        proof = how["dpop"] if "dpop" in how else self.proof("POST", endpoint, **how)
        return self.post(endpoint, {"client_id": self.client.client_id, **own, **form}, proof)

    def push(self, form: Mapping[str, Any] | None = None, how: Mapping[str, Any] | None = None) -> httpx.Response:
        """Ask for a grant; the members of `form` are other ones than usual, or left out."""
        self.verifier = secrets.token_urlsafe(48)
        usual = {"response_type": "code", "redirect_uri": self.client.redirect_uri, "scope": self.scope, "state": "st"}
        usual |= {"code_challenge": digest(self.verifier), "code_challenge_method": "S256"}
        return self.ask(PAR, {**usual, **(form or {})}, how)

    def link(self, form: Mapping[str, Any] | None = None) -> str:
        """A link for the account's owner; `form` as in `push`."""
        uri = self.push(form).json()["request_uri"]
        return f"{self.url}/oauth/authorize?{urlencode({'client_id': self.client.client_id, 'request_uri': uri})}"

    def code(self, form: Mapping[str, Any] | None = None) -> str:
        """A code, by the owner's consent; `form` as in `push`."""
        return ended_at(self.pds.consent(self.account, self.link(form)))["code"]

    def trade(
        self, code: str, form: Mapping[str, Any] | None = None, how: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """Trade a code for tokens, and keep these."""
        usual = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.client.redirect_uri}
        return self._kept(self.ask(TOKEN, {**usual, "code_verifier": self.verifier, **(form or {})}, how))

    def sign_in(self) -> None:
        """Have a session."""
        self.trade(self.code()).raise_for_status()

    def refresh(self, form: Mapping[str, Any] | None = None, how: Mapping[str, Any] | None = None) -> httpx.Response:
        """Trade the refresh token for tokens, and keep these."""
        usual = {"grant_type": "refresh_token", "refresh_token": self.tokens["refresh_token"]}
        return self._kept(self.ask(TOKEN, {**usual, **(form or {})}, how))

    def revoke(self, form: Mapping[str, Any] | None = None, how: Mapping[str, Any] | None = None) -> httpx.Response:
        """End the session."""
        return self.ask(REVOKE, {"token": self.tokens["refresh_token"], **(form or {})}, how)

    def call(
        self,
        nsid: str = SESSION,
        *,
        token: str | None = None,
        scheme: str = "DPoP",
        dpop: str | None = "",
        headers: Mapping[str, str] | None = None,
        **how: Any,
    ) -> httpx.Response:
        """Call a method: one with `json` or `content` is a procedure; what else is in `how` is for the proof."""
        sent = {name: how.pop(name) for name in ("json", "content", "params") if name in how}
        verb = "POST" if sent.keys() & {"json", "content"} else "GET"
        token = self.tokens["access_token"] if token is None else token
        if dpop == "":
            dpop = self.proof(verb, f"xrpc/{nsid}", **{"ath": digest(token), **how})
        own = {"Authorization": f"{scheme} {token}"} | ({} if dpop is None else {"DPoP": dpop})
        url = f"{self.pds.url}/xrpc/{nsid}"
        return httpx.request(verb, url, headers=own | dict(headers or {}), timeout=60, trust_env=False, **sent)

    def write(self, *writes: tuple[str, str], repo: str | None = None) -> httpx.Response:
        """Create, update or delete records, as (action, collection)."""
        made = [self._write(action, collection) for action, collection in writes]
        return self.call("com.atproto.repo.applyWrites", json={"repo": repo or self.account.did, "writes": made})

    def _write(self, action: str, collection: str) -> dict[str, Any]:
        value = {"$type": collection, "text": "x", "createdAt": "2026-01-01T00:00:00Z"}
        rest: dict[str, Any] = {"rkey": "3kaaaaaaaaaaa"} if action != "create" else {}
        rest |= {"value": value} if action != "delete" else {}
        return {"$type": f"com.atproto.repo.applyWrites#{action}", "collection": collection, **rest}

    def _kept(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            self.tokens = cast(dict[str, Any], answer.json())
        return answer


def said(answer: httpx.Response) -> Answer:
    """Status, error and description of an answer. The challenge in its header must say the same."""
    content = answer.json() if answer.content else {}
    error, description = content.get("error"), content.get("error_description", content.get("message"))
    challenge = answer.headers.get("www-authenticate")
    if challenge is not None:
        # A PDS leaves out what contains quotes.
        rest = "" if '"' in str(description) else f', error_description="{description}"'
        assert challenge == f'DPoP algs="{ALGORITHMS}", error="{error}"{rest}'
    return answer.status_code, error, description


def ended_at(address: str) -> dict[str, str]:
    """What a browser has brought to the address where it ended."""
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def _without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
