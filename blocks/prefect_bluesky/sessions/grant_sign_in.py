"""Sign in by a grant: a person has consented in a browser, and each call proves that its token is ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import NoReturn

import httpx

from prefect_bluesky.errors import AuthError, RequestRefused, ServiceError, ServiceUnavailable
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.protocol import did_document, handles_in, oauth, pds_in, xrpc
from prefect_bluesky.sessions.evidence import PATIENCE
from prefect_bluesky.sessions.granted_session import GrantedSession
from prefect_bluesky.sessions.session import Session
from prefect_bluesky.sessions.sign_in import NewSession, Signed, SignIn

Clients = Callable[[], Mapping[str, oauth.Client]]
"""Returns the client of the account with each of its keys, by the key's thumbprint, the latest key last."""

_ALIVE = ("private_key_jwt jti reused", "Invalid request payload", '"refresh_token" grant type')
"""How the server's words begin if a refusal as `invalid_grant` ends no session (measured on @atproto/pds 0.5.35)."""

_GET_SESSION = "com.atproto.server.getSession"

_LOST = "the tokens of an earlier refresh are lost"

_EXPIRED = '"exp" claim'
"""How the server's words begin if an access token is refused for its age alone (measured on @atproto/pds 0.5.35)."""

_ENDS = {
    _LOST: AuthProblem.REFRESH_REPLAYED,
    "Refresh token replayed": AuthProblem.REFRESH_REPLAYED,
    "Refresh token expired": AuthProblem.GRANT_EXPIRED,
    "Session expired": AuthProblem.GRANT_EXPIRED,
}
"""What the words mean by which a session has ended. All others tell only that it is over."""

_WAITS = {
    "use_dpop_nonce": AuthProblem.PROOF_REFUSED,
    "invalid_dpop_proof": AuthProblem.PROOF_REFUSED,
    "invalid_client": AuthProblem.CLIENT_REFUSED,
    "invalid_request": AuthProblem.CLIENT_REFUSED,
    "unauthorized_client": AuthProblem.CLIENT_REFUSED,
    "invalid_client_metadata": AuthProblem.CLIENT_UNREADABLE,
    "invalid_client_id": AuthProblem.CLIENT_UNREADABLE,
    "invalid_redirect_uri": AuthProblem.CLIENT_UNREADABLE,
}
"""What stops a refresh and ends no session."""

_PASSES = {AuthProblem.CLIENT_UNREADABLE, AuthProblem.PROOF_REFUSED}
"""What may be over at the next attempt, with nothing changed."""


class GrantSignIn(SignIn):
    """An account whose sessions are granted by a person.

    Args:
        account: the account's handle or DID.
        clients: reads the client and its keys.
        directory_url: the directory of did:plc accounts.
    """

    kind = "Grant"
    refresh_is_final = True
    logs_in = False

    def __init__(self, account: str, clients: Clients, directory_url: str) -> None:
        self._account, self._clients, self._directory_url = account, clients, directory_url

    def read_credential(self) -> str:
        return f"oauth {self._latest().client_id}"

    def describe(self) -> str:
        latest = self._latest()
        lasts = "two years" if latest.key else "two weeks"
        return f"to the client {latest.client_id}; lasts {lasts} from the owner's visit"

    def create(self, received_at: datetime, ended: RequestRefused | None = None) -> NoReturn:
        error = AuthError(AuthProblem.GRANT_MISSING, self._account, answer=ended)
        if ended is None:
            raise error
        problem = _ENDS.get(ended.message or "", AuthProblem.GRANT_REVOKED)
        raise error.explained(problem, (ended.message or str(ended)).rstrip("."))

    def refresh(self, session: Session, received_at: datetime, *, again: bool = False) -> NewSession:
        granted = _granted(session)
        handle = self._handle_at_home(granted)
        server, client = self._server_and_client(granted, handle)
        if again and self._is_spent(granted, received_at):
            raise RequestRefused(server.issuer, "oauth/token", HTTPStatus.OK, message=_LOST)
        try:
            tokens = oauth.refresh(server, client, granted.key, granted.refresh_token)
        except RequestRefused as refused:
            raise self._problem_of(refused, handle) from refused
        return NewSession(replace(granted.renewed(tokens, received_at), handle=handle), None)

    def end(self, session: Session) -> None:
        granted = _granted(session)
        server, client = self._server_and_client(granted, granted.handle)
        oauth.revoke(server, client, granted.key, granted.refresh_token)
        # The server says the same if it has done nothing.
        with suppress(RequestRefused):
            xrpc.query(granted.pds_url, _GET_SESSION, {}, auth=Signed(self, granted))
            raise ServiceUnavailable(server.issuer, "oauth/revoke", HTTPStatus.OK, message="the session goes on")

    def sign(self, request: httpx.Request, session: Session) -> None:
        token = session.access_token
        request.headers["Authorization"] = f"DPoP {token}"
        request.headers["DPoP"] = oauth.proof(_granted(session).key, request.method, str(request.url), token)

    def learns(self, response: httpx.Response) -> bool:
        request = response.request
        is_news = oauth.learn(str(request.url), response.headers, request.headers["DPoP"])
        return is_news and _error_in(response) in {"use_dpop_nonce", "invalid_dpop_proof"}

    def is_refused(self, response: httpx.Response) -> bool:
        return _error_in(response) == "invalid_token"

    def _server_and_client(
        self, session: GrantedSession, handle: str
    ) -> tuple[oauth.AuthorizationServer, oauth.Client]:
        """Return the server that gave the session, and the client with the key that it was given to."""
        server = _server_of(session)
        if server.issuer != session.issuer:
            raise AuthError(AuthProblem.ACCOUNT_MOVED, handle, found=f"{session.pds_url} names {server.issuer}")
        client = self._clients().get(session.client_key)
        if client is None or client.client_id != session.client_id:
            # A server ends a session that is refreshed with another key, or for another client.
            raise AuthError(AuthProblem.CLIENT_REFUSED, handle, found=f"the key of {session.client_id} is not given")
        return server, client

    def _latest(self) -> oauth.Client:
        *_, latest = self._clients().values()
        return latest

    def _handle_at_home(self, session: GrantedSession) -> str:
        """Return the account's handle today. Raise `AuthError` if the account has left its PDS."""
        with suppress(ServiceError):  # then as it was known
            document = did_document(session.did, self._directory_url, timeout=PATIENCE)
            home = pds_in(document)
            if home is not None and home != session.pds_url:
                found = f"the DID document names {home}"
                raise AuthError(AuthProblem.ACCOUNT_MOVED, session.handle, found=found)
            return next(iter(handles_in(document)), session.handle)
        return session.handle

    def _is_spent(self, session: GrantedSession, now: datetime) -> bool:
        """Return whether the session was refreshed, so that its refresh token must not be sent again.

        The old access token is dead from the moment of a refresh. If it has expired anyway, by our clock or by the
        server's, nothing tells.
        """
        if now >= session.expires_at:
            return False
        try:
            xrpc.query(session.pds_url, _GET_SESSION, {}, auth=Signed(self, session))
        except RequestRefused as refused:
            return refused.error == "invalid_token" and not (refused.message or "").startswith(_EXPIRED)
        return False

    @staticmethod
    def _problem_of(refused: RequestRefused, handle: str) -> Exception:
        """Return what a refused refresh means."""
        if refused.error == "invalid_grant" and not (refused.message or "").startswith(_ALIVE):
            return refused
        if problem := _WAITS.get(refused.error or ""):
            return AuthError(problem, handle, retryable=problem in _PASSES, answer=refused)
        # Only the server's explicit refusal ends a session.
        said = (refused.status, refused.error, refused.message)
        return ServiceUnavailable(refused.server_url, refused.method, *said)


def _server_of(session: GrantedSession) -> oauth.AuthorizationServer:
    try:
        return oauth.AuthorizationServer.of(session.pds_url)
    except RequestRefused as refused:
        # What a server says of itself ends no session.
        said = (refused.status, refused.error, refused.message)
        raise ServiceUnavailable(refused.server_url, refused.method, *said) from refused


def _granted(session: Session) -> GrantedSession:
    if not isinstance(session, GrantedSession):
        raise TypeError("A session that was made with an app password is not used with a grant.")
    return session


def _error_in(response: httpx.Response) -> str | None:
    if response.status_code not in {400, 401}:
        return None
    try:
        answer = response.json()
    except ValueError:
        return None
    return str(answer.get("error")) if isinstance(answer, dict) else None
