"""The only code that refreshes or logs in: reuse, else refresh, else log in; one at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Literal, TypeVar

from prefect_bluesky.alerts import Reporter, events
from prefect_bluesky.errors import (
    AuthError,
    BlueskyError,
    RateLimited,
    RequestRefused,
    ServiceUnavailable,
    StoreConflict,
    StoreError,
)
from prefect_bluesky.prefect_api import logger
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.account_state import Ledger
from prefect_bluesky.sessions.app_password import AppPassword
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.login import Renewed, create_session, refresh_session
from prefect_bluesky.sessions.policy import NEVER, Limits, Pause
from prefect_bluesky.sessions.refusals import Refusals
from prefect_bluesky.sessions.session import Session, SessionStatus
from prefect_bluesky.sessions.stores.base import SessionStore

Action = Literal["reused", "refreshed", "logged_in"]
Result = TypeVar("Result")


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
        self.ledger = Ledger(account, service_url, store, app_password)
        self.refusals = Refusals(self.ledger, limits, reporter, now)
        self._worker_lock = lock
        self._limits = limits
        self._reporter = reporter
        self._now = now

        self._thread_lock = Lock()
        self._session: Session | None = None
        self._refresh_at = NEVER
        self._refresh_pause, self._save_pause = Pause(now), Pause(now)
        self._unsaved = False

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
        if session is not None and suffices(session) and not self._must_save() and self.refusals.is_settled:
            return self._status(session, "reused")
        return self._status(*self._renew(suffices))

    def session(self) -> Session:
        """A session to sign a call with.

        Raises: as `ensure`.
        """
        session = self._session
        if session is not None and not self._is_due(session, self._limits.min_validity) and not self.refusals.stands:
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

    def note(self, error: AuthError) -> None:
        """Remember that the account was refused in a call that was signed rightly, and tell of it.

        Args:
            error: why.
        """
        self._unabandoned(self._note_now, error)

    def _note_now(self, error: AuthError) -> None:
        with self._thread_lock, self._worker_lock():
            self._read_again()
            # Of these a refresh tells when they are over, of others only a new session.
            shows_at_refresh = error.problem in {AuthProblem.ACCOUNT_DEACTIVATED, AuthProblem.ACCOUNT_TAKEN_DOWN}
            if not shows_at_refresh:
                self._session = None
            self.refusals.remember(error, ends_session=not shows_at_refresh)

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
        if not self._refresh_pause.is_over:
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
        return self._unsaved and self._save_pause.is_over

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
                self.refusals.report_unstored(error)
                raise
            self.refusals.report_end_of_unstored()
            return renewed

    def _reuse_or_renew(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        if self._session is None:
            self._read()
        elif self._must_save():
            self._save(self._session)
        if not self.refusals.has_news:
            if self._session is not None and suffices(self._session) and not self.refusals.stands:
                return self._session, "reused"
            self.refusals.stop()
        with self._worker_lock():
            self._read_again()
            self.refusals.report()
            if self._session is not None and suffices(self._session) and not self.refusals.stands:
                return self._session, "reused"
            self.refusals.stop()
            return self._refresh_or_log_in(suffices)

    def _read_again(self) -> None:
        """Another worker may have renewed the session while this one waited for the lock."""
        try:
            self._read()
        except StoreError:
            # With a session in hand it can be refreshed, and saved when the store is well. Without one, a login would
            # spend what is scarce although a session may lie there.
            if self._session is None:
                raise

    def _read(self) -> None:
        """Take over what lies in the store and is not known yet; the session, if our app password made it."""
        if not self.ledger.read():
            return
        self.refusals.adopt()
        document = self.ledger.document
        if document.made_with is None:
            return
        if not self.ledger.is_ours(document.made_with):
            if document.session is not None:
                logger().warning(
                    "%s: the stored session was made with another app password. Blocks of one account should share one:"
                    " otherwise each signs in over the other.",
                    self.account,
                )
            return
        self.ledger.made_with = document.made_with
        if document.session is not None:
            self._unsaved = False
            self._use(document.session)

    def _use(self, session: Session) -> None:
        self._session = session
        self.ledger.meet(session.did, session.handle)
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
                self._refresh_pause.begin()
                if suffices(session) and not self.refusals.stands:
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
            self.ledger.check_did(refreshed.session.did)
        except AuthError as error:
            self.refusals.remember(error)
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
        self.ledger.read_app_password()
        for last in (False, False, True):
            known = self.ledger.document
            if len(known.logins_of_the_day(self._now())) >= self._limits.max_logins_per_day:
                spent = AuthError(AuthProblem.LOGIN_LIMIT_REACHED, self.account)
                self.refusals.remember(spent)
                raise spent
            try:
                self.ledger.write(known.with_login(self._now()))
                break
            except StoreConflict:
                if last:
                    raise
                self._read()
                if self._session is not None and suffices(self._session):
                    return self._session
                self.refusals.stop()
        return None

    def _log_in(self) -> Session:
        ledger = self.ledger
        try:
            made = create_session(ledger.service_url, self.account, ledger.app_password, received_at=self._now())
            ledger.check_did(made.session.did)
        except AuthError as error:
            self._session = None
            self.refusals.remember(error, ends_session=True)
            raise
        return self._keep(made, events.SESSION_CREATED)

    def _keep(self, renewed: Renewed, event: str) -> Session:
        """Save a new session over the stale one, then use it; or the one of a worker that was faster."""
        session = renewed.session
        if renewed.problem is None:
            self.refusals.end(by_login=event == events.SESSION_CREATED)
        self._save(session)
        if renewed.problem is not None:
            # Saved all the same: the older refresh token is spent.
            error = AuthError(renewed.problem, self.account)
            self.refusals.remember(error)
            raise error
        self.refusals.report()
        if self._session is not session and self._session is not None:
            return self._session
        done = "session refreshed" if event == events.SESSION_REFRESHED else "signed in"
        until = f"{session.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        logger().info("%s (%s): %s, valid until %s UTC", session.handle, session.did, done, until)
        events.emit(event, session, block_id=self._reporter.block_id)
        return session

    def _save(self, session: Session) -> None:
        ledger = self.ledger
        if ledger.made_with is None:
            ledger.made_with = Fingerprint.of(ledger.credential)
        document = ledger.document.with_session(session, ledger.made_with).with_refusal(self.refusals.current)
        try:
            ledger.write(document)
        except StoreConflict:
            self._use(session)
            self._unsaved = True
            self._adopt_winner()
        except StoreError as trouble:
            # The older refresh token, which lies in the store, works for 2 more hours: time for the store to return.
            self._use(session)
            self._unsaved = True
            self._save_pause.begin()
            logger().error("%s: the session could not be saved, publishing goes on: %s", self.account, trouble)
            events.emit(events.SESSION_UNSAVED, session, reason=str(trouble))
        else:
            self._unsaved = False
            self._use(session)

    def _adopt_winner(self) -> None:
        try:
            self._read()
        except StoreError as trouble:
            logger().warning("%s: the session of a faster worker could not be read: %s", self.account, trouble)
