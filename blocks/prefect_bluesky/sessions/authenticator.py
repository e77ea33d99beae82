"""The only code that refreshes or logs in. Reuse a session, else refresh it, else log in; one worker at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import replace
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
    StoreUnavailable,
)
from prefect_bluesky.prefect_api import logger
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.account_state import AccountState
from prefect_bluesky.sessions.alerting import Alerting
from prefect_bluesky.sessions.document import Refusal
from prefect_bluesky.sessions.evidence import Evidence
from prefect_bluesky.sessions.policy import Cooldown, LoginPolicy
from prefect_bluesky.sessions.refusals import ends, raise_if_recently_refused, refusal_of
from prefect_bluesky.sessions.session import Session, SessionStatus
from prefect_bluesky.sessions.sign_in import NewSession, SignIn
from prefect_bluesky.sessions.spare import Spare
from prefect_bluesky.sessions.stores.base import SessionStore

Action = Literal["reused", "refreshed", "logged_in"]
Result = TypeVar("Result")

_RARELY = timedelta(hours=20)
"""Within the day after which Prefect tells that nothing was heard of an account."""

_AMBIGUOUS = {AuthProblem.APP_PASSWORD_REJECTED, AuthProblem.ACCOUNT_DEACTIVATED}
"""What a server says for several causes. An account that has moved is deactivated at its old PDS."""


class Authenticator:
    """The keeper of one account's session, for all threads of this process. `lock` excludes other workers."""

    def __init__(
        self,
        *,
        account: str,
        sign_in: SignIn,
        service_url: str,
        store: SessionStore,
        lock: Callable[[], AbstractContextManager[None]],
        policy: LoginPolicy,
        reporter: Reporter,
        directory_url: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.account, self.sign_in = account, sign_in
        self.state = AccountState(account, service_url, store, sign_in)
        self._alerting = Alerting(self.state, reporter, now)
        self._policy, self._reporter, self._now = policy, reporter, now
        self._directory_url = directory_url
        self._worker_lock, self._thread_lock = lock, Lock()
        self._spare = Spare(self.state, sign_in, reporter.block_id, now)
        self._refresh_cooldown, self._save_cooldown = Cooldown(now), Cooldown(now)

    def __repr__(self) -> str:
        return f"Authenticator({self.account!r}, {self.state.session!r})"

    def ensure(self, min_validity: timedelta | None = None, *, max_age: timedelta | None = None) -> SessionStatus:
        """Ensure a session that is valid for `min_validity` (default: the policy's) and not older than `max_age`.

        Raises:
            AuthError: the account cannot sign in.
            ServiceUnavailable, RateLimited: the server cannot be asked now, and no valid session is left.
            StoreError: the stored session cannot be read, so a login may not be needed.
        """
        wanted = self._policy.min_validity if min_validity is None else min_validity

        def suffices(session: Session) -> bool:
            age = self._now() - session.received_at
            if self.sign_in.refresh_is_final and max_age is not None:
                # Each refresh is a risk. Without a post to publish, one a day shows that the session lives.
                return timedelta() <= age <= max(max_age, _RARELY)
            return not self._is_due(session, wanted) and (max_age is None or timedelta() <= age <= max_age)

        session = self.state.session
        if session is not None and suffices(session) and not self._must_save() and self._alerting.is_settled:
            return self._status(session, "reused")
        return self._status(*self._renew(suffices))

    def session(self) -> Session:
        """Return a session to sign a call with. Raises as `ensure`."""
        session = self.state.session
        if session is not None and not self._is_due(session, self._policy.min_validity) and not self.state.is_refused:
            return session
        return self._renew(lambda session: not self._is_due(session, self._policy.min_validity))[0]

    def recover(self, refused: Session) -> Session:
        """Return a newer session than the one whose access token was refused. Raises as `ensure`."""
        return self._renew(lambda new: new.received_at > refused.received_at and self._now() < new.expires_at)[0]

    def refresh(self) -> SessionStatus:
        """Refresh the stored session even if it is not due, for a diagnosis. Never sign in.

        Raises as `ensure`, and `RequestRefused` if the server has ended the session.
        """
        return self._alone(self._refresh_now)

    def log_in(self) -> SessionStatus:
        """Sign in for a person, even if the app password was just refused. Count the login. Raises as `ensure`."""
        return self._alone(self._log_in_now)

    def repeat_lost_alert(self) -> None:
        """Report the open refusal again if its alert has reached nobody."""
        self._alerting.repeat_lost_alert()

    def tell_missing_right(self, error: AuthError) -> None:
        """Report that a post needs a right that was not granted, once for each grant."""
        self._alerting.tell_missing_right(error)

    def note(self, error: AuthError) -> AuthError:
        """Store and report that the server refused the account in a correctly signed call. Return what to raise."""
        return self._alone(self._note_now, error)

    def adopt(self, session: Session, *, is_spare: bool = False) -> None:
        """Store a session that was made elsewhere, such as by a grant, to be used at once or as the spare one.

        The session that it replaces is ended at the server, as nobody would look after it any more.

        Raises:
            AuthError: the session is another account's.
            StoreError: the session is not stored.
        """
        self._alone(self._adopt_now, session, is_spare)

    def sign_out(self) -> None:
        """End the account's session and its spare one at their server, and forget them.

        Raises:
            AuthError, RequestRefused, ServiceUnavailable, RateLimited: a session may live on; it stays stored.
            StoreError: the sessions have ended, and may still be stored.
        """
        self._alone(self._sign_out_now)

    def _sign_out_now(self) -> None:
        troubles: list[BlueskyError] = []
        for session in filter(None, (self.state.document.spare, self.state.session)):
            try:
                self.sign_in.end(session)
            except BlueskyError as trouble:
                troubles.append(trouble)
        if troubles:
            raise troubles[0]
        self.state.forget_sessions()

    def _adopt_now(self, session: Session, is_spare: bool) -> None:
        self.state.check_did(session.did)
        self.state.read_credential()
        replaced = self.state.document.spare if is_spare else self.state.session
        if is_spare:
            self.state.keep_spare(session)
        else:
            self._adopt_for_use(session)
        if replaced is not None:
            try:
                self.sign_in.end(replaced)
            except BlueskyError as trouble:
                logger().warning("%s: the session before could not be ended: %s", self.account, trouble)

    def _adopt_for_use(self, session: Session) -> None:
        before = self.state.document.session  # perhaps of the client before its rights were changed
        self._save_and_use(NewSession(session, None), events.SESSION_CREATED)
        if before is not None:
            self._alerting.tell_end_of_missing_right(before)
        if self.state.is_unsaved:
            raise StoreUnavailable("the session", "it could not be stored. Look at the log, and try again.")
        self.state.save(replace(self.state.document, visit_told=()))

    def _note_now(self, error: AuthError) -> AuthError:
        # A refresh shows the end of these two problems; only a new session shows the end of the others.
        shows_at_refresh = error.problem in {AuthProblem.ACCOUNT_DEACTIVATED, AuthProblem.ACCOUNT_TAKEN_DOWN}
        # A call ends no grant: only a person can give another one.
        ends_session = not (shows_at_refresh or self.sign_in.refresh_is_final)
        return self._remember(error, ends_session=ends_session)

    def _refresh_now(self) -> SessionStatus:
        if self.state.session is None:
            raise AuthError(AuthProblem.SESSION_REVOKED, self.account)
        return self._status(self._refresh(self.state.session), "refreshed")

    def _log_in_now(self) -> SessionStatus:
        self._claim_login(lambda session: False)
        return self._status(self._log_in(), "logged_in")

    def _is_due(self, session: Session, wanted: timedelta) -> bool:
        now = self._now()
        if not self._refresh_cooldown.is_over:
            return now >= session.expires_at
        # If the server's tokens live shorter than wanted, demand less. Otherwise each `ensure` would refresh.
        needed = wanted if wanted < session.lifetime else session.lifetime / 3
        return now >= min(self.state.refresh_at, session.expires_at - needed)

    def _status(self, session: Session, action: Action) -> SessionStatus:
        return SessionStatus(
            did=session.did,
            handle=session.handle,
            pds_url=session.pds_url,
            expires_at=session.expires_at,
            action=action,
            scope=session.scope,
        )

    def _must_save(self) -> bool:
        return self.state.is_unsaved and self._save_cooldown.is_over

    def _renew(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        return self._run_to_completion(self._renew_one_at_a_time, suffices)

    def _alone(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Work as `_run_to_completion` does, under the account's lock, with what the store has now."""

        def under_lock() -> Result:
            with self._thread_lock, self._worker_lock():
                self._read_again()
                return work(*arguments)

        return self._run_to_completion(under_lock)

    @staticmethod
    def _run_to_completion(work: Callable[..., Result], *arguments: object) -> Result:
        """Work in a separate thread, so that a timeout or Ctrl-C in the caller cannot stop a refresh halfway.

        The thread gets the run's context, as the logger, the API and the lock are found through the context.
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
                self._alerting.report_unstored(error)
                raise
            self._alerting.report_end_of_unstored(is_renewed=renewed[1] != "reused")
            return renewed

    def _reuse_or_renew(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        state = self.state
        if state.session is None:
            state.load()
        elif self._must_save():
            self._save(state.session)
        if not self._alerting.is_due:
            if state.session is not None and suffices(state.session) and not state.is_refused:
                return state.session, "reused"
            raise_if_recently_refused(state, self._policy, self._now())
        with self._worker_lock():
            self._read_again()
            self._alerting.send()
            if state.session is not None and suffices(state.session) and not state.is_refused:
                return state.session, "reused"
            raise_if_recently_refused(state, self._policy, self._now())
            return self._refresh_or_log_in(suffices)

    def _read_again(self) -> None:
        """Read the store again: another worker may have renewed the session while this one waited for the lock."""
        try:
            self.state.load()
        except StoreError:
            # A session in memory can be refreshed now and saved later. Without one, a login would waste one of the
            # day's logins, although a session may be stored.
            if self.state.session is None:
                raise

    def _refresh_or_log_in(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        session, ended = self.state.session, None
        while session is not None:
            try:
                return self._refresh(session, suffices), "refreshed"
            except RequestRefused as refused:
                session, ended = self._spare.take_over(refused), refused
            except (ServiceUnavailable, RateLimited, StoreError) as trouble:
                # An early refresh can wait. A refresh after a refusal or after the expiry cannot.
                self._refresh_cooldown.begin()
                if suffices(session) and not self.state.is_refused:
                    logger().warning("%s: the session could not be refreshed yet: %s", self.account, trouble)
                    return session, "reused"
                raise
        saved_meanwhile = self._claim_login(suffices)
        if saved_meanwhile is not None:
            return saved_meanwhile, "reused"
        return self._log_in(ended), "logged_in"

    def _refresh(self, session: Session, suffices: Callable[[Session], bool] = lambda session: False) -> Session:
        again = self.sign_in.refresh_is_final and self.state.begin_refresh(self._now())
        try:
            refreshed = self.sign_in.refresh(session, self._now(), again=again)
            self.state.check_did(refreshed.session.did)
        except AuthError as error:
            if error.retryable:
                self._refresh_cooldown.begin()
                if suffices(session):
                    # It may be over before the session is.
                    said = error.http_status, error.xrpc_error, str(error)
                    raise ServiceUnavailable(session.pds_url, "refresh", *said) from error
            raise self._remember(error) from error
        session = self._save_and_use(refreshed, events.SESSION_REFRESHED)
        if not self.state.is_unsaved:
            self._spare.upkeep()
        return session

    def _claim_login(self, suffices: Callable[[Session], bool]) -> Session | None:
        """Count a login before sending it, as the worker may die. Return the session saved meanwhile, if any."""
        self.state.read_credential()  # without an app password this raises, and nothing is counted
        if not self.sign_in.logs_in:
            return None
        for last in (False, False, True):
            known = self.state.document
            if len(known.logins_of_the_day(self._now())) >= self._policy.max_logins_per_day:
                raise self._remember(AuthError(AuthProblem.LOGIN_LIMIT_REACHED, self.account))
            try:
                self.state.save(known.with_login(self._now()))
                break
            except StoreConflict:
                if last:
                    raise
                self.state.load()
                if self.state.session is not None and suffices(self.state.session):
                    return self.state.session
                raise_if_recently_refused(self.state, self._policy, self._now())
        return None

    def _take_back_login(self) -> None:
        """Do not count a login that was not sent: an outage must not use up the day's logins."""
        try:
            self.state.save(self.state.document.without_last_login())
        except StoreError as trouble:
            logger().warning("%s: a login that was not sent stays counted: %s", self.account, trouble)

    def _log_in(self, ended: RequestRefused | None = None) -> Session:
        state = self.state
        try:
            made = self.sign_in.create(self._now(), ended)
            state.check_did(made.session.did)
        except AuthError as error:
            raise self._remember(error, ends_session=True) from error
        except ServiceUnavailable as trouble:
            if not trouble.was_sent:
                self._take_back_login()
            if state.document.did is not None or trouble.error is not None:
                raise
            # Where nobody has signed in yet and nothing answers like a PDS, the service_url is likely at fault.
            raise trouble.with_retryable(False) from trouble
        return self._save_and_use(made, events.SESSION_CREATED)

    def _remember(self, error: AuthError, *, ends_session: bool = False) -> AuthError:
        """Store for all workers that the account cannot be used. Report a new refusal. Return what to raise."""
        if error.problem in _AMBIGUOUS:
            state = self.state
            evidence = Evidence(
                self.account, state.service_url, self._directory_url, state.document, state.has_signed_in
            )
            error = evidence.explain(error)
        elif known := self._known_end(error):
            error = error.explained(known.problem, known.found)
        alerts = self._alerting.may_alert
        refusal = refusal_of(self.state, error, self._now(), ends_session=ends_session, alerts=alerts)
        self.state.remember(refusal, ends_session=ends_session)
        self._alerting.send()
        return error

    def _known_end(self, error: AuthError) -> Refusal | None:
        """Return the open refusal that names how the grant has ended: a later attempt knows only that there is none."""
        refusal = self.state.refusal
        is_known = error.problem is AuthProblem.GRANT_MISSING and self.state.is_refused
        return refusal if is_known and refusal is not None and refusal.symptom is error.symptom else None

    def _save_and_use(self, renewed: NewSession, event: str) -> Session:
        """Save a new session, then return it, or the session of a worker that saved first."""
        session, state = renewed.session, self.state
        by_login = event == events.SESSION_CREATED
        is_usable = renewed.problem is None
        if is_usable and state.refusal and ends(state.refusal, state, self._policy, self._now(), by_login=by_login):
            state.mark_ended(self._now())
        self._save(session)
        if renewed.problem is not None:
            # The session was saved nevertheless, because the older refresh token is spent.
            raise self._remember(AuthError(renewed.problem, self.account))
        self._alerting.send()
        if state.session is not session and state.session is not None:
            return state.session
        done = "signed in" if by_login else "session refreshed"
        until = f"{session.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        logger().info("%s (%s): %s, valid until %s UTC", session.handle, session.did, done, until)
        events.emit(event, session, block_id=self._reporter.block_id)
        return session

    def _save(self, session: Session) -> None:
        state = self.state
        try:
            state.save_session(session)
        except StoreConflict:
            state.is_unsaved = True
            state.use(session)
            self._adopt_winner()
        except StoreError as trouble:
            # The stored older refresh token works for 2 more hours, until the store is back.
            state.is_unsaved = True
            state.use(session)
            self._save_cooldown.begin()
            logger().error("%s: the session could not be saved. Publishing continues: %s", self.account, trouble)
            events.emit(events.SESSION_UNSAVED, session, reason=str(trouble))
        else:
            state.is_unsaved = False
            state.use(session)

    def _adopt_winner(self) -> None:
        try:
            self.state.load()
        except StoreError as trouble:
            logger().warning("%s: another worker's session could not be read: %s", self.account, trouble)
