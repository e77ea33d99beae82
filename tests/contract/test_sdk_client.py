"""The SDK's own clients, signed in by us, on the sandbox and on a real PDS."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from prefect_bluesky import AuthError, AuthProblem, BlueskyCredentials
from tests.support import LOGIN, REFRESH, Pds, block, counted, expire_access_token, expired, texts

CREATE = "com.atproto.repo.createRecord"


def post(credentials: BlueskyCredentials, texts: Sequence[str]) -> None:
    client = credentials.get_client()
    for text in texts:
        client.send_post(text)


def post_async(credentials: BlueskyCredentials, texts: Sequence[str]) -> None:
    async def post() -> None:
        client = await credentials.aget_client()
        await asyncio.gather(*(client.send_post(text) for text in texts))

    asyncio.run(post())


each_client = pytest.mark.parametrize("send", [post, post_async])
Send = Callable[[BlueskyCredentials, Sequence[str]], None]


@each_client
def test_a_client_posts(pds: Pds, send: Send) -> None:
    account = pds.create_account()
    send(block(pds, account), ["hi"])
    assert texts(pds, account) == ["hi"]


@each_client
def test_a_client_survives_the_expiry_of_its_token(pds: Pds, send: Send) -> None:
    account, credentials = expired(pds)
    wanted = [f"post {number}" for number in range(5)]
    with counted(pds) as requests:
        send(credentials, wanted)
    assert requests[REFRESH] == 1
    assert LOGIN not in requests
    if send is post:
        assert requests[CREATE] == 6
    assert texts(pds, account) == wanted


def test_an_upload_survives_the_expiry_of_its_token(pds: Pds) -> None:
    _, credentials = expired(pds)
    with counted(pds) as requests:
        uploaded = credentials.get_client().upload_blob(b"\x89PNG\r\n\x1a\n and so on")
    assert uploaded.blob.size == 18
    assert requests == {"com.atproto.repo.uploadBlob": 2, REFRESH: 1}


def test_a_client_whose_account_cannot_sign_in_says_why(pds: Pds) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    credentials.ensure_session()
    pds.revoke_app_password(account)
    expire_access_token(pds, account, credentials)
    client = credentials.get_client()
    with pytest.raises(AuthError) as failure:
        client.send_post("never seen")
    assert failure.value.problem is AuthProblem.APP_PASSWORD_REVOKED


def test_the_client_holds_no_token(pds: Pds) -> None:
    client = block(pds, pds.create_account()).get_client()
    with pytest.raises(Exception, match="logged in"):
        client.export_session_string()
