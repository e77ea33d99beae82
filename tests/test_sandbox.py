"""The sandbox as a tool for tests: faults, its clock, lifetimes, its record of requests, and that it goes away cleanly.

What it answers, call by call, is compared with a real PDS by the contract tests.
"""

import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from atproto import Client

from prefect_bluesky import sandbox
from prefect_bluesky.sandbox import Account, Request, Sandbox
from tests.contract.caller import claims, said

CREATE_SESSION = "com.atproto.server.createSession"
REFRESH_SESSION = "com.atproto.server.refreshSession"
GET_SESSION = "com.atproto.server.getSession"
CREATE_RECORD = "com.atproto.repo.createRecord"
PUT_RECORD = "com.atproto.repo.putRecord"
POST = "app.bsky.feed.post"
EXPIRED = (400, "ExpiredToken", "Token has expired")
REVOKED = (400, "ExpiredToken", "Token has been revoked")
UNVERIFIED = (400, "InvalidToken", "Token could not be verified")
LOST = (httpx.RemoteProtocolError, httpx.ReadError)


@pytest.fixture
def alice(pds: Sandbox) -> Account:
    return pds.create_account()


def call(pds: Sandbox, nsid: str, token: str | None = None, body: Any = None, timeout: float = 10) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    verb = "GET" if nsid == GET_SESSION else "POST"
    url = f"{pds.url}/xrpc/{nsid}"
    # verify=False: there is no TLS here, and reading the certificates would take most of the time.
    return httpx.request(verb, url, headers=headers, json=body, timeout=timeout, verify=False)


def log_in(pds: Sandbox, account: Account, password: str | None = None) -> dict[str, Any]:
    password = password or account.app_password
    answer = call(pds, CREATE_SESSION, body={"identifier": account.handle, "password": password})
    assert answer.status_code == 200, answer.text
    session: dict[str, Any] = answer.json()
    return session


def write(pds: Sandbox, account: Account, token: str, text: str = "hi", **more: Any) -> httpx.Response:
    record = {"$type": POST, "text": text, "createdAt": "2026-11-22T10:00:00Z"}
    body = {"repo": account.did, "collection": POST, "record": record, **more}
    return call(pds, PUT_RECORD if "swapRecord" in more else CREATE_RECORD, token, body)


def refresh(pds: Sandbox, token: str) -> httpx.Response:
    return call(pds, REFRESH_SESSION, token)


def test_a_post_can_be_read_from_memory(pds: Sandbox, alice: Account) -> None:
    token = log_in(pds, alice)["accessJwt"]
    first, second = (write(pds, alice, token, text).json() for text in ("first", "second"))
    assert [(post["uri"], post["cid"], post["value"]["text"]) for post in pds.posts(alice)] == [
        (first["uri"], first["cid"], "first"),
        (second["uri"], second["cid"], "second"),
    ]


def test_changes_to_a_read_post_do_not_reach_the_server(pds: Sandbox, alice: Account) -> None:
    write(pds, alice, log_in(pds, alice)["accessJwt"])
    pds.posts(alice)[0]["value"]["text"] = "changed"
    assert pds.posts(alice)[0]["value"]["text"] == "hi"


@pytest.mark.parametrize("did_doc", [True, False])
def test_the_sdk_signs_in_and_posts(did_doc: bool) -> None:
    with sandbox.run(did_doc=did_doc) as pds:
        alice = pds.create_account("alice.test")
        client = Client(base_url=pds.url)
        profile = client.login("alice.test", alice.app_password)
        posted = client.send_post("hello")
        assert profile.did == alice.did
        assert pds.posts(alice)[0]["uri"] == posted.uri


def test_the_did_document_names_the_pds() -> None:
    with sandbox.run(did_doc=True, pds_url_in_did_doc="https://pds.example") as pds:
        session = log_in(pds, pds.create_account())
        answers = [
            session,
            refresh(pds, session["refreshJwt"]).json(),
            call(pds, GET_SESSION, session["accessJwt"]).json(),
        ]
        endpoints = [answer["didDoc"]["service"][0]["serviceEndpoint"] for answer in answers]
    assert endpoints == ["https://pds.example"] * 3


def test_accounts_have_handles_of_their_own() -> None:
    with sandbox.run() as pds:
        handles = [pds.create_account(handle).handle for handle in (None, None, "Bob.test")]
    assert len(set(handles)) == 3
    assert handles[2] == "bob.test"


def test_a_sandbox_refuses_the_tokens_of_another(pds: Sandbox, alice: Account) -> None:
    with sandbox.run() as other:
        token = log_in(other, other.create_account())["accessJwt"]
    assert said(call(pds, GET_SESSION, token)) == UNVERIFIED


# Faults


@pytest.mark.parametrize(
    ("status", "named", "expected"),
    [
        (503, {}, (503, "NotEnoughResources", "Not Enough Resources")),
        (502, {}, (502, "UpstreamFailure", "Upstream Failure")),
        (429, {}, (429, "RateLimitExceeded", "Rate Limit Exceeded")),
        (400, {"error": "ExpiredToken", "message": "Token has expired"}, EXPIRED),
        (418, {"message": "short and stout"}, (418, "UnknownXRPCError", "short and stout")),
    ],
)
def test_fail_answers_so_many_times_and_changes_nothing(
    pds: Sandbox, alice: Account, status: int, named: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    token = log_in(pds, alice)["accessJwt"]
    pds.fail(CREATE_RECORD, status, **named, times=2)
    assert [said(write(pds, alice, token)) for _ in range(2)] == [expected] * 2
    assert pds.posts(alice) == []
    assert write(pds, alice, token).status_code == 200


def test_fail_sends_headers_and_leaves_other_methods_alone(pds: Sandbox, alice: Account) -> None:
    token = log_in(pds, alice)["accessJwt"]
    pds.fail(CREATE_RECORD, 429, headers={"Retry-After": "3"})
    assert call(pds, GET_SESSION, token).status_code == 200
    assert write(pds, alice, token).headers["retry-after"] == "3"


def test_drop_makes_the_write_and_loses_the_answer(
    pds: Sandbox, alice: Account, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    token = log_in(pds, alice)["accessJwt"]
    pds.drop(CREATE_RECORD, times=2)
    for text in ("one", "two"):
        with pytest.raises(LOST):
            write(pds, alice, token, text)
    assert write(pds, alice, token, "three").status_code == 200
    assert [post["value"]["text"] for post in pds.posts(alice)] == ["one", "two", "three"]
    assert [r.status for r in pds.requests(CREATE_RECORD) if r.did == alice.did] == [None, None, 200]
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert capfd.readouterr().err == ""


def test_drop_of_a_kept_alive_connection_is_seen_too(pds: Sandbox, alice: Account) -> None:
    token = log_in(pds, alice)["accessJwt"]
    with httpx.Client(base_url=f"{pds.url}/xrpc/", headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.get(GET_SESSION).status_code == 200
        pds.drop(GET_SESSION)
        with pytest.raises(LOST):
            client.get(GET_SESSION)
        assert client.get(GET_SESSION).status_code == 200


def test_drop_and_fail_together_lose_the_request(pds: Sandbox, alice: Account) -> None:
    token = log_in(pds, alice)["accessJwt"]
    pds.fail(CREATE_RECORD)
    pds.drop(CREATE_RECORD)
    with pytest.raises(LOST):
        write(pds, alice, token)
    assert pds.posts(alice) == []


def test_delay_holds_back_the_answer_but_not_the_work(pds: Sandbox, alice: Account) -> None:
    token = log_in(pds, alice)["accessJwt"]
    pds.delay(GET_SESSION, 60)
    with pytest.raises(httpx.ReadTimeout):
        call(pds, GET_SESSION, token, timeout=0.1)
    assert [r.status for r in pds.requests(GET_SESSION) if r.did == alice.did] == [200]
    assert call(pds, GET_SESSION, token).status_code == 200


@pytest.mark.parametrize(
    "arrange",
    [
        lambda pds: pds.fail("com.atproto.server.refreshsession"),
        lambda pds: pds.delay("app.bsky.feed.getTimeline", 1),
        lambda pds: pds.drop(CREATE_RECORD, times=0),
    ],
)
def test_a_fault_that_could_never_happen_is_refused(pds: Sandbox, arrange: Callable[[Sandbox], None]) -> None:
    with pytest.raises(ValueError, match=r"no method|positive"):
        arrange(pds)


# Time


def test_an_access_token_expires_and_a_refresh_helps(pds: Sandbox, alice: Account) -> None:
    session = log_in(pds, alice)
    pds.advance(timedelta(hours=2))
    assert said(write(pds, alice, session["accessJwt"])) == EXPIRED
    renewed = refresh(pds, session["refreshJwt"]).json()
    assert write(pds, alice, renewed["accessJwt"]).status_code == 200


def test_a_refresh_token_expires(pds: Sandbox, alice: Account) -> None:
    session = log_in(pds, alice)
    pds.advance(timedelta(days=90))
    assert said(refresh(pds, session["refreshJwt"])) == EXPIRED


def test_lifetimes_are_the_ones_asked_for() -> None:
    with sandbox.run(access_lifetime=timedelta(minutes=5), refresh_lifetime=timedelta(hours=1)) as pds:
        session = log_in(pds, pds.create_account())
    lives = [claims(session[name]) for name in ("accessJwt", "refreshJwt")]
    assert [life["exp"] - life["iat"] for life in lives] == [300, 3600]


def test_grace_counts_from_the_first_use_and_gives_the_same_token(pds: Sandbox, alice: Account) -> None:
    used = log_in(pds, alice)["refreshJwt"]
    first = refresh(pds, used).json()["refreshJwt"]
    pds.advance(timedelta(hours=1))
    second = refresh(pds, used).json()["refreshJwt"]
    assert claims(first)["jti"] == claims(second)["jti"] != claims(used)["jti"]
    pds.advance(timedelta(hours=1))
    assert said(refresh(pds, used)) == REVOKED
    assert refresh(pds, second).status_code == 200


def test_grace_does_not_outlast_the_token() -> None:
    with sandbox.run(refresh_lifetime=timedelta(hours=1)) as pds:
        used = log_in(pds, pds.create_account())["refreshJwt"]
        assert refresh(pds, used).status_code == 200
        pds.advance(timedelta(hours=1))
        assert said(refresh(pds, used)) == EXPIRED


def test_without_grace_a_refresh_token_is_good_for_one_use() -> None:
    with sandbox.run(grace=timedelta(0)) as pds:
        used = log_in(pds, pds.create_account())["refreshJwt"]
        assert refresh(pds, used).status_code == 200
        assert said(refresh(pds, used)) == REVOKED


def test_the_date_header_follows_the_clock() -> None:
    with sandbox.run() as pds:
        pds.advance(timedelta(days=400))
        date = parsedate_to_datetime(call(pds, GET_SESSION).headers["date"])
    assert timedelta(days=399) < date - datetime.now(UTC) < timedelta(days=401)


def test_the_clock_does_not_go_back(pds: Sandbox) -> None:
    with pytest.raises(ValueError, match="only moves forward"):
        pds.advance(timedelta(seconds=-1))


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("expires_in", "made_of", "expected"),
    [
        (timedelta(seconds=-1), {}, EXPIRED),
        (HOUR, {}, (200, None, None)),
        (HOUR, {"exp": None}, (200, None, None)),
        (HOUR, {"scope": "com.atproto.access"}, (200, None, None)),
        (HOUR, {"scope": None}, (400, "InvalidToken", "Bad token scope")),
        (HOUR, {"aud": "did:web:elsewhere.example"}, UNVERIFIED),
        (timedelta(seconds=-1), {"aud": "did:web:elsewhere.example"}, UNVERIFIED),
        (HOUR, {"sub": "did:plc:nobody"}, (401, "AuthenticationRequired", "Authentication Required")),
    ],
)
def test_mint_makes_access_tokens(
    pds: Sandbox, alice: Account, expires_in: timedelta, made_of: dict[str, Any], expected: tuple[int, Any, Any]
) -> None:
    assert said(write(pds, alice, pds.mint(alice, "access", expires_in, **made_of))) == expected


@pytest.mark.parametrize(
    ("expires_in", "made_of", "expected"),
    [
        (timedelta(seconds=-1), {}, EXPIRED),
        (HOUR, {}, (200, None, None)),
        (HOUR, {"jti": "unheard of"}, REVOKED),
        (HOUR, {"jti": None}, (401, "MissingTokenId", "Unexpected missing refresh token id")),
    ],
)
def test_mint_makes_refresh_tokens(
    pds: Sandbox, alice: Account, expires_in: timedelta, made_of: dict[str, Any], expected: tuple[int, Any, Any]
) -> None:
    assert said(refresh(pds, pds.mint(alice, "refresh", expires_in, **made_of))) == expected


def test_a_minted_expired_token_has_lived_a_usual_life(pds: Sandbox, alice: Account) -> None:
    minted = claims(pds.mint(alice, "access"))
    assert minted["exp"] - minted["iat"] == 7200


# What happens to accounts

WRITTEN = (200, None, None)
REFRESHED = (200, None, None)


@pytest.mark.parametrize(
    ("happen", "refreshed"),
    [(Sandbox.deactivate, REFRESHED), (Sandbox.take_down, REVOKED)],
    ids=["deactivate", "take-down"],
)
def test_a_reinstated_account_writes_again(
    pds: Sandbox, alice: Account, happen: Callable[[Sandbox, Account], None], refreshed: tuple[int, Any, Any]
) -> None:
    session = log_in(pds, alice)
    happen(pds, alice)
    pds.reinstate(alice)
    assert said(write(pds, alice, session["accessJwt"])) == WRITTEN
    assert said(refresh(pds, session["refreshJwt"])) == refreshed


def test_another_app_password_has_a_life_of_its_own(pds: Sandbox, alice: Account) -> None:
    second = pds.create_app_password(alice, privileged=True)
    session = log_in(pds, alice, second)
    assert claims(session["accessJwt"])["scope"] == "com.atproto.appPassPrivileged"
    with pytest.raises(ValueError, match="named 'second'"):
        pds.create_app_password(alice)
    pds.revoke_app_password(alice)
    assert refresh(pds, session["refreshJwt"]).status_code == 200
    pds.revoke_app_password(alice, second)
    assert said(refresh(pds, session["refreshJwt"])) == REVOKED
    with pytest.raises(LookupError, match="no such app password"):
        pds.revoke_app_password(alice, second)


@pytest.mark.parametrize(
    "use", [Sandbox.posts, Sandbox.deactivate, Sandbox.delete_account, Sandbox.create_app_password]
)
def test_a_deleted_account_is_not_found(pds: Sandbox, alice: Account, use: Callable[[Sandbox, Account], Any]) -> None:
    pds.delete_account(alice)
    with pytest.raises(LookupError, match=alice.handle):
        use(pds, alice)


# Several clients


def test_concurrent_refreshes_give_one_token(pds: Sandbox, alice: Account) -> None:
    token = log_in(pds, alice)["refreshJwt"]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: refresh(pds, token), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({claims(answer.json()["refreshJwt"])["jti"] for answer in answers}) == 1


def test_of_concurrent_creates_of_a_key_one_succeeds(pds: Sandbox, alice: Account) -> None:
    token = log_in(pds, alice)["accessJwt"]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda n: write(pds, alice, token, str(n), rkey="3kaaaaaaaaaa2"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [500] * 7
    assert len(pds.posts(alice)) == 1


def test_of_concurrent_equal_puts_one_makes_a_commit(pds: Sandbox, alice: Account) -> None:
    token = log_in(pds, alice)["accessJwt"]
    with ThreadPoolExecutor(8) as clients:
        answers = list(
            clients.map(lambda _: write(pds, alice, token, rkey="3kaaaaaaaaaa2", swapRecord=None).json(), range(8))
        )
    assert sum("commit" in answer for answer in answers) == 1
    assert len({answer["cid"] for answer in answers}) == 1


# What is told of requests


def test_requests_are_told_in_order() -> None:
    seen: list[Request] = []
    with sandbox.run(on_request=seen.append) as pds:
        alice = pds.create_account()
        session = log_in(pds, alice)
        call(pds, CREATE_SESSION, body={"identifier": alice.handle, "password": "wrong"})
        write(pds, alice, session["accessJwt"])
        pds.fail(REFRESH_SESSION, 503)
        refresh(pds, session["refreshJwt"])
        call(pds, GET_SESSION, "garbage")
        expected = [
            Request(CREATE_SESSION, "POST", 200, alice.did),
            Request(CREATE_SESSION, "POST", 401, None),
            Request(CREATE_RECORD, "POST", 200, alice.did),
            Request(REFRESH_SESSION, "POST", 503, alice.did),
            Request(GET_SESSION, "GET", 400, None),
        ]
        assert pds.requests() == seen == expected
        assert pds.requests(REFRESH_SESSION) == expected[3:4]


def test_nothing_shows_a_secret(pds: Sandbox, alice: Account, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    session, second = log_in(pds, alice), pds.create_app_password(alice)
    refresh(pds, session["refreshJwt"])
    call(pds, GET_SESSION, session["accessJwt"] + "x")
    shown = f"{alice!r} {alice} {[alice]} {pds!r} {pds} {pds.requests()}"
    logged = " ".join(
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    )
    for secret in (alice.password, alice.app_password, second, session["accessJwt"], session["refreshJwt"]):
        assert secret not in shown
        assert secret not in logged


# Going away


def sandbox_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "bluesky-sandbox"]


@pytest.mark.parametrize("leave", [pytest.raises(KeyError), nullcontext()], ids=["by an exception", "at its end"])
def test_the_sandbox_ends_with_its_context(leave: AbstractContextManager[Any]) -> None:
    before, handlers = sandbox_threads(), [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with leave, sandbox.run() as pds, httpx.Client(base_url=f"{pds.url}/xrpc/") as client:
        assert client.get("_health").status_code == 200
        assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
        if not isinstance(leave, nullcontext):
            raise KeyError
    assert sandbox_threads() == before
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{pds.url}/xrpc/_health")


def test_closing_does_not_wait_for_the_rest_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    before = sandbox_threads()
    with sandbox.run() as pds, socket.create_connection(("127.0.0.1", httpx.URL(pds.url).port)) as client:
        client.sendall(b"POST /xrpc/com.atproto.server.createSession HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert call(pds, GET_SESSION).status_code == 401
    assert sandbox_threads() == before
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_closing_does_not_wait_for_delayed_answers(caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(1) as clients:
        arrived = threading.Event()
        with sandbox.run(on_request=lambda request: arrived.set()) as pds:
            pds.delay(GET_SESSION, 600)
            waiting = clients.submit(call, pds, GET_SESSION, timeout=60)
            assert arrived.wait(10)
        assert waiting.result(10).status_code == 401
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
