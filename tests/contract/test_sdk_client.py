"""The SDK's own clients, signed in by us, on the sandbox and on a real PDS."""

import asyncio

import pytest

from prefect_bluesky import AuthError, AuthProblem
from tests.support import LOGIN, REFRESH, Pds, block, counted, expire_access_token, texts

CREATE = "com.atproto.repo.createRecord"


def test_the_client_posts(pds: Pds) -> None:
    account = pds.create_account()
    block(pds, account).get_client().send_post("hi")
    assert texts(pds, account) == ["hi"]


def test_the_async_client_posts(pds: Pds) -> None:
    account = pds.create_account()

    async def post() -> None:
        client = await block(pds, account).aget_client()
        await client.send_post("hi")

    asyncio.run(post())
    assert texts(pds, account) == ["hi"]


def test_a_client_survives_the_expiry_of_its_token(pds: Pds) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    credentials.ensure_session()
    expire_access_token(pds, account, credentials)
    client = credentials.get_client()
    with counted(pds) as requests:
        client.send_post("first")
        client.send_post("second")
    assert requests == {CREATE: 3, REFRESH: 1}
    assert texts(pds, account) == ["first", "second"]


def test_an_async_client_survives_the_expiry_of_its_token(pds: Pds) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    credentials.ensure_session()
    expire_access_token(pds, account, credentials)

    async def post() -> None:
        client = await credentials.aget_client()
        await asyncio.gather(*(client.send_post(f"post {number}") for number in range(5)))

    with counted(pds) as requests:
        asyncio.run(post())
    assert requests[REFRESH] == 1
    assert LOGIN not in requests
    assert len(texts(pds, account)) == 5


def test_an_upload_survives_the_expiry_of_its_token(pds: Pds) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    credentials.ensure_session()
    expire_access_token(pds, account, credentials)
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
    assert failure.value.problem is AuthProblem.APP_PASSWORD_REJECTED


def test_the_client_holds_no_token(pds: Pds) -> None:
    client = block(pds, pds.create_account()).get_client()
    with pytest.raises(Exception, match="logged in"):
        client.export_session_string()
