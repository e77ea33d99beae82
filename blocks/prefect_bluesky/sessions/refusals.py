"""Why an account cannot be used: remembered for all workers, told to Prefect once, and not asked again in vain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from prefect_bluesky.alerts import Incident, Reporter, lost_alert
from prefect_bluesky.errors import AuthError, BlueskyError, RequestRefused, StoreError
from prefect_bluesky.prefect_api import api_at_hand, logger
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.account_state import Ledger
from prefect_bluesky.sessions.document import Refusal, SessionDocument
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.policy import Limits, Pause


class Refusals:
    """The refusal of one account that stands, if one does.

    What changes it is done by one worker at a time, under the account's lock.

    Args:
        ledger: where it is remembered.
        limits: how long it is not asked again.
        reporter: tells Prefect.
        now: the clock.
    """

    def __init__(self, ledger: Ledger, limits: Limits, reporter: Reporter, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._limits = limits
        self._reporter = reporter
        self._now = now
        self._pause = Pause(now)
        self._refusal: Refusal | None = None
        self._unstored: Incident | None = None
        self.stands = False
        """Whether there is one, and it is of our app password."""

    @property
    def current(self) -> Refusal | None:
        """The refusal, of whichever app password, or one that is over and of whose end Prefect has not heard."""
        return self._refusal

    @property
    def has_news(self) -> bool:
        """Whether Prefect is to be told of something now."""
        return self._refusal is not None and self._refusal.is_news and self._pause.is_over and api_at_hand()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do about one."""
        return not self.stands and self._unstored is None and not self.has_news

    def adopt(self) -> None:
        """Take over what the ledger has read."""
        document = self._ledger.document
        ours = next((each for each in document.open_refusals if self._ledger.is_ours(each.credential)), None)
        # A script has met it first, and now the saved block has.
        if ours is not None and not ours.alerts and self._may_alert():
            ours = replace(ours, alerts=True)
        self._refusal, self.stands = ours or document.refusal, ours is not None

    def stop(self) -> None:
        """Fail at once while what was refused has not changed: asking again would spend a login, and tell nothing.

        Raises:
            AuthError: it was refused a while ago, and is not asked.
        """
        refusal = self._refusal
        if refusal is None or not refusal.is_open:
            return
        rest = self._limits.refusal_cool_down if refusal.spent_login else self._limits.probe_interval
        if not timedelta() <= self._now() - refusal.last_seen < rest:
            return
        self._ledger.read_app_password()
        if refusal.credential.matches(self._ledger.credential):
            raise AuthError(refusal.problem, self._ledger.account)

    def remember(self, error: AuthError, *, ends_session: bool = False) -> None:
        """Let all workers know that the account cannot be used, and tell Prefect if that is new.

        Args:
            error: why; what a server said is its cause.
            ends_session: whether only a login can show that it is over.
        """
        known, credential, said = self._ledger.document, self._ledger.credential, error.__cause__
        before = next((each for each in known.open_refusals if _goes_on(each, error, credential)), None)
        self._refusal = Refusal(
            problem=error.problem,
            credential=before.credential if before else Fingerprint.of(credential),
            first_seen=before.first_seen if before else self._now(),
            last_seen=self._now(),
            http_status=said.status if isinstance(said, RequestRefused) else None,
            xrpc_error=said.error if isinstance(said, RequestRefused) else None,
            spent_login=ends_session or (before is not None and before.spent_login),
            is_told=before is not None and before.is_told,
            alerts=(before is not None and before.alerts) or self._may_alert(),
        )
        self.stands = True
        # The session that this app password made is dead; one that another app password made is not ours to end.
        if ends_session and known.made_with is not None and self._ledger.is_ours(known.made_with):
            known = replace(known, session=None)
        self._save(known.with_refusal(self._refusal))
        self.report()

    def end(self, *, by_login: bool) -> None:
        """The account can be used again; that is saved with its session.

        Args:
            by_login: whether it has signed in, which ends a refusal of whichever app password. A refresh ends one of
                its own, and one of another app password that nobody seems to use any more.
        """
        refusal = self._refusal
        if refusal is None or not refusal.is_open:
            return
        if by_login or self.stands or self._is_forsaken(refusal):
            self._refusal = replace(refusal, ended_at=self._now()) if refusal.alerts else None
        self.stands = False

    def _is_forsaken(self, refusal: Refusal) -> bool:
        return self._now() - refusal.last_seen > self._limits.refusal_cool_down + timedelta(hours=1)

    def report(self) -> None:
        """Tell Prefect what is new, once: whatever a worker could not tell, or died telling, the next one tells."""
        refusal = self._refusal
        if refusal is None or not self.has_news:
            return
        report = self._reporter.failed if refusal.is_open else self._reporter.recovered
        if not self._told(report, self._incident(refusal)):
            self._pause.begin()
            return
        self._refusal = replace(refusal, is_told=True) if refusal.is_open else None
        self._save(self._ledger.document.with_refusal(self._refusal))

    def repeat_lost_report(self) -> None:
        """Tell again of what stops the account, if it was told and the alert has reached nobody."""
        refusal = self._refusal
        if refusal is None or not (refusal.is_open and refusal.is_told and api_at_hand()):
            return
        incident = self._incident(refusal)
        attempt = lost_alert(incident, self._now())
        if attempt is not None:
            self._told(self._reporter.failed, incident, attempt=attempt)

    def report_unstored(self, error: BlueskyError) -> None:
        """Tell of what stops the account and cannot be remembered in its store, as that is what fails."""
        problem = error.problem
        if problem is None or not error.stops_account or not self._pause.is_over or not api_at_hand():
            return
        if problem in {self._refusal and self._refusal.problem, self._unstored and self._unstored.problem}:
            return
        if not self._may_alert():
            return
        ledger = self._ledger
        incident = Incident(ledger.account, ledger.service_url, problem, self._now(), is_stored=False)
        if self._told(self._reporter.failed, incident):
            self._unstored = incident
        else:
            self._pause.begin()

    def report_end_of_unstored(self) -> None:
        """Tell that what `report_unstored` told of is over."""
        if self._unstored and self._told(self._reporter.recovered, self._unstored):
            self._unstored = None

    def _may_alert(self) -> bool:
        return self._reporter.may_alert(self._ledger.account, self._ledger.service_url)

    def _told(self, report: Callable[..., bool], incident: Incident, **more: int) -> bool:
        try:
            return report(incident, did=self._ledger.did, handle=self._ledger.handle, **more)
        except Exception as trouble:
            # A reporter may be somebody else's. What stops it must stop no account, and its text may hold secrets.
            logger().warning("An incident of %s could not be told: %s", self._ledger.account, type(trouble).__name__)
            return False

    def _incident(self, refusal: Refusal) -> Incident:
        return Incident(
            account=self._ledger.account,
            service_url=self._ledger.service_url,
            problem=refusal.problem,
            first_seen=refusal.first_seen,
            http_status=refusal.http_status,
            xrpc_error=refusal.xrpc_error,
        )

    def _save(self, document: SessionDocument) -> None:
        try:
            self._ledger.write(document)
        except StoreError as trouble:
            logger().warning("%s: the refusal is remembered by this process only: %s", self._ledger.account, trouble)


def _goes_on(before: Refusal, error: AuthError, credential: str) -> bool:
    """Whether a refusal is the same as one before, rather than a new one that people have to hear of."""
    if before.problem is not error.problem:
        return False
    # The day's logins are the account's, whichever app password has spent them.
    return error.problem is AuthProblem.LOGIN_LIMIT_REACHED or before.credential.matches(credential)
