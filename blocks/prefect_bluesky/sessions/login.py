"""Log in and refresh: the two calls that make a session, and the meaning of a server's refusals."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Any

from prefect_bluesky.errors import AuthError, RequestRefused, ServiceError, ServiceUnavailable
from prefect_bluesky.problems import AuthProblem, classify, is_token_refusal, problem_of_status
from prefect_bluesky.protocol import did_document, did_of_server, pds_in, signs_in_at, xrpc
from prefect_bluesky.sessions.evidence import PATIENCE
from prefect_bluesky.sessions.password_session import PasswordSession
from prefect_bluesky.sessions.session import Session
from prefect_bluesky.sessions.sign_in import NewSession

_REFRESH = "com.atproto.server.refreshSession"
_LOGIN = "com.atproto.server.createSession"
_LOGOUT = "com.atproto.server.deleteSession"


def refresh_session(session: Session, directory_url: str, *, received_at: datetime) -> NewSession:
    """Trade a session's refresh token for a new session.

    Raises:
        RequestRefused: the server says that the session is over, or that the account has left this server.
        AuthError: the account is taken down or deactivated.
        ServiceUnavailable, RateLimited: the server cannot be asked now, or does not answer like a PDS.
    """
    try:
        answer = xrpc.procedure(session.pds_url, _REFRESH, auth=xrpc.BearerToken(session.refresh_token))
    except RequestRefused as refused:
        problem = classify(error=refused.error, message=refused.message)
        if problem in {AuthProblem.ACCOUNT_TAKEN_DOWN, AuthProblem.ACCOUNT_DEACTIVATED}:
            raise AuthError(problem, session.handle, answer=refused) from refused
        if not _ends_session(refused):
            # Only the server's explicit refusal ends a session.
            answered = (refused.status, refused.error, refused.message)
            raise ServiceUnavailable(refused.server_url, _REFRESH, *answered) from refused
        raise
    renewed, problem = _read_session(answer, session.pds_url, received_at, _REFRESH)
    renewed, moved_to = _at_home(session.pds_url, renewed, directory_url)
    if moved_to:
        message = f"The account is at {moved_to} now."
        raise RequestRefused(session.pds_url, _REFRESH, HTTPStatus.OK, message=message)
    return NewSession(renewed, problem)


def create_session(
    service_url: str, account: str, app_password: str, directory_url: str, *, received_at: datetime
) -> NewSession:
    """Sign in.

    Raises:
        AuthError: the server refuses the account, signs nobody in, or the account has left the server.
        RequestRefused: the server refuses for a reason that does not concern the account.
        ServiceUnavailable, RateLimited: the server cannot be asked now, or does not answer like a PDS.
    """
    try:
        answer = xrpc.procedure(service_url, _LOGIN, {"identifier": account, "password": app_password})
    except (RequestRefused, ServiceUnavailable) as refused:
        problem = _problem_of_login(refused)
        if problem is None:
            raise
        raise AuthError(problem, account, answer=refused) from refused
    made, problem = _read_session(answer, service_url, received_at, _LOGIN)
    made, moved_to = _at_home(service_url, made, directory_url)
    if moved_to:
        found = f"the DID document names {moved_to}"
        raise AuthError(AuthProblem.ACCOUNT_MOVED, made.handle, found=found)
    return NewSession(made, problem)


def end_session(session: Session) -> None:
    """End a session at its server; one that has ended already is no error. The app password stays.

    Raises:
        RequestRefused: the server refuses for another reason.
        ServiceUnavailable, RateLimited: the server cannot be asked now.
    """
    try:
        xrpc.procedure(session.pds_url, _LOGOUT, auth=xrpc.BearerToken(session.refresh_token))
    except RequestRefused as refused:
        if not _ends_session(refused):
            raise


def is_unknown_method(answer: ServiceError) -> bool:
    """Return whether a server speaks XRPC and does not have the method, so that it is no PDS.

    Bluesky's AppView answers `createSession` with 501 MethodNotImplemented.
    """
    return answer.error is not None and answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED}


def _problem_of_login(refused: ServiceError) -> AuthProblem | None:
    """Return the problem of a refused login, or None if the refusal does not concern the account."""
    if is_unknown_method(refused):
        return AuthProblem.WRONG_SERVICE
    if refused.error == "AuthenticationRequired":
        return AuthProblem.APP_PASSWORD_REJECTED  # for any message: a too long password, for example, has another one
    return classify(error=refused.error, message=refused.message)


def _at_home(server_url: str, session: PasswordSession, directory_url: str) -> tuple[PasswordSession, str | None]:
    """Return a session that is used where its token is good, and the PDS that the account has moved to.

    A server may sign in for others: its token is then not for itself. The DID document in an answer may be an hour old,
    as a PDS keeps the documents that it has read. So the directory has the last word.
    """
    if signs_in_at(server_url, session.pds_url) or session.audience != did_of_server(server_url):
        return session, None
    home = session.pds_url
    with suppress(ServiceError):
        home = pds_in(did_document(session.did, directory_url, timeout=PATIENCE)) or home
    if signs_in_at(server_url, home):
        return replace(session, pds_url=server_url), None
    return session, home


def _read_session(
    answer: Mapping[str, Any], server_url: str, received_at: datetime, method: str
) -> tuple[PasswordSession, AuthProblem | None]:
    """Return the session in an answer, and the problem that forbids its use."""
    session = session_from_answer(answer, server_url=server_url, received_at=received_at, method=method)
    is_inactive = answer.get("active") is False
    return session, problem_of_status(str(answer.get("status"))) if is_inactive else None


def _ends_session(refused: RequestRefused) -> bool:
    if is_token_refusal(error=refused.error, message=refused.message):
        return True
    # The answer of a PDS for a deleted account.
    deleted = refused.error == "InvalidRequest" and "user info" in (refused.message or "")
    return deleted or refused.error in {"AccountNotFound", "AuthenticationRequired", "AuthMissing", "MissingTokenId"}


def session_from_answer(
    answer: Mapping[str, Any], *, server_url: str, received_at: datetime, method: str = _LOGIN
) -> PasswordSession:
    """Return the session in an answer of `createSession` or `refreshSession`.

    Raises:
        ServiceUnavailable: there is no session in the answer, which is that of something before the server.
        AuthError: as `PasswordSession`.
    """
    try:
        return PasswordSession(
            did=str(answer["did"]),
            handle=str(answer["handle"]),
            pds_url=pds_in(answer.get("didDoc")) or server_url,
            access_token=str(answer["accessJwt"]),
            refresh_token=str(answer["refreshJwt"]),
            received_at=received_at,
        )
    except KeyError as missing:
        raise ServiceUnavailable(server_url, method, HTTPStatus.OK, message="no session") from missing
