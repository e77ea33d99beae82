"""Refusals as values: what a refused account is remembered by, and for how long it is not asked again."""

from __future__ import annotations

from datetime import datetime, timedelta

from prefect_bluesky.alerts import Incident
from prefect_bluesky.errors import AuthError
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.account_state import AccountState
from prefect_bluesky.sessions.document import Refusal
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.policy import LoginPolicy


def refusal_of(state: AccountState, error: AuthError, now: datetime, *, ends_session: bool, alerts: bool) -> Refusal:
    """Return what to remember of an error: a new refusal, or the earlier one that goes on.

    Args:
        state: the account.
        error: why it is refused.
        now: the time.
        ends_session: whether only a login can show that the refusal is over.
        alerts: whether people are told of it.
    """
    before = next((each for each in state.document.open_refusals if _goes_on(each, error, state.credential)), None)
    return Refusal(
        problem=error.problem,
        credential=before.credential if before else Fingerprint.of(state.credential),
        first_seen=before.first_seen if before else now,
        last_seen=now,
        http_status=error.http_status,
        xrpc_error=error.xrpc_error,
        spent_login=ends_session or (before is not None and before.spent_login),
        is_told=before is not None and before.is_told,
        alerts=alerts or (before is not None and before.alerts),
    )


def raise_if_recently_refused(state: AccountState, policy: LoginPolicy, now: datetime) -> None:
    """Fail at once while what was refused has not changed: asking again would spend a login and tell nothing new.

    Raises:
        AuthError: the account was refused a while ago.
    """
    refusal = state.refusal
    if refusal is None or not refusal.is_open:
        return
    rest = policy.refusal_cool_down if refusal.spent_login else policy.probe_interval
    if not timedelta() <= now - refusal.last_seen < rest:
        return
    state.read_app_password()
    if refusal.credential.matches(state.credential):
        raise AuthError(refusal.problem, state.account)


def ends(refusal: Refusal, state: AccountState, policy: LoginPolicy, now: datetime, *, by_login: bool) -> bool:
    """Return whether a session that the server gave shows that a refusal is over.

    A login ends the refusal of any app password. A refresh ends the refusal of its own app password, and of another one
    that nobody seems to use any more.
    """
    is_forsaken = now - refusal.last_seen > policy.refusal_cool_down + timedelta(hours=1)
    return refusal.is_open and (by_login or state.is_refused or is_forsaken)


def incident_of(state: AccountState, refusal: Refusal) -> Incident:
    """Return the incident that people are told of."""
    return Incident(
        account=state.account,
        service_url=state.service_url,
        problem=refusal.problem,
        first_seen=refusal.first_seen,
        http_status=refusal.http_status,
        xrpc_error=refusal.xrpc_error,
    )


def _goes_on(before: Refusal, error: AuthError, credential: str) -> bool:
    """Return whether a refusal is the same as an earlier one, rather than a new one that people have to hear of."""
    if before.problem is not error.problem:
        return False
    # The day's logins are the account's, whichever app password has spent them.
    return error.problem is AuthProblem.LOGIN_LIMIT_REACHED or before.credential.matches(credential)
