"""The API of a Prefect server for synchronous code that the server itself runs, such as an automation's notification.

A server has no API URL of its own, and its host and port may be options of the command that started it. For a client
without a URL, Prefect would start a second server.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from concurrent.futures import TimeoutError as TookTooLong
from typing import Any, TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import get_current_settings

from prefect_bluesky.prefect_api.context import own_server

T = TypeVar("T")

_PATIENCE = 60.0
"""Seconds for an answer. A server that is stopping gives none."""


async def in_thread(call: Callable[..., T], *given: object) -> T:
    """Call synchronous code in a thread. If this process is a Prefect server, the code uses the server's own API."""
    app = _own_app()
    if app is None:
        return await asyncio.to_thread(call, *given)
    token = own_server.set(_client(app, asyncio.get_running_loop()))
    try:
        return await asyncio.to_thread(call, *given)
    finally:
        own_server.reset(token)


def _own_app() -> Any:
    """Return the app of the Prefect server that this process is, or None.

    Prefect makes an app only in a server, and in a process of a server's services.
    """
    server = sys.modules.get("prefect.server.api.server")
    return server.create_app() if server is not None and server.APP_CACHE else None


def _client(app: Any, loop: AbstractEventLoop) -> SyncPrefectClient:
    server = get_current_settings().server.api
    auth = server.auth_string.get_secret_value() if server.auth_string else None
    transport = _OwnTransport(httpx.ASGITransport(app=app, raise_app_exceptions=False), loop)
    url = f"http://prefect-in-memory{server.base_path or '/api'}"
    return SyncPrefectClient(url, auth_string=auth, httpx_settings={"transport": transport})


class _OwnTransport(httpx.BaseTransport):
    """The way of a thread's requests to an app in the loop of this process, which has the database's connections."""

    def __init__(self, app: httpx.ASGITransport, loop: AbstractEventLoop) -> None:
        self._app, self._loop = app, loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = asyncio.run_coroutine_threadsafe(self._answer(request), self._loop)
        try:
            return answer.result(_PATIENCE)
        except TookTooLong:
            answer.cancel()
            raise httpx.ReadTimeout("The server gave no answer.", request=request) from None

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._app.handle_async_request(request)
        # Still compressed, as its headers say.
        content = b"".join([part async for part in answer.aiter_raw()])
        return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(content))
