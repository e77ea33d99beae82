"""How an account signs in: what makes its sessions, refreshes them and signs with them.

`Authenticator` decides when. Nothing outside an implementation knows which one it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime

import httpx

from prefect_bluesky.errors import RequestRefused
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.session import Session


@dataclass(frozen=True)
class NewSession:
    """A new session, and the problem that forbids its use, if any: a deactivated account can sign in."""

    session: Session
    problem: AuthProblem | None


class SignIn(ABC):
    """How one account signs in."""

    kind = "App password"
    """What the account signs in with."""

    refresh_is_final = False
    """Whether a session ends if its refresh token is sent twice. Then the account's lock is a must, a refresh is noted
    before it is sent, and none is made before it is due."""

    logs_in = True
    """Whether `create` is a login, of which each account has few."""

    @abstractmethod
    def read_credential(self) -> str:
        """Return what sessions are made with, read anew, as it may have been replaced. Only its fingerprint is stored.

        Raises:
            InvalidInput: there is none, or it cannot be used.
            StoreError: the place where it is stored cannot be read.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return what the credential looks like, for a diagnosis. Raises as `read_credential`."""

    @abstractmethod
    def create(self, received_at: datetime, ended: RequestRefused | None = None) -> NewSession:
        """Sign in with the credential of the last reading. `ended` says how the session before has ended.

        Raises:
            AuthError: the server refuses the account, signs nobody in, or the account has left the server.
            RequestRefused: the server refuses for a reason that does not concern the account.
            ServiceUnavailable, RateLimited: the server cannot be asked now, or does not answer like a PDS.
        """

    @abstractmethod
    def refresh(self, session: Session, received_at: datetime, *, again: bool = False) -> NewSession:
        """Trade a session for a new one. `again` says that an earlier attempt may have been carried out.

        Raises:
            RequestRefused: the server says that the session is over, or that the account has left this server.
            AuthError: the account is taken down or deactivated.
            ServiceUnavailable, RateLimited: the server cannot be asked now, or does not answer like a PDS.
        """

    @abstractmethod
    def end(self, session: Session) -> None:
        """End a session at its server. One that has ended already is no error.

        Raises:
            AuthError: the server does not let us.
            RequestRefused: the server refuses for another reason.
            ServiceUnavailable, RateLimited: the server cannot be asked now, or the session has not ended.
        """

    def learns(self, response: httpx.Response) -> bool:
        """Learn from an answer, which was read. Return whether the same session may be accepted at another attempt."""
        return False

    @abstractmethod
    def sign(self, request: httpx.Request, session: Session) -> None:
        """Sign one attempt of a request to the account's PDS."""

    @abstractmethod
    def is_refused(self, response: httpx.Response) -> bool:
        """Return whether an answer, which was read, refuses the session's token: another token may be accepted."""


class Signed(httpx.Auth):
    """The signing of a call with one session, whatever becomes of it."""

    requires_response_body = True

    def __init__(self, sign_in: SignIn, session: Session) -> None:
        self._sign_in, self._session = sign_in, session

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self._sign_in.sign(request, self._session)
        response = yield request
        if self._sign_in.learns(response):
            self._sign_in.sign(request, self._session)
            yield request
