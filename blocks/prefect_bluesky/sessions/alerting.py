"""Decide whether Prefect hears of an account's refusal, and report its beginning and its end, once each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from prefect_bluesky.alerts import Incident, Reporter, last_unstored, lost_alert, was_told
from prefect_bluesky.errors import AuthError, BlueskyError
from prefect_bluesky.prefect_api import api_at_hand, logger
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.account_state import AccountState
from prefect_bluesky.sessions.policy import Cooldown
from prefect_bluesky.sessions.refusals import incident_of
from prefect_bluesky.sessions.session import Session


class Alerting:
    """The alerts of one account. If a worker fails to send a report, the next worker sends it."""

    def __init__(self, state: AccountState, reporter: Reporter, now: Callable[[], datetime]) -> None:
        self._state, self._reporter, self._now = state, reporter, now
        self._cooldown = Cooldown(now)
        self._unstored: Incident | None = None

    @property
    def may_alert(self) -> bool:
        """True if the incidents of this block are reported."""
        return self._reporter.may_alert(self._state.account, self._state.service_url)

    @property
    def is_due(self) -> bool:
        """True if a report has to be sent now."""
        refusal = self._state.refusal
        if refusal is None or not self._cooldown.is_over or not api_at_hand():
            return False
        # The second case: a script met the refusal first, and now the saved block does.
        return refusal.is_news or (not refusal.alerts and self._state.is_refused and self.may_alert)

    @property
    def is_settled(self) -> bool:
        """True if the account is not refused and no report is pending."""
        return not self._state.is_refused and self._unstored is None and not self.is_due

    def send(self) -> None:
        """Send the pending report, if there is one."""
        refusal = self._state.refusal
        if refusal is None or not self.is_due:
            return
        report = self._reporter.failed if refusal.is_open else self._reporter.recovered
        if self._sent(report, incident_of(self._state, refusal)):
            self._state.mark_reported()
        else:
            self._cooldown.begin()

    def repeat_lost_alert(self) -> None:
        """Report the open refusal again if its alert has reached nobody."""
        refusal = self._state.refusal
        if refusal is None or not (refusal.is_open and refusal.is_told and api_at_hand()):
            return
        incident = incident_of(self._state, refusal)
        attempt = lost_alert(incident, self._now())
        if attempt is not None:
            self._sent(self._reporter.failed, incident, attempt=attempt)

    def tell_missing_right(self, error: AuthError) -> None:
        """Report that the session lacks a right, unless that was reported: a post that is held is tried again."""
        session = self._state.session
        if session is None or not self.may_alert or not api_at_hand():
            return
        incident = self._missing_right(session, error.found)
        if not was_told(incident):
            self._sent(self._reporter.failed, incident)

    def tell_end_of_missing_right(self, before: Session) -> None:
        """Report that a session with other rights has replaced one that lacked a right, if that was reported."""
        incident = self._missing_right(before)
        if api_at_hand() and was_told(incident):
            self._sent(self._reporter.recovered, incident)

    def _missing_right(self, session: Session, found: str = "") -> Incident:
        state, problem = self._state, AuthProblem.INSUFFICIENT_SCOPE
        return Incident(state.account, state.service_url, problem, session.began_at, found=found)

    def report_unstored(self, error: BlueskyError) -> None:
        """Report an error that stops the account but cannot be stored because the store itself fails."""
        problem, state = error.problem, self._state
        if problem is None or not error.stops_account or not self._cooldown.is_over or not api_at_hand():
            return
        known = {state.refusal and state.refusal.problem, self._unstored and self._unstored.problem}
        if problem in known or not self.may_alert:
            return
        last, is_open = last_unstored(state.account, state.service_url)
        if last is not None and is_open and last.problem is problem:
            # Another worker has told, or a process that has ended.
            self._unstored = last
            return
        after = (last.after if last else None) or ""
        incident = Incident(state.account, state.service_url, problem, self._now(), after=after)
        if self._sent(self._reporter.failed, incident):
            self._unstored = incident
        else:
            self._cooldown.begin()

    def report_end_of_unstored(self, *, is_renewed: bool) -> None:
        """Report the end of the incident that `report_unstored` reported, here or on another worker.

        Prefect is asked about other workers only if the session is new: once in half an hour, not at each gate.
        """
        if self._unstored is None and is_renewed and api_at_hand() and self.may_alert:
            last, is_open = last_unstored(self._state.account, self._state.service_url)
            self._unstored = last if is_open else None
        if self._unstored and self._sent(self._reporter.recovered, self._unstored):
            self._unstored = None

    def _sent(self, report: Callable[..., bool], incident: Incident, **more: int) -> bool:
        try:
            return report(incident, did=self._state.did, handle=self._state.handle, **more)
        except Exception as trouble:
            # Another team may have written the reporter. Its failure must stop no account. Its text may hold secrets.
            logger().warning("An incident of %s could not be reported: %s", self._state.account, type(trouble).__name__)
            return False
