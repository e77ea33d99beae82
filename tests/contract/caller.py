"""An account on a PDS, and how it calls that PDS by hand."""

import base64
import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support import LOGIN, WRITE, Account, Pds

CREATE = "com.atproto.repo.createRecord"
UPLOAD = "com.atproto.repo.uploadBlob"
POST = "app.bsky.feed.post"
OK = (200, None, None)


@dataclass
class Caller:
    """An account and its calls to its PDS."""

    pds: Pds
    account: Account
    session: dict[str, Any]

    def post(self, method: str, body: Any = None, *, auth: str | None = "", **options: Any) -> httpx.Response:
        """Call a procedure; with the session's access token unless told otherwise."""
        header = f"Bearer {self.session['accessJwt']}" if auth == "" else auth
        headers = {**options.pop("headers", {}), **({} if header is None else {"Authorization": header})}
        url = f"{self.pds.url}/xrpc/{method}"
        # verify=False: there is no TLS here, and reading the certificates would take most of the time.
        return httpx.post(url, json=body, headers=headers, timeout=30, verify=False, **options)

    def get(self, method: str, *, auth: str | None = None, **params: str) -> httpx.Response:
        """Call a query."""
        headers = {} if auth is None else {"Authorization": auth}
        url = f"{self.pds.url}/xrpc/{method}"
        return httpx.get(url, params=params, headers=headers, timeout=30, verify=False)

    def upload(self, content: bytes, content_type: str, *, auth: str | None = "") -> httpx.Response:
        """Upload a blob."""
        return self.post(UPLOAD, auth=auth, content=content, headers={"Content-Type": content_type})

    def log_in(self, identifier: str | None = None, password: str | None = None) -> httpx.Response:
        """Log in, with the account's own handle and app password unless told otherwise."""
        body = {"identifier": self.account.handle, "password": self.account.app_password}
        given = {"identifier": identifier, "password": password}
        return self.post(
            LOGIN, {**body, **{key: value for key, value in given.items() if value is not None}}, auth=None
        )

    def create(self, record: dict[str, Any], rkey: str | None = None, **options: Any) -> httpx.Response:
        """Create a post with these fields."""
        sound = {"$type": POST, "text": "hello", "createdAt": "2026-11-22T10:00:00Z"}
        record = {key: value for key, value in {**sound, **record}.items() if value is not ...}
        body = {"repo": self.account.did, "collection": POST, "record": record, **({"rkey": rkey} if rkey else {})}
        return self.post(CREATE, body, **options)

    def write(self, *rkeys: str, text: str = "hello") -> httpx.Response:
        """Create several posts at once."""
        value = {"$type": POST, "text": text, "createdAt": "2026-11-22T10:00:00Z"}
        kind = "com.atproto.repo.applyWrites#create"
        creates = [{"$type": kind, "collection": POST, "rkey": rkey, "value": value} for rkey in rkeys]
        return self.post(WRITE, {"repo": self.account.did, "writes": creates})

    def token(self, kind: str = "access", **claims: Any) -> str:
        """A header with a token that the PDS has signed."""
        return "Bearer " + self.pds.mint(self.account, kind, **claims)


def fresh_caller(pds: Pds) -> Caller:
    """An account that has logged in."""
    account = pds.create_account()
    caller = Caller(pds, account, {})
    caller.session = caller.log_in().json()
    return caller


def said(response: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, error and message of an answer."""
    content = response.json() if response.content else {}
    return response.status_code, content.get("error"), content.get("message")


def claims(token: str) -> dict[str, Any]:
    """Return the claims of a token."""
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found
