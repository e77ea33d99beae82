"""Log in and refresh: the two calls that make a session, and the meaning of a server's refusals."""

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
    """A new session, and the problem that forbids its use, if any: a deactivated account can sign in."""

    session: Session
    problem: AuthProblem | None


def refresh_session(session: Session, *, received_at: datetime) -> LoginResult:
    """Trade a session's refresh token for a new session.

    Raises:
        RequestRefused: the server says that the session is over.
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
            # Only the server's explicit refusal ends a session. A proxy's page or a firewall's 403 does not.
            answered = (refused.status, refused.error, refused.message)
            raise ServiceUnavailable(refused.server_url, _REFRESH, *answered) from refused
        raise
    if "accessJwt" not in answer:
        raise ServiceUnavailable(session.pds_url, _REFRESH, 200, message="an answer without a session")
    return _login_result(answer, session.pds_url, received_at)


def create_session(service_url: str, account: str, app_password: str, *, received_at: datetime) -> LoginResult:
    """Sign in.

    Raises:
        AuthError: the server refuses the account, or answers without a session (`wrong_service`).
        RequestRefused: the server refuses for a reason that does not concern the account.
        ServiceUnavailable, RateLimited: the server cannot be asked now.
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
    """Return the problem of a refused login, or None if the refusal does not concern the account."""
    if refused.error == "AuthenticationRequired":
        return AuthProblem.APP_PASSWORD_REJECTED  # for any message: a too long password, for example, has another one
    return classify(error=refused.error, message=refused.message)


def _login_result(answer: Mapping[str, Any], server_url: str, received_at: datetime) -> LoginResult:
    session = session_from_answer(answer, server_url=server_url, received_at=received_at)
    is_inactive = answer.get("active") is False
    return LoginResult(session, problem_of_status(str(answer.get("status"))) if is_inactive else None)


def _ends_session(refused: RequestRefused) -> bool:
    if is_token_refusal(error=refused.error, message=refused.message):
        return True
    # The answer of a PDS for a deleted account.
    deleted = refused.error == "InvalidRequest" and "user info" in (refused.message or "")
    return deleted or refused.error in {"AccountNotFound", "AuthenticationRequired", "AuthMissing", "MissingTokenId"}


def session_from_answer(answer: Mapping[str, Any], *, server_url: str, received_at: datetime) -> Session:
    """Return the session in an answer of `createSession` or `refreshSession`.

    Raises:
        AuthError: `wrong_service` if tokens are missing; otherwise as `Session`.
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
        # A server that answers 200 without tokens is not a PDS.
        raise AuthError(AuthProblem.WRONG_SERVICE, account) from missing
