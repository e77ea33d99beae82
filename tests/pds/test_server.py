"""The harness itself: a real PDS comes up, obeys, and tells what it was asked."""

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from .server import Account, RealPds, Request, run

pytestmark = pytest.mark.pds

LOGIN = "com.atproto.server.createSession"
REFRESH = "com.atproto.server.refreshSession"
WHOAMI = "com.atproto.server.getSession"
WRITE = "com.atproto.repo.applyWrites"


@pytest.fixture(scope="module")
def pds() -> Iterator[RealPds]:
    with run() as pds:
        yield pds


@pytest.fixture
def account(pds: RealPds) -> Account:
    return pds.create_account()


def call(pds: RealPds, method: str, nsid: str, token: str = "", **body: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.request(method, f"{pds.url}/xrpc/{nsid}", headers=headers, json=body or None, trust_env=False)


def login(pds: RealPds, account: Account, password: str | None = None) -> httpx.Response:
    return call(pds, "POST", LOGIN, identifier=account.handle, password=password or account.app_password)


def post(pds: RealPds, token: str, *texts: str) -> httpx.Response:
    kind = "app.bsky.feed.post"
    values = [{"$type": kind, "text": text, "createdAt": "2026-01-01T00:00:00Z"} for text in texts]
    writes = [{"$type": f"{WRITE}#create", "collection": kind, "value": value} for value in values]
    repo = call(pds, "GET", WHOAMI, token).json()["did"]
    return call(pds, "POST", WRITE, token, repo=repo, writes=writes)


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


def test_app_password_logs_in(pds: RealPds, account: Account) -> None:
    session = login(pds, account).json()
    assert (session["did"], session["handle"]) == (account.did, account.handle)
    assert call(pds, "GET", WHOAMI, session["accessJwt"]).status_code == 200


def test_account_does_not_show_its_passwords(account: Account) -> None:
    for shown in (repr(account), str(account)):
        assert account.handle in shown
        assert account.password not in shown
        assert account.app_password not in shown


def test_handle_is_as_asked(pds: RealPds) -> None:
    assert pds.create_account("carol.test").handle == "carol.test"


def test_did_document_names_this_pds(pds: RealPds, account: Account) -> None:
    document = httpx.get(f"{pds.plc_url}/{account.did}", trust_env=False).json()
    assert [service["serviceEndpoint"] for service in document["service"]] == [pds.url]


def test_profile_comes_from_the_stub(pds: RealPds, account: Account) -> None:
    token = login(pds, account).json()["accessJwt"]
    profile = call(pds, "GET", f"app.bsky.actor.getProfile?actor={account.did}", token)
    assert profile.json()["handle"] == account.handle


def test_requests_are_counted_exactly(pds: RealPds, account: Account) -> None:
    before = len(pds.requests())
    token = login(pds, account).json()["accessJwt"]
    login(pds, account, "wrong")
    for _ in range(50):
        call(pds, "GET", WHOAMI, token)
    pds.create_app_password(account, "another")
    assert pds.requests()[before:] == [
        Request(LOGIN, "POST", 200),
        Request(LOGIN, "POST", 401),
        *[Request(WHOAMI, "GET", 200)] * 50,
    ]
    assert pds.requests(WHOAMI)[-1] == Request(WHOAMI, "GET", 200)


def test_request_of_a_client_that_went_away_is_listed(pds: RealPds, account: Account) -> None:
    before = len(pds.requests())
    body = {"identifier": account.handle, "password": "wrong"}
    with pytest.raises(httpx.ReadTimeout):  # a refused login takes at least 0.35 s
        httpx.post(f"{pds.url}/xrpc/{LOGIN}", json=body, timeout=httpx.Timeout(10, read=0.1), trust_env=False)
    assert pds.requests()[before:] == [Request(LOGIN, "POST", None)]


@pytest.mark.parametrize("expires_in", [timedelta(seconds=-1), timedelta(days=-1)])
def test_minted_token_has_expired(pds: RealPds, account: Account, expires_in: timedelta) -> None:
    assert problem(call(pds, "GET", WHOAMI, pds.mint(account, expires_in=expires_in))) == (400, "ExpiredToken")
    refresh = pds.mint(account, "refresh", expires_in)
    assert problem(call(pds, "POST", REFRESH, refresh)) == (400, "ExpiredToken")


def test_minted_token_is_taken_while_it_lasts(pds: RealPds, account: Account) -> None:
    token = pds.mint(account, expires_in=timedelta(minutes=1))
    assert call(pds, "GET", WHOAMI, token).json()["did"] == account.did


def test_minted_token_carries_the_claims_given(pds: RealPds, account: Account) -> None:
    token = pds.mint(account, expires_in=timedelta(minutes=1), scope="com.atproto.takendown")
    assert problem(call(pds, "GET", "com.atproto.server.listAppPasswords", token)) == (400, "InvalidToken")
    endless = pds.mint(account, exp=None)
    assert call(pds, "GET", WHOAMI, endless).status_code == 200


def test_minted_token_has_the_claims_of_a_real_one(pds: RealPds, account: Account) -> None:
    def parts(token: str) -> list[Any]:
        return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]

    session = login(pds, account).json()
    for real, minted in (
        (parts(session["accessJwt"]), parts(pds.mint(account))),
        (parts(session["refreshJwt"]), parts(pds.mint(account, "refresh"))),
    ):
        assert real[0] == minted[0]
        for claims in (real[1], minted[1]):
            claims["lifetime"] = claims.pop("exp") - claims.pop("iat")
            claims.pop("jti", None)
        assert real[1] == minted[1]


def test_revoked_app_password(pds: RealPds, account: Account) -> None:
    other = pds.create_app_password(account, "other")
    pds.revoke_app_password(account)
    assert problem(login(pds, account)) == (401, "AuthenticationRequired")
    assert login(pds, account, other).status_code == 200
    pds.revoke_app_password(account, other)
    assert problem(login(pds, account, other)) == (401, "AuthenticationRequired")


def test_privileged_app_password(pds: RealPds, account: Account) -> None:
    password = pds.create_app_password(account, "messages", privileged=True)
    assert login(pds, account, password).status_code == 200


def test_changed_password(pds: RealPds, account: Account) -> None:
    refresh = login(pds, account).json()["refreshJwt"]
    pds.change_password(account, "another one")
    assert problem(call(pds, "POST", REFRESH, refresh)) == (400, "ExpiredToken")
    assert login(pds, account, "another one").status_code == 200
    assert login(pds, account).status_code == 200


def test_taken_down_and_reinstated(pds: RealPds, account: Account) -> None:
    token = login(pds, account).json()["accessJwt"]
    pds.take_down(account)
    assert problem(call(pds, "POST", WRITE, token, repo=account.did, writes=[])) == (401, "AccountTakedown")
    pds.reinstate(account)
    assert post(pds, token, "back").status_code == 200


def test_deactivated_and_reinstated(pds: RealPds, account: Account) -> None:
    pds.deactivate(account)
    session = login(pds, account).json()
    assert (session["active"], session["status"]) == (False, "deactivated")
    pds.reinstate(account)
    assert login(pds, account).json()["active"]


def test_deleted_account(pds: RealPds, account: Account) -> None:
    pds.delete_account(account)
    assert problem(login(pds, account)) == (401, "AuthenticationRequired")


def test_posts_are_listed_oldest_first_over_all_pages(pds: RealPds, account: Account) -> None:
    assert pds.posts(account) == []
    texts = [f"post {number}" for number in range(120)]
    answer = post(pds, login(pds, account).json()["accessJwt"], *texts).json()
    posts = pds.posts(account)
    assert [entry["value"]["text"] for entry in posts] == texts
    assert [(entry["uri"], entry["cid"]) for entry in posts] == [(at["uri"], at["cid"]) for at in answer["results"]]


@pytest.mark.slow
def test_rate_limits_and_did_document_on_request() -> None:
    with run(rate_limits=True, did_doc=True) as pds:
        account = pds.create_account()
        first = login(pds, account)
        assert first.headers["RateLimit-Remaining"] == "29"
        assert first.json()["didDoc"]["service"][0]["serviceEndpoint"] == pds.url
