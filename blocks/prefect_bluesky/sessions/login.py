"""The two calls that make a session, and what a server's refusal of them means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect_bluesky.errors import AuthError, RequestRefused, ServiceUnavailable
from prefect_bluesky.problems import AuthProblem, classify, is_token_refusal, problem_of_status
from prefect_bluesky.protocol import pds_in, xrpc
from prefect_bluesky.sessions.session import Session

_REFRESH = "com.atproto.server.refreshSession"
_LOGIN = "com.atproto.server.createSession"


@dataclass(frozen=True)
class LoginResult:
    """What a server gave.

    Args:
        session: the session.
        problem: why the account may not be used with it, if it may not: a deactivated one can sign in.
    """

    session: Session
    problem: AuthProblem | None


def refresh_session(session: Session, *, received_at: datetime) -> LoginResult:
    """A new session for a session's refresh token.

    Raises:
        RequestRefused: the server's word that the session is over.
        AuthError: the account is taken down or deactivated.
        ServiceUnavailable, RateLimited: the server cannot be asked now, or does not answer as a PDS does.
    """
    try:
        answer = xrpc.procedure(session.pds_url, _REFRESH, auth=xrpc.BearerToken(session.refresh_token))
    except RequestRefused as refused:
        problem = classify(error=refused.error, message=refused.message)
        if problem in {AuthProblem.ACCOUNT_TAKEN_DOWN, AuthProblem.ACCOUNT_DEACTIVATED}:
            raise AuthError(problem, session.handle, answer=refused) from refused
        if not _ends_session(refused):
            # Only the server's explicit word ends a session; a proxy's page or a firewall's 403 does not.
            raise ServiceUnavailable(
                refused.server_url, _REFRESH, refused.status, refused.error, refused.message
            ) from refused
        raise
    if "accessJwt" not in answer:
        raise ServiceUnavailable(session.pds_url, _REFRESH, 200, message="an answer without a session")
    return _login_result(answer, session.pds_url, received_at)


def create_session(service_url: str, account: str, app_password: str, *, received_at: datetime) -> LoginResult:
    """Sign in.

    Raises:
        AuthError: the server refuses, or answers without a session (`wrong_service`).
        RequestRefused: it refuses for a reason that is not about the account.
        ServiceUnavailable, RateLimited: it cannot be asked now.
    """
    try:
        answer = xrpc.procedure(service_url, _LOGIN, {"identifier": account, "password": app_password})
    except RequestRefused as refused:
        problem = _problem_of_login(refused)
        if problem is None:
            raise
        raise AuthError(problem, account, answer=refused) from refused
    return _login_result(answer, service_url, received_at)


def _problem_of_login(refused: RequestRefused) -> AuthProblem | None:
    """Why a login was refused, or None if the refusal is not about the account."""
    if refused.error == "AuthenticationRequired":
        return AuthProblem.APP_PASSWORD_REJECTED  # with whatever message: there are others, as for one that is too long
    return classify(error=refused.error, message=refused.message)


def _login_result(answer: Mapping[str, Any], server_url: str, received_at: datetime) -> LoginResult:
    session = session_from_answer(answer, server_url=server_url, received_at=received_at)
    problem = None
    if answer.get("active") is False:
        problem = problem_of_status(str(answer.get("status")))
    return LoginResult(session, problem)


def _ends_session(refused: RequestRefused) -> bool:
    if is_token_refusal(error=refused.error, message=refused.message):
        return True
    # What a PDS says of a deleted account.
    deleted = refused.error == "InvalidRequest" and "user info" in (refused.message or "")
    return deleted or refused.error in {"AccountNotFound", "AuthenticationRequired", "AuthMissing", "MissingTokenId"}


def session_from_answer(answer: Mapping[str, Any], *, server_url: str, received_at: datetime) -> Session:
    """The session in an answer of `createSession` or `refreshSession`.

    Args:
        answer: the answer's JSON.
        server_url: the server that answered; the PDS, unless the answer's DID document names another.
        received_at: the moment of receipt.
    """
    account = str(answer.get("handle") or answer.get("did") or server_url)
    try:
        return Session(
            did=str(answer["did"]),
            handle=str(answer["handle"]),
            pds_url=pds_in(answer.get("didDoc")) or server_url,
            access_token=str(answer["accessJwt"]),
            refresh_token=str(answer["refreshJwt"]),
            received_at=received_at,
        )
    except KeyError as missing:
        # A server that answers 200 without tokens is no PDS.
        raise AuthError(AuthProblem.WRONG_SERVICE, account) from missing
