"""Calls in the account's name: each is signed, and one that meets a refused token is replayed once with another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from prefect_bluesky.errors import AuthError, RequestRefused
from prefect_bluesky.problems import AuthProblem, classify, is_token_refusal
from prefect_bluesky.sessions.authenticator import Authenticator
from prefect_bluesky.sessions.session import Session

if TYPE_CHECKING:
    pass


class BearerAuth(httpx.Auth):
    """Signs requests to the account's PDS with its session, for sync and async clients.

    A request that carries an `Authorization` of its own, or goes to another server, is left as it is: the token is for
    the PDS alone.

    `uploadBlob` answers a bad token with 500 only where it is no JWT, which `Session` rules out; so a 500 is never
    taken for a refused token.

    Args:
        authenticator: keeps the account signed in.

    Example:
        >>> httpx.get(f"{pds.url}/xrpc/com.atproto.server.getSession", auth=BearerAuth(authenticator))
        <Response [200 OK]>
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    @contextmanager
    def problems(self) -> Iterator[None]:
        """Tell a refusal that concerns the account from one that concerns what was sent, and remember it.

        Raises:
            AuthError: the account may not do this, or even a fresh token is refused.
        """
        try:
            yield
        except RequestRefused as refused:
            account = self._authenticator.account
            if is_token_refusal(error=refused.error, message=refused.message):
                # It refuses even the token that the recovery brought. That one may have come from another worker, and
                # an attempt of its own will refresh it.
                raise AuthError(AuthProblem.WRONG_SERVICE, account, retryable=True) from refused
            problem = classify(error=refused.error, message=refused.message)
            if problem is None:
                raise
            error = AuthError(problem, account, answer=refused)
            self._authenticator.note(error)
            raise error from refused

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        session = self._authenticator.session()
        if not _is_ours(request, session):
            yield request
            return
        request.read()  # a streamed body could not be replayed
        response = yield _signed(request, session)
        if _may_be_refusal(response):
            response.read()
            if _is_refusal(response):
                yield _signed(request, self._authenticator.recover(session))

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        session = await asyncio.to_thread(self._authenticator.session)
        if not _is_ours(request, session):
            yield request
            return
        await request.aread()
        response = yield _signed(request, session)
        if _may_be_refusal(response):
            await response.aread()
            if _is_refusal(response):
                yield _signed(request, await asyncio.to_thread(self._authenticator.recover, session))


def _is_ours(request: httpx.Request, session: Session) -> bool:
    pds = httpx.URL(session.pds_url)
    url = request.url
    same_server = (url.scheme, url.host, url.port) == (pds.scheme, pds.host, pds.port)
    return same_server and "Authorization" not in request.headers


def _signed(request: httpx.Request, session: Session) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {session.access_token}"
    return request


def _may_be_refusal(response: httpx.Response) -> bool:
    # A PDS says it with 400; the specification, and other servers, with 401.
    return response.status_code in {400, 401}


def _is_refusal(response: httpx.Response) -> bool:
    try:
        answer = response.json()
    except ValueError:
        return False
    return isinstance(answer, dict) and is_token_refusal(error=answer.get("error"), message=answer.get("message"))
