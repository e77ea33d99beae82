"""Refusals: create them, decide how long to wait before the next attempt, and decide when they end."""

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
    """Return the refusal to store for an error: a new one, or the earlier one continued.

    `ends_session` means that only a login can show the end of the refusal; `alerts`, that Prefect gets a report.
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
        symptom=error.symptom,
        found=error.found,
    )


def raise_if_recently_refused(state: AccountState, policy: LoginPolicy, now: datetime) -> None:
    """Raise `AuthError` if the account was refused recently with the same app password: a retry only costs a login."""
    refusal = state.refusal
    if refusal is None or not refusal.is_open:
        return
    rest = policy.refusal_cool_down if refusal.spent_login else policy.probe_interval
    if not timedelta() <= now - refusal.last_seen < rest:
        return
    state.read_credential()
    if refusal.credential.matches(state.credential):
        raise AuthError(refusal.problem, state.account, found=refusal.found)


def ends(refusal: Refusal, state: AccountState, policy: LoginPolicy, now: datetime, *, by_login: bool) -> bool:
    """Return True if a new session shows that a refusal is over.

    A login ends the refusal of any app password. A refresh ends the refusal of its own app password, and of another
    app password that seems to be out of use.
    """
    is_forsaken = now - refusal.last_seen > policy.refusal_cool_down + timedelta(hours=1)
    return refusal.is_open and (by_login or state.is_refused or is_forsaken)


def incident_of(state: AccountState, refusal: Refusal) -> Incident:
    """Return the incident to report for a refusal."""
    return Incident(
        state.account,
        state.service_url,
        refusal.problem,
        refusal.first_seen,
        http_status=refusal.http_status,
        xrpc_error=refusal.xrpc_error,
        symptom=refusal.symptom,
        found=refusal.found,
    )


def _goes_on(before: Refusal, error: AuthError, credential: str) -> bool:
    """Return True if an error continues an earlier refusal. Otherwise it is a new incident."""
    if (before.symptom or before.problem) is not error.symptom:
        return False
    # All app passwords of an account share the daily logins.
    return error.symptom is AuthProblem.LOGIN_LIMIT_REACHED or before.credential.matches(credential)
