"""Boots a real Bluesky PDS on loopback, for the contract tests.

    with run() as pds:
        account = pds.create_account()
        ...  # log in at pds.url as account.handle with account.app_password
        assert [request.status for request in pds.requests("com.atproto.server.createSession")] == [200]

`RealPds` has the interface of the package's own sandbox: a contract test takes either.
"""

import base64
import hmac
import json
import os
import secrets
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx

from .consent import Person, consent, refuse
from .install import PdsUnavailable, installed, node

__all__ = ["Account", "PdsUnavailable", "RealPds", "Request", "installed", "run"]

BOOT_TIMEOUT = 120.0
STOP_TIMEOUT = 10.0
REQUEST_TIMEOUT = 60.0

_HERE = Path(__file__).parent
_POST = "app.bsky.feed.post"


@dataclass(frozen=True)
class Account:
    """An account on the PDS, with the passwords that it was made with."""

    did: str
    handle: str
    password: str = field(repr=False)
    app_password: str = field(repr=False)


@dataclass(frozen=True)
class Request:
    """One request that the PDS has done with, of XRPC or of OAuth (such as `oauth/token`).

    Its status is None if the client went away before there was an answer.
    `said` is the reason that an OAuth endpoint gave for a refusal.
    """

    nsid: str
    method: str
    status: int | None
    said: str | None = field(default=None, compare=False)
    heard_at: float = field(default_factory=time.time, compare=False)


@contextmanager
def run(
    *, rate_limits: bool = False, did_doc: bool = False, own_did: bool = False, plc_url: str | None = None
) -> "Iterator[RealPds]":
    """Boot a PDS with nothing in it; when the context ends it is gone, with all that it stored.

    Args:
        rate_limits: whether it has the limits of a production server.
        did_doc: whether an answer about a session contains the DID document, as Bluesky's do.
        own_did: whether its DID names its port, so that no other PDS here takes its tokens.
        plc_url: the directory of DIDs, another PDS's; by default its own.
    """
    modules = installed()
    with tempfile.TemporaryDirectory(prefix="prefect-bluesky-pds-", ignore_cleanup_errors=True) as data:
        command = [str(node()), str(_HERE / "serve.mjs"), "--modules", str(modules), "--data", data]
        command += ["--rate-limits"] * rate_limits + ["--did-doc"] * did_doc + ["--own-did"] * own_did
        command += ["--plc", plc_url] if plc_url else []
        server = _Server(command)
        try:
            ready = server.wait_until_ready()
            # trust_env: a proxy that the environment asks for would not reach this loopback.
            with httpx.Client(base_url=ready["url"], timeout=REQUEST_TIMEOUT, trust_env=False) as http:
                yield RealPds(server, ready, http)
        finally:
            server.stop()


class RealPds:
    """A running PDS, and what a test may do to it behind the back of the code under test."""

    def __init__(self, server: "_Server", ready: dict[str, str], http: httpx.Client) -> None:
        """Take over a server that is up; `ready` is what it said about itself."""
        self.url = ready["url"]  # http://localhost:PORT: the name that the PDS gives itself, in DID documents too
        self.plc_url = ready["plcUrl"]
        self._server = server
        self._did = ready["did"]
        self._harness = ready["harnessUrl"]
        self._data = ready["dataDirectory"]
        self._jwt_secret = ready["jwtSecret"]
        self._admin = "Basic " + base64.b64encode(f"admin:{ready['adminPassword']}".encode()).decode()
        self._http = http
        # By this header the server knows the harness: such requests are neither listed nor rate limited.
        self._http.headers["x-ratelimit-bypass"] = ready["harnessKey"]
        self._app_password_names: dict[str, str] = {}

    def create_account(self, handle: str | None = None) -> Account:
        """Create an account with one app password."""
        handle = handle or f"user{secrets.token_hex(4)}.test"
        password = secrets.token_urlsafe()
        email = f"{handle.removesuffix('.test')}@example.com"
        made = self._post("com.atproto.server.createAccount", handle=handle, email=email, password=password)
        account = Account(made["did"], made["handle"], password, app_password="")
        return replace(account, app_password=self.create_app_password(account, "default"))

    def create_app_password(self, account: Account, name: str, privileged: bool = False) -> str:
        """Create one more app password."""
        made = self._post(
            "com.atproto.server.createAppPassword", self._owner(account), name=name, privileged=privileged
        )
        password: str = made["password"]
        self._app_password_names[password] = name
        return password

    def revoke_app_password(self, account: Account, password: str | None = None) -> None:
        """Revoke an app password that was made here: the account's first one unless told otherwise."""
        name = self._app_password_names[password or account.app_password]
        self._post("com.atproto.server.revokeAppPassword", self._owner(account), name=name)

    def change_password(self, account: Account, new: str) -> None:
        """Change the main password, which ends the account's refresh tokens."""
        self._post("com.atproto.admin.updateAccountPassword", self._admin, did=account.did, password=new)

    def deactivate(self, account: Account) -> None:
        """Deactivate the account, as its owner can."""
        self._set_status(account, deactivated={"applied": True})

    def take_down(self, account: Account) -> None:
        """Take the account down, as a moderator can."""
        self._set_status(account, takedown={"applied": True, "ref": "test"})

    def reinstate(self, account: Account) -> None:
        """Undo `take_down` and `deactivate`."""
        self._set_status(account, takedown={"applied": False}, deactivated={"applied": False})

    def move(self, account: Account, pds_url: str, key: str = "", rotation: Sequence[str] = ()) -> None:
        """Let the account's DID document name another PDS, and its keys. The account stays as it is here."""
        params = {"did": account.did, "pds": pds_url, "key": key, "rotation": list(rotation)}
        self._http.get(f"{self._harness}/move", params=params).raise_for_status()

    def adopt(self, account: Account, old: "RealPds") -> Account:
        """Take over an account from another PDS, with its records: https://atproto.com/guides/account-migration.

        The account stays active at its old PDS too, until somebody deactivates it there.
        """
        lxm = "com.atproto.server.createAccount"
        asked = {"aud": self._did, "lxm": lxm}
        headers = {"Authorization": old._owner(account)}
        token = _answer(lxm, old._http.get("/xrpc/com.atproto.server.getServiceAuth", params=asked, headers=headers))
        password = secrets.token_urlsafe()
        email = f"{account.handle.removesuffix('.test')}@example.com"
        self._post(
            lxm, f"Bearer {token['token']}", did=account.did, handle=account.handle, email=email, password=password
        )
        adopted = Account(account.did, account.handle, password, app_password="")
        headers = {"Authorization": self._owner(adopted)}
        car = old._http.get("/xrpc/com.atproto.sync.getRepo", params={"did": account.did}).content
        content = {"Content-Type": "application/vnd.ipld.car"}
        method = "com.atproto.repo.importRepo"
        _answer(method, self._http.post(f"/xrpc/{method}", content=car, headers=headers | content))
        method = "com.atproto.identity.getRecommendedDidCredentials"
        wanted = _answer(method, self._http.get(f"/xrpc/{method}", headers=headers))
        old.move(account, self.url, wanted["verificationMethods"]["atproto"], wanted["rotationKeys"])
        method = "com.atproto.server.activateAccount"
        _answer(method, self._http.post(f"/xrpc/{method}", headers=headers))
        return replace(adopted, app_password=self.create_app_password(adopted, "default"))

    def delete_account(self, account: Account) -> None:
        """Delete the account for good."""
        self._post("com.atproto.admin.deleteAccount", self._admin, did=account.did)

    def mint(
        self,
        account: Account,
        kind: Literal["access", "refresh"] = "access",
        expires_in: timedelta = timedelta(seconds=-1),
        **claims: object,
    ) -> str:
        """Return a token that the PDS takes for its own; by default one that has just expired.

        It has the claims of an app password's session, and the lifetime: it was issued that long before its end.
        `claims` replace these or come on top; one that is None is left out.
        A refresh token is unknown to the PDS, hence revoked in its eyes, unless `jti` names a real one.
        """
        expires_at = int(time.time() + expires_in.total_seconds())
        if kind == "access":
            lifetime, own = timedelta(hours=2), {"scope": "com.atproto.appPass"}
        else:
            lifetime, own = timedelta(days=90), {"scope": "com.atproto.refresh", "jti": secrets.token_urlsafe(32)}
        times = {"iat": expires_at - int(lifetime.total_seconds()), "exp": expires_at}
        header = {"typ": "at+jwt" if kind == "access" else "refresh+jwt", "alg": "HS256"}
        payload = own | {"aud": self._did, "sub": account.did} | times | claims
        payload = {name: value for name, value in payload.items() if value is not None}
        return self._sign(header, payload)

    def expire(self, access_token: str) -> str:
        """Return an OAuth access token as the PDS would see it a day later, when it has expired."""
        header, claims = (json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in access_token.split(".")[:2])
        day = int(timedelta(days=1).total_seconds())
        return self._sign(header, claims | {"iat": claims["iat"] - day, "exp": claims["exp"] - day})

    def consent(self, account: Person, link: str) -> str:
        """Let the account's owner sign in and consent. Return the address where the browser ends."""
        return consent(link, account)

    def refuse(self, link: str) -> str:
        """Let the account's owner refuse. Return the address where the browser ends."""
        return refuse(link)

    def know_client_host(self, name: str, port: int, certificate: str) -> None:
        """Let the PDS find a host of OAuth clients on loopback, by its name and with a certificate of its own."""
        host: dict[str, str | int] = {"name": name, "port": port, "certificate": certificate}
        self._http.get(f"{self._harness}/client-host", params=host).raise_for_status()

    def forget_client(self, url: str) -> None:
        """Let the PDS read a client's document again, which it otherwise does after ten minutes."""
        self._http.get(f"{self._harness}/forget-client", params={"url": url}).raise_for_status()

    def publish_lexicon(self, lexicon: dict[str, Any]) -> None:
        """Let a new account publish a lexicon, and be the authority for all lexicons."""
        account = self.create_account()
        record = {"$type": "com.atproto.lexicon.schema", **lexicon}
        about = {"repo": account.did, "collection": record["$type"], "rkey": lexicon["id"]}
        self._post("com.atproto.repo.putRecord", self._owner(account), **about, record=record)
        self._http.get(f"{self._harness}/lexicon-authority", params={"did": account.did}).raise_for_status()

    def age_grants(self, account: Account, days: int, *, unused: bool = False) -> None:
        """Let all grants of an account be older by some days; or let only their last refresh be so long ago."""
        columns = ["updatedAt"] if unused else ["createdAt", "updatedAt"]
        changes = ", ".join(f"{each} = strftime('%Y-%m-%dT%H:%M:%fZ', {each}, '-{days} days')" for each in columns)
        with closing(sqlite3.connect(Path(self._data) / "account.sqlite", timeout=REQUEST_TIMEOUT)) as database:
            database.execute(f"UPDATE token SET {changes} WHERE did = ?", [account.did])
            database.commit()

    @contextmanager
    def losing(self, header: str) -> Iterator[None]:
        """Let the answers to all requests lack a header, as if a proxy did not pass it on."""
        lose = partial(self._http.get, f"{self._harness}/lose-headers")
        lose(params={"name": header.lower()}).raise_for_status()
        try:
            yield
        finally:
            lose().raise_for_status()

    @contextmanager
    def trouble(
        self, path: str, kind: Literal["lost", "failing", "dropped"], times: int = 1
    ) -> Iterator[Callable[[], int]]:
        """Let something happen to the next requests to a path. Yield a function that says, at the end, to how many.

        Args:
            path: how the path begins, such as `/oauth/token`.
            kind: `lost`: the PDS hears nothing of the request. `failing`: the answer is a 500. `dropped`: the PDS
                carries the request out, and the connection ends in place of the answer.
            times: the number of requests.
        """
        struck = 0

        def arrange(**params: str | int) -> int:
            return int(self._http.get(f"{self._harness}/trouble", params=params).raise_for_status().text)

        arrange(path=path, kind=kind, times=times)
        try:
            yield lambda: struck
        finally:
            struck = arrange(times=0)

    def requests(self, nsid: str | None = None) -> list[Request]:
        """Return the requests that have ended by now, in that order, without the harness's own.

        A request that its client gave up has ended, though the PDS may still be at work on it.
        """
        # The server reports in order: once it reports this request, it has reported all that ended before.
        fence = secrets.token_hex(8)
        self._get("_health", fence=fence)
        return [request for request in self._server.log_up_to(fence) if nsid in (None, request.nsid)]

    def posts(self, account: Account) -> list[dict[str, Any]]:
        """Return the account's posts (uri, cid, value), oldest first.

        The PDS shows them of active accounts only: reinstate the account first.
        """
        posts: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self._get(
                "com.atproto.repo.listRecords", repo=account.did, collection=_POST, limit=100, reverse=True, **cursor
            )
            posts += page["records"]
            if "cursor" not in page:
                return posts
            cursor = {"cursor": page["cursor"]}

    def _set_status(self, account: Account, **status: dict[str, object]) -> None:
        subject = {"$type": "com.atproto.admin.defs#repoRef", "did": account.did}
        self._post("com.atproto.admin.updateSubjectStatus", self._admin, subject=subject, **status)

    def _owner(self, account: Account) -> str:
        # Minted, not logged in: a login takes 0.35 s, and would depend on what the test did to the password.
        return "Bearer " + self.mint(account, expires_in=timedelta(minutes=5), scope="com.atproto.access")

    def _sign(self, *parts: dict[str, Any]) -> str:
        signed = b".".join(_base64(json.dumps(part).encode()) for part in parts)
        signature = hmac.digest(self._jwt_secret.encode(), signed, "sha256")
        return b".".join((signed, _base64(signature))).decode()

    def _get(self, nsid: str, **parameters: str | int) -> dict[str, Any]:
        return _answer(nsid, self._http.get(f"/xrpc/{nsid}", params=parameters))

    def _post(self, nsid: str, authorization: str = "", /, **body: object) -> dict[str, Any]:
        headers = {"Authorization": authorization} if authorization else {}
        return _answer(nsid, self._http.post(f"/xrpc/{nsid}", json=body, headers=headers))


class _Server:
    """The process, and what it prints: that it is ready, and the requests that it answered."""

    def __init__(self, command: list[str]) -> None:
        # The server ends when its standard input closes, so this pipe ends it even if we get killed.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=os.environ | {"LOG_ENABLED": "false"},
        )
        self._changed = threading.Condition()
        self._ready: dict[str, str] = {}
        self._log: list[Request] = []
        self._fences: dict[str, int] = {}  # the fence's name: how long the log was when it came
        self._tail: deque[str] = deque(maxlen=20)
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="pds-output", daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> dict[str, str]:
        self._wait(lambda: bool(self._ready), BOOT_TIMEOUT, "did not start")
        return self._ready

    def log_up_to(self, fence: str) -> list[Request]:
        self._wait(lambda: fence in self._fences, REQUEST_TIMEOUT, "did not report its requests")
        return self._log[: self._fences.pop(fence)]

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _wait(self, condition: Callable[[], bool], timeout: float, failure: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._ended, timeout)
            if not condition():
                how = "and ended" if self._ended else f"in {timeout:.0f} s"
                raise RuntimeError("\n".join([f"The PDS {failure} {how}. Its last output:", *self._tail]))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._take(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, line: str) -> None:
        if line.startswith("READY "):
            self._ready = json.loads(line.removeprefix("READY "))
        elif line.startswith('{"fence":'):
            self._fences[json.loads(line)["fence"]] = len(self._log)
        elif line.startswith('{"nsid":'):
            self._log.append(Request(**json.loads(line)))
        else:
            self._tail.append(line)


def _answer(nsid: str, response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise RuntimeError(f"The PDS refused {nsid}: {response.status_code} {response.text}")
    answer: dict[str, Any] = response.json() if response.content else {}
    return answer


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
