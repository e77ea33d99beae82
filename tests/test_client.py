"""The requests that carry the token, and those that do not."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from prefect_bluesky import BlueskyCredentials, sandbox
from prefect_bluesky.sessions.session_auth import SessionAuth
from tests.support import REFRESH, block, counted, expired

UPLOAD = "com.atproto.repo.uploadBlob"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def credentials(sandbox_pds: sandbox.Sandbox) -> BlueskyCredentials:
    """The block of a fresh account that has signed in."""
    fresh = block(sandbox_pds, sandbox_pds.create_account())
    fresh.ensure_session()
    return fresh


def sent_with(credentials: BlueskyCredentials, request: httpx.Request) -> str | None:
    """The Authorization that a request leaves with."""
    sent = next(SessionAuth(credentials._authenticator()).sync_auth_flow(request))
    return str(sent.headers["Authorization"]) if "Authorization" in sent.headers else None


def test_a_request_to_the_pds_is_signed(credentials: BlueskyCredentials) -> None:
    sent = sent_with(credentials, httpx.Request("GET", f"{credentials.service_url}/xrpc/x"))
    assert sent is not None
    assert sent.startswith("Bearer eyJ")


@pytest.mark.parametrize("url", ["https://example.com/xrpc/x", "http://127.0.0.1:1/xrpc/x", "https://127.0.0.1/xrpc/x"])
def test_the_token_goes_to_no_other_server(credentials: BlueskyCredentials, url: str) -> None:
    assert sent_with(credentials, httpx.Request("GET", url)) is None


def test_an_authorization_of_the_callers_own_is_kept(credentials: BlueskyCredentials) -> None:
    request = httpx.Request("GET", f"{credentials.service_url}/xrpc/x", headers={"Authorization": "Bearer service"})
    assert sent_with(credentials, request) == "Bearer service"


def upload(url: str, auth: httpx.Auth) -> httpx.Response:
    return httpx.post(url, content=iter([PNG, b"rest"]), headers={"Content-Type": "image/png"}, auth=auth)


def upload_async(url: str, auth: httpx.Auth) -> httpx.Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield PNG
        yield b"rest"

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(auth=auth) as client:
            return await client.post(url, content=chunks(), headers={"Content-Type": "image/png"})

    return asyncio.run(send())


@pytest.mark.parametrize("send", [upload, upload_async])
def test_a_streamed_body_is_replayed_whole(
    sandbox_pds: sandbox.Sandbox, send: Callable[[str, httpx.Auth], httpx.Response]
) -> None:
    _, credentials = expired(sandbox_pds)
    with counted(sandbox_pds) as requests:
        answer = send(f"{sandbox_pds.url}/xrpc/{UPLOAD}", SessionAuth(credentials._authenticator()))
    assert answer.json()["blob"]["size"] == len(PNG) + 4
    assert requests == {UPLOAD: 2, REFRESH: 1}


def test_a_replay_that_is_refused_too_is_not_recovered_again(
    credentials: BlueskyCredentials, sandbox_pds: sandbox.Sandbox
) -> None:
    method = "com.atproto.server.getSession"
    sandbox_pds.fail(method, status=400, error="InvalidToken", message="Token could not be verified", times=3)
    with counted(sandbox_pds) as requests:
        answer = httpx.get(f"{sandbox_pds.url}/xrpc/{method}", auth=SessionAuth(credentials._authenticator()))
    assert answer.status_code == 400
    assert requests == {method: 2, REFRESH: 1}
    httpx.get(f"{sandbox_pds.url}/xrpc/{method}")  # uses up the third fault


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (400, "InvalidRequest", "no"),
        (400, "InvalidToken", "Bad token scope"),
        (401, "AuthenticationRequired", "Authentication Required"),
        (401, "AccountDeactivated", "Account is deactivated"),
        (500, "InternalServerError", "Internal Server Error"),
    ],
)
def test_a_refusal_that_no_new_token_fixes_is_not_recovered(
    credentials: BlueskyCredentials, sandbox_pds: sandbox.Sandbox, status: int, error: str, message: str
) -> None:
    method = "com.atproto.server.getSession"
    sandbox_pds.fail(method, status=status, error=error, message=message)
    with counted(sandbox_pds) as requests:
        answer = httpx.get(f"{sandbox_pds.url}/xrpc/{method}", auth=SessionAuth(credentials._authenticator()))
    assert answer.status_code == status
    assert requests == {method: 1}
