"""Sign calls in the account's name. If a server refuses the token, replay the call once with a new one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager

import httpx

from prefect_bluesky.errors import AuthError, RequestRefused
from prefect_bluesky.problems import AuthProblem, classify, is_token_refusal
from prefect_bluesky.sessions.authenticator import Authenticator
from prefect_bluesky.sessions.session import Session


class SessionAuth(httpx.Auth):
    """The signing of requests to the account's PDS, for sync and async clients.

    The token is for the PDS alone: a request to another server, or with its own `Authorization`, stays unchanged.

    Example:
        >>> httpx.get(f"{pds.url}/xrpc/com.atproto.server.getSession", auth=SessionAuth(authenticator))
        <Response [200 OK]>
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    @contextmanager
    def problems(self) -> Iterator[None]:
        """Raise `AuthError` for refusals that concern the account or a fresh token. Store those of the account."""
        try:
            yield
        except RequestRefused as refused:
            account = self._authenticator.account
            if is_token_refusal(error=refused.error, message=refused.message):
                # The server refuses even the recovered token. The token may have come from another worker; the next
                # attempt will refresh it.
                raise AuthError(AuthProblem.WRONG_SERVICE, account, retryable=True) from refused
            problem = classify(error=refused.error, message=refused.message)
            if problem is None:
                raise
            error = AuthError(problem, account, answer=refused)
            if refused.error == "ScopeMissingError":
                # A grant allows some calls and not others. The account can go on with those that it allows.
                raise error.explained(problem, refused.message or "") from refused
            raise self._authenticator.note(error) from refused

    def tell_missing_right(self, error: AuthError) -> None:
        """Tell people that a post needs a right that was not granted. The account can go on with its other posts."""
        self._authenticator.tell_missing_right(error)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        session = self._authenticator.session()
        if not _is_ours(request, session):
            yield request
            return
        request.read()  # a streamed body cannot be replayed
        sign_in = self._authenticator.sign_in
        response = yield self._signed(request, session)
        if response.is_error:
            response.read()
        if sign_in.learns(response):
            response = yield self._signed(request, session)
            response.read()
            sign_in.learns(response)
        if sign_in.is_refused(response):
            yield self._signed(request, self._authenticator.recover(session))

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        session = await asyncio.to_thread(self._authenticator.session)
        if not _is_ours(request, session):
            yield request
            return
        await request.aread()
        sign_in = self._authenticator.sign_in
        response = yield self._signed(request, session)
        if response.is_error:
            await response.aread()
        if sign_in.learns(response):
            response = yield self._signed(request, session)
            await response.aread()
            sign_in.learns(response)
        if sign_in.is_refused(response):
            yield self._signed(request, await asyncio.to_thread(self._authenticator.recover, session))

    def _signed(self, request: httpx.Request, session: Session) -> httpx.Request:
        self._authenticator.sign_in.sign(request, session)
        return request


def _is_ours(request: httpx.Request, session: Session) -> bool:
    pds, url = httpx.URL(session.pds_url), request.url
    same_server = (url.scheme, url.host, url.port) == (pds.scheme, pds.host, pds.port)
    return same_server and "Authorization" not in request.headers
