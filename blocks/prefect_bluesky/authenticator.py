"""The only code that refreshes or logs in: reuse, else refresh, else log in; one at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Literal, TypeVar

from prefect_bluesky import events
from prefect_bluesky.app_passwords import AppPassword
from prefect_bluesky.errors import (
    AuthError,
    BlueskyError,
    RateLimited,
    RequestRefused,
    ServiceUnavailable,
    StoreConflict,
    StoreError,
)
from prefect_bluesky.fingerprint import Fingerprint
from prefect_bluesky.incidents import Incident, Reporter, lost_alert
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.runtime import api_at_hand, logger
from prefect_bluesky.server_sessions import Renewed, create_session, problem_of_login, refresh_session
from prefect_bluesky.session import Session, SessionStatus
from prefect_bluesky.session_document import Refusal, SessionDocument
from prefect_bluesky.session_store import Saved, SessionStore

Action = Literal["reused", "refreshed", "logged_in"]
Result = TypeVar("Result")

_PAUSE = timedelta(seconds=30)
"""How long a refresh, a save or a report that failed for a passing reason is left alone."""

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Limits:
    """What an authenticator may do.

    Args:
        min_validity: how long a session must still be valid for to be reused.
        max_logins_per_day: logins of one account in 24 hours, counted in its store.
        refusal_cool_down: how long a refused app password is not tried again.
        probe_interval: how long an account that is refused otherwise is not tried again: that costs no login.
    """

    min_validity: timedelta = timedelta(minutes=10)
    max_logins_per_day: int = 10
    refusal_cool_down: timedelta = timedelta(hours=6)
    probe_interval: timedelta = timedelta(minutes=10)


class Authenticator:
    """Keeps one account signed in, for all threads of this process.

    Args:
        account: handle or DID, normalised: what logs in, and what the messages name.
        app_password: reads the app password.
        service_url: where to log in.
        store: where the session lies between runs.
        lock: held across workers while a session is renewed.
        limits: what it may do.
        reporter: tells Prefect when the account cannot sign in, and when it can again.
        now: the clock.

    Example:
        >>> authenticator.ensure().action
        'reused'
    """

    def __init__(
        self,
        *,
        account: str,
        app_password: AppPassword,
        service_url: str,
        store: SessionStore,
        lock: Callable[[], AbstractContextManager[None]],
        limits: Limits,
        reporter: Reporter,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.account = account
        self._read_app_password = app_password
        self._service_url = service_url
        self._store = store
        self._worker_lock = lock
        self._limits = limits
        self._reporter = reporter
        self._now = now

        self._thread_lock = Lock()
        self._did = account if account.startswith("did:") else None
        self._handle = account
        self._session: Session | None = None
        self._refresh_at = self._refresh_paused_until = self._save_paused_until = self._report_paused_until = _NEVER
        self._unsaved = False
        self._saved: Saved | None = None  # what lies in the store, whoever's session it is
        self._app_password: str | None = None  # as last read
        self._made_with: Fingerprint | None = None  # the fingerprint of that one, once it is known
        self._refusal: Refusal | None = None
        self._is_refused = False  # whether that one stands, and is of our app password
        self._unstored: Incident | None = None  # one that could not be remembered in the store

    def __repr__(self) -> str:
        return f"Authenticator({self.account!r}, {self._session!r})"

    def ensure(self, min_validity: timedelta | None = None, *, max_age: timedelta | None = None) -> SessionStatus:
        """Have a valid session: the gate.

        Args:
            min_validity: how long it must still be valid for; by default as constructed.
            max_age: how long ago the server may have given it; by default, however long.

        Raises:
            AuthError: the account cannot sign in.
            ServiceUnavailable, RateLimited: the server cannot be asked now, and no valid session is left.
            StoreError: the stored session cannot be read, so it is not known whether a login is needed.
        """
        wanted = self._limits.min_validity if min_validity is None else min_validity

        def suffices(session: Session) -> bool:
            age = self._now() - session.received_at
            return not self._is_due(session, wanted) and (max_age is None or timedelta() <= age <= max_age)

        session = self._session
        if session is not None and suffices(session) and not self._has_to_do():
            return self._status(session, "reused")
        return self._status(*self._renew(suffices))

    def session(self) -> Session:
        """A session to sign a call with.

        Raises: as `ensure`.
        """
        session = self._session
        if session is not None and not self._is_due(session, self._limits.min_validity) and not self._is_refused:
            return session
        return self._renew(lambda session: not self._is_due(session, self._limits.min_validity))[0]

    def recover(self, refused: Session) -> Session:
        """Another session than one whose access token a server has refused.

        Args:
            refused: the session that the refused call was signed with.

        Raises: as `ensure`.
        """
        return self._renew(
            lambda session: session.received_at > refused.received_at and self._now() < session.expires_at
        )[0]

    def refresh(self) -> SessionStatus:
        """Refresh the stored session now, whether it is due or not, and never sign in: for a diagnosis.

        Raises:
            RequestRefused: the server has ended the session.
            AuthError, ServiceUnavailable, RateLimited, StoreError: as `ensure`.
        """
        return self._unabandoned(self._refresh_now)

    def log_in(self) -> SessionStatus:
        """Sign in now, even if the app password was refused a moment ago: for a person who asks for it.

        Raises: as `ensure`; the day's logins are counted.
        """
        return self._unabandoned(self._log_in_now)

    def repeat_lost_report(self) -> None:
        """Tell again of what stops the account, if it was told and the alert has reached nobody."""
        refusal = self._refusal
        if refusal is None or not (refusal.is_open and refusal.is_told and api_at_hand()):
            return
        incident = self._incident(refusal)
        attempt = lost_alert(incident, self._now())
        if attempt is not None:
            self._reporter.failed(incident, did=self._known_did(), handle=self._handle, attempt=attempt)

    @property
    def did(self) -> str | None:
        """The account's DID, if it is known here."""
        return self._known_did()

    def note(self, error: AuthError) -> None:
        """Remember that the account was refused in a call that was signed rightly, and tell of it.

        Args:
            error: why.
        """
        self._unabandoned(self._note_now, error)

    def _note_now(self, error: AuthError) -> None:
        with self._thread_lock, self._worker_lock():
            self._read_again()
            self._remember(error)

    def _refresh_now(self) -> SessionStatus:
        with self._thread_lock, self._worker_lock():
            self._read_again()
            if self._session is None:
                raise AuthError(AuthProblem.SESSION_REVOKED, self.account)
            return self._status(self._refresh(self._session), "refreshed")

    def _log_in_now(self) -> SessionStatus:
        with self._thread_lock, self._worker_lock():
            self._read_again()
            self._claim_login(lambda session: False)
            return self._status(self._log_in(), "logged_in")

    def _is_due(self, session: Session, wanted: timedelta) -> bool:
        now = self._now()
        if now < self._refresh_paused_until:
            return now >= session.expires_at
        # What the server's tokens can never give is not insisted on: each gate would refresh.
        needed = wanted if wanted < session.lifetime else session.lifetime / 3
        return now >= min(self._refresh_at, session.expires_at - needed)

    def _status(self, session: Session, action: Action) -> SessionStatus:
        return SessionStatus(
            did=session.did,
            handle=session.handle,
            pds_url=session.pds_url,
            expires_at=session.expires_at,
            action=action,
        )

    def _must_save(self) -> bool:
        return self._unsaved and self._is_over(self._save_paused_until)

    def _must_report(self) -> bool:
        has_news = self._refusal is not None and self._refusal.is_news
        return has_news and self._is_over(self._report_paused_until) and api_at_hand()

    def _is_over(self, pause: datetime) -> bool:
        # A clock that was set back must not make a pause longer.
        return not self._now() < pause <= self._now() + _PAUSE

    def _has_to_do(self) -> bool:
        """Whether there is something that a valid session does not settle."""
        return self._is_refused or self._unstored is not None or self._must_save() or self._must_report()

    def _renew(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        return self._unabandoned(self._renew_one_at_a_time, suffices)

    @staticmethod
    def _unabandoned(work: Callable[..., Result], *arguments: object) -> Result:
        """Work in a thread of its own: what ends the caller, a timeout or Ctrl-C, must not end a refresh halfway.

        The run's context goes along: the logger, the API and the lock are found through it.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bluesky-session")
        try:
            return thread.submit(copy_context().run, work, *arguments).result()
        finally:
            thread.shutdown(wait=False)

    def _renew_one_at_a_time(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        with self._thread_lock:
            try:
                renewed = self._reuse_or_renew(suffices)
            except BlueskyError as error:
                self._report_unstored(error)
                raise
            self._report_end_of_unstored()
            return renewed

    def _reuse_or_renew(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        if self._session is None:
            self._adopt(self._store.load())
        elif self._must_save():
            self._save(self._session)
        if not self._must_report():
            if self._session is not None and suffices(self._session) and not self._is_refused:
                return self._session, "reused"
            self._stop_if_refused()
        with self._worker_lock():
            self._read_again()
            self._report()
            if self._session is not None and suffices(self._session) and not self._is_refused:
                return self._session, "reused"
            self._stop_if_refused()
            return self._refresh_or_log_in(suffices)

    def _read_again(self) -> None:
        """Another worker may have renewed the session while this one waited for the lock."""
        try:
            self._adopt(self._store.load())
        except StoreError:
            # With a session in hand it can be refreshed, and saved when the store is well. Without one, a login would
            # spend what is scarce although a session may lie there.
            if self._session is None:
                raise

    def _adopt(self, saved: Saved | None) -> None:
        """Take over what lies in the store and is not known yet; the session, if our app password made it."""
        if saved == self._saved:
            return
        if saved is not None:
            self._check_did(saved.document.did)
        self._saved = saved
        document = saved.document if saved else SessionDocument()
        self._refusal = document.refusal
        self._is_refused = (
            self._refusal is not None and self._refusal.is_open and self._is_ours(self._refusal.credential)
        )
        if document.made_with is None:
            return
        if not self._is_ours(document.made_with):
            if document.session is not None:
                logger().warning(
                    "%s: the stored session was made with another app password. Blocks of one account should share one:"
                    " otherwise each signs in over the other.",
                    self.account,
                )
            return
        self._made_with = document.made_with
        if document.session is not None:
            self._unsaved = False
            self._use(document.session)

    def _is_ours(self, fingerprint: Fingerprint) -> bool:
        if fingerprint == self._made_with:
            return True
        return fingerprint.matches(self._credential()) or (
            # The app password may have been replaced since it was last read.
            self._app_password != self._read_app_password() and fingerprint.matches(self._credential(anew=True))
        )

    def _credential(self, *, anew: bool = False) -> str:
        """The app password with the service that it is for."""
        if anew or self._app_password is None:
            app_password = self._read_app_password()
            if app_password != self._app_password:
                self._app_password, self._made_with = app_password, None
        return f"{self._service_url} {self._app_password}"

    def _stop_if_refused(self) -> None:
        """Fail at once while what was refused has not changed: asking again would spend a login and tell nothing."""
        refusal = self._refusal
        if refusal is None or not refusal.is_open:
            return
        rest = self._limits.refusal_cool_down if refusal.spent_login else self._limits.probe_interval
        if not timedelta() <= self._now() - refusal.last_seen < rest:
            return
        if refusal.credential.matches(self._credential(anew=True)):
            raise AuthError(refusal.problem, self.account)

    def _use(self, session: Session) -> None:
        self._session, self._handle = session, session.handle
        # Somewhere in the last third, so that workers do not meet. An estimate from a clock that ran backwards since
        # is no worse than that: the server has the last word.
        self._refresh_at = session.expires_at - session.lifetime / 3 * random.random()

    def _refresh_or_log_in(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        session = self._session
        if session is not None:
            try:
                return self._refresh(session), "refreshed"
            except RequestRefused as ended:
                logger().info("%s: the session has ended (%s), signing in anew", self.account, ended)
            except (ServiceUnavailable, RateLimited) as trouble:
                # A refresh ahead of time can wait; one after a refusal, or after the end, cannot.
                self._refresh_paused_until = self._now() + _PAUSE
                if suffices(session) and not self._is_refused:
                    logger().warning("%s: the session could not be refreshed yet (%s)", self.account, trouble)
                    return session, "reused"
                raise
        saved_meanwhile = self._claim_login(suffices)
        if saved_meanwhile is not None:
            return saved_meanwhile, "reused"
        return self._log_in(), "logged_in"

    def _refresh(self, session: Session) -> Session:
        try:
            refreshed = refresh_session(session, received_at=self._now())
            self._check_did(refreshed.session.did)
        except AuthError as error:
            self._remember(error)
            raise
        return self._keep(refreshed, events.SESSION_REFRESHED)

    def _claim_login(self, suffices: Callable[[Session], bool]) -> Session | None:
        """Count a login in the store before it is sent, so that one counts whose worker dies in it.

        Returns:
            the session that another worker saved meanwhile, which makes the login needless; None if it was counted.

        Raises:
            AuthError: the day's logins are spent.
            StoreError: it cannot be counted.
            InvalidInput: there is no app password to sign in with; nothing was counted.
        """
        self._credential(anew=True)
        for last in (False, False, True):
            known = self._saved.document if self._saved else SessionDocument()
            if len(known.logins_of_the_day(self._now())) >= self._limits.max_logins_per_day:
                spent = AuthError(AuthProblem.LOGIN_LIMIT_REACHED, self.account)
                self._remember(spent)
                raise spent
            try:
                self._saved = self._store.save(known.with_login(self._now()), self._saved)
                break
            except StoreConflict:
                if last:
                    raise
                self._adopt(self._store.load())
                if self._session is not None and suffices(self._session):
                    return self._session
                self._stop_if_refused()
        return None

    def _log_in(self) -> Session:
        try:
            made = create_session(self._service_url, self.account, self._app_password or "", received_at=self._now())
            self._check_did(made.session.did)
        except RequestRefused as refused:
            problem = problem_of_login(refused)
            if problem is None:
                raise
            error = AuthError(problem, self.account)
            error.__cause__ = refused
            self._remember(error, spent_login=True)
            raise error from refused
        except AuthError as error:
            self._remember(error, spent_login=True)
            raise
        if self._refusal is not None and made.problem is None:
            # Whichever app password was refused before: the account can sign in.
            self._refusal = replace(self._refusal, ended_at=self._refusal.ended_at or self._now())
        return self._keep(made, events.SESSION_CREATED)

    def _remember(self, error: AuthError, *, spent_login: bool = False) -> None:
        """Let all workers know that the account cannot be used, and tell Prefect if that is new."""
        known = self._saved.document if self._saved else SessionDocument()
        credential, refused = self._credential(), error.__cause__
        before = known.refusal
        if before is not None and not (
            before.is_open and before.problem is error.problem and before.credential.matches(credential)
        ):
            before = None
        self._refusal = Refusal(
            problem=error.problem,
            credential=before.credential if before else Fingerprint.of(credential),
            first_seen=before.first_seen if before else self._now(),
            last_seen=self._now(),
            http_status=refused.status if isinstance(refused, RequestRefused) else None,
            xrpc_error=refused.error if isinstance(refused, RequestRefused) else None,
            spent_login=spent_login or (before is not None and before.spent_login),
            is_told=before is not None and before.is_told,
        )
        self._is_refused = True
        document = replace(known, refusal=self._refusal)
        if spent_login:
            self._session = None
            # The session that this app password made is dead; one that another app password made is not ours to end.
            if known.made_with is not None and self._is_ours(known.made_with):
                document = replace(document, session=None)
        self._save_refusal(document)
        self._report()

    def _save_refusal(self, document: SessionDocument) -> None:
        try:
            self._saved = self._store.save(document, self._saved)
        except StoreError as trouble:
            logger().warning("%s: the refusal is remembered by this process only: %s", self.account, trouble)

    def _report(self) -> None:
        """Tell Prefect what is new, once: whatever a worker could not tell, or died telling, the next one tells."""
        refusal = self._refusal
        if refusal is None or not self._must_report():
            return
        incident = self._incident(refusal)
        report = self._reporter.failed if refusal.is_open else self._reporter.recovered
        if not report(incident, did=self._known_did(), handle=self._handle):
            self._report_paused_until = self._now() + _PAUSE
            return
        self._refusal = replace(refusal, is_told=True) if refusal.is_open else None
        known = self._saved.document if self._saved else SessionDocument()
        self._save_refusal(replace(known, refusal=self._refusal))

    def _incident(self, refusal: Refusal) -> Incident:
        return Incident(
            account=self.account,
            service_url=self._service_url,
            problem=refusal.problem,
            first_seen=refusal.first_seen,
            http_status=refusal.http_status,
            xrpc_error=refusal.xrpc_error,
        )

    def _report_unstored(self, error: BlueskyError) -> None:
        """Tell of what stops the account and cannot be remembered in its store, as that is what fails."""
        problem = error.problem
        may_report = api_at_hand() and self._is_over(self._report_paused_until)
        if problem is None or not error.stops_account or not may_report:
            return
        if problem in {self._refusal and self._refusal.problem, self._unstored and self._unstored.problem}:
            return
        incident = Incident(self.account, self._service_url, problem, self._now(), is_stored=False)
        if self._reporter.failed(incident, did=self._known_did(), handle=self._handle):
            self._unstored = incident
        else:
            self._report_paused_until = self._now() + _PAUSE

    def _report_end_of_unstored(self) -> None:
        if self._unstored and self._reporter.recovered(self._unstored, did=self._known_did(), handle=self._handle):
            self._unstored = None

    def _known_did(self) -> str | None:
        stored = self._saved.document.did if self._saved else None
        return self._did or (self._session.did if self._session else None) or stored

    def _check_did(self, did: str | None) -> None:
        """The DID of the first login stays: a handle can be given to somebody else."""
        known = self._known_did()
        if did is not None and known is not None and did != known:
            raise AuthError(AuthProblem.WRONG_ACCOUNT, self.account)

    def _keep(self, renewed: Renewed, event: str) -> Session:
        """Save a new session over the stale one, then use it; or the one of a worker that was faster."""
        session = renewed.session
        if renewed.problem is None and self._is_refused and self._refusal is not None:
            self._refusal = replace(self._refusal, ended_at=self._now())
        self._save(session)
        if renewed.problem is not None:
            # Saved all the same: the older refresh token is spent.
            error = AuthError(renewed.problem, self.account)
            self._remember(error)
            raise error
        self._is_refused = False
        self._report()
        if self._session is not session and self._session is not None:
            return self._session
        done = "session refreshed" if event == events.SESSION_REFRESHED else "signed in"
        until = f"{session.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        logger().info("%s (%s): %s, valid until %s UTC", session.handle, session.did, done, until)
        events.emit(event, session, block_id=self._reporter.block_id)
        return session

    def _save(self, session: Session) -> None:
        known = self._saved.document if self._saved else SessionDocument()
        if self._made_with is None:
            self._made_with = Fingerprint.of(self._credential())
        document = replace(known.with_session(session, self._made_with), refusal=self._refusal)
        try:
            self._saved = self._store.save(document, self._saved)
        except StoreConflict:
            self._use(session)
            self._unsaved = True
            self._adopt_winner()
        except StoreError as trouble:
            # The older refresh token, which lies in the store, works for 2 more hours: time for the store to return.
            self._use(session)
            self._unsaved = True
            self._save_paused_until = self._now() + _PAUSE
            logger().error("%s: the session could not be saved, publishing goes on: %s", self.account, trouble)
            events.emit(events.SESSION_UNSAVED, session, reason=str(trouble))
        else:
            self._unsaved = False
            self._use(session)

    def _adopt_winner(self) -> None:
        try:
            self._adopt(self._store.load())
        except StoreError as trouble:
            logger().warning("%s: the session of a faster worker could not be read: %s", self.account, trouble)
