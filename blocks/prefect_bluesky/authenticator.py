"""The only code that refreshes or logs in: reuse, else refresh, else log in; one at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Literal

from prefect_bluesky import events, xrpc
from prefect_bluesky.errors import (
    AuthError,
    RateLimited,
    RequestRefused,
    ServiceUnavailable,
    StoreConflict,
    StoreError,
    StoreUnavailable,
)
from prefect_bluesky.problems import AuthProblem, classify
from prefect_bluesky.runtime import logger
from prefect_bluesky.session import Session, SessionStatus, session_from_answer
from prefect_bluesky.session_store import Saved, SessionDocument, SessionStore

Action = Literal["reused", "refreshed", "logged_in"]

_PAUSE = timedelta(seconds=30)
"""How long a refresh or a save that failed for a passing reason is left alone while the session still serves."""


class Authenticator:
    """Keeps one account signed in, for all threads of this process.

    Args:
        account: handle or DID, normalised: what logs in, and what the messages name.
        app_password: the app password.
        service_url: where to log in.
        store: where the session lies between runs.
        lock: held across workers while a session is renewed.
        min_validity: how long a session must still be valid for to be reused.
        now: the clock.

    Example:
        >>> authenticator.ensure().action
        'reused'
    """

    def __init__(
        self,
        *,
        account: str,
        app_password: str,
        service_url: str,
        store: SessionStore,
        lock: Callable[[], AbstractContextManager[None]],
        min_validity: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._account = account
        self._app_password = app_password
        self._service_url = service_url
        self._store = store
        self._worker_lock = lock
        self._min_validity = min_validity
        self._now = now

        self._thread_lock = Lock()
        self._did = account if account.startswith("did:") else None
        self._session: Session | None = None
        self._refresh_at = self._paused_until = datetime.min.replace(tzinfo=UTC)
        self._saved: Saved | None = None  # what lies in the store, whoever's it is
        self._own: SessionDocument | None = None  # the last one known to be made with our app password
        self._unsaved = False

    def __repr__(self) -> str:
        return f"Authenticator({self._account!r}, {self._session!r})"

    def ensure(self, min_validity: timedelta | None = None) -> SessionStatus:
        """Have a valid session: the gate.

        Args:
            min_validity: how long it must still be valid for; by default as constructed.

        Raises:
            AuthError: the account cannot sign in.
            ServiceUnavailable, RateLimited: the server cannot be asked now, and no valid session is left.
            StoreError: the stored session cannot be read, so it is not known whether a login is needed.
        """
        wanted = self._min_validity if min_validity is None else min_validity
        session = self._session
        if session is not None and not self._is_due(session, wanted) and not self._must_save():
            return self._status(session, "reused")
        return self._status(*self._renew(lambda session: not self._is_due(session, wanted)))

    def session(self) -> Session:
        """A session to sign a call with.

        Raises: as `ensure`.
        """
        session = self._session
        if session is not None and not self._is_due(session, self._min_validity):
            return session
        return self._renew(lambda session: not self._is_due(session, self._min_validity))[0]

    def recover(self, refused: Session) -> Session:
        """Another session than one whose access token a server has refused.

        Args:
            refused: the session that the refused call was signed with.

        Raises: as `ensure`.
        """
        return self._renew(lambda session: session.access_token != refused.access_token)[0]

    def _is_due(self, session: Session, wanted: timedelta) -> bool:
        now = self._now()
        if now < self._paused_until:
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
        return self._unsaved and self._now() >= self._paused_until

    def _renew(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        """Renew in a thread of its own: what ends the caller, a timeout or Ctrl-C, must not abandon a refresh halfway.

        The run's context goes along: the logger, the API and the lock are found through it.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bluesky-session")
        try:
            return thread.submit(copy_context().run, self._renew_one_at_a_time, suffices).result()
        finally:
            thread.shutdown(wait=False)

    def _renew_one_at_a_time(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        with self._thread_lock:
            if self._session is None:
                self._adopt(self._store.load())
            elif self._must_save():
                self._save(self._session)
            if self._session is not None and suffices(self._session):
                return self._session, "reused"
            with self._worker_lock():
                self._read_again()
                if self._session is not None and suffices(self._session):
                    return self._session, "reused"
                return self._refresh_or_log_in(suffices)

    def _read_again(self) -> None:
        """Another worker may have renewed the session while this one waited for the lock."""
        try:
            self._adopt(self._store.load())
        except StoreUnavailable:
            # With a session in hand it can be refreshed, and saved when the store is back. Without one, a login
            # would spend what is scarce although a session may lie there.
            if self._session is None:
                raise

    def _adopt(self, saved: Saved | None) -> None:
        """Use what lies in the store, if our app password made it and we do not know it yet."""
        if saved == self._saved:
            return
        self._saved = saved
        if saved is None:
            return
        self._check_did(saved.document.session)
        if saved.document.serves(self._credential):
            self._own = saved.document
            self._unsaved = False
            self._use(saved.document.session)

    def _use(self, session: Session) -> None:
        self._session = session
        # Somewhere in the last third, so that workers do not meet. An estimate from a clock that ran backwards since
        # is no worse than that: the server has the last word.
        self._refresh_at = session.expires_at - session.lifetime / 3 * random.random()

    @property
    def _credential(self) -> str:
        return f"{self._service_url} {self._app_password}"

    def _refresh_or_log_in(self, suffices: Callable[[Session], bool]) -> tuple[Session, Action]:
        session = self._session
        if session is None:
            return self._keep(self._log_in(), events.SESSION_CREATED), "logged_in"
        try:
            refreshed = self._refresh(session)
        except (ServiceUnavailable, RateLimited) as trouble:
            # A refresh ahead of time can wait; one after a refusal, or after the end, cannot.
            self._paused_until = self._now() + _PAUSE
            if suffices(session):
                logger().warning("%s: the session could not be refreshed yet (%s)", self._account, trouble)
                return session, "reused"
            raise
        if refreshed is None:
            return self._keep(self._log_in(), events.SESSION_CREATED), "logged_in"
        return self._keep(refreshed, events.SESSION_REFRESHED), "refreshed"

    def _refresh(self, session: Session) -> Session | None:
        """A new session for the refresh token, or None if the server refuses the token."""
        method = "com.atproto.server.refreshSession"
        try:
            answer = xrpc.procedure(session.pds_url, method, auth=xrpc.BearerToken(session.refresh_token))
        except RequestRefused as refused:
            problem = classify(error=refused.error, message=refused.message)
            if problem in {AuthProblem.ACCOUNT_TAKEN_DOWN, AuthProblem.ACCOUNT_DEACTIVATED}:
                raise AuthError(problem, self._account) from refused
            logger().info("%s: the session has ended (%s), signing in anew", self._account, refused)
            return None
        return self._received(answer, session.pds_url)

    def _log_in(self) -> Session:
        method = "com.atproto.server.createSession"
        body = {"identifier": self._account, "password": self._app_password}
        try:
            answer = xrpc.procedure(self._service_url, method, body)
        except RequestRefused as refused:
            if refused.error == "AuthenticationRequired":
                raise AuthError(AuthProblem.APP_PASSWORD_REJECTED, self._account) from refused
            problem = classify(error=refused.error, message=refused.message)
            if problem is None:
                raise
            raise AuthError(problem, self._account) from refused
        return self._received(answer, self._service_url)

    def _received(self, answer: dict[str, object], server_url: str) -> Session:
        session = session_from_answer(answer, server_url=server_url, received_at=self._now())
        self._check_did(session)
        return session

    def _check_did(self, session: Session) -> None:
        """The DID of the first login stays: a handle can be given to somebody else."""
        if self._did not in {None, session.did}:
            raise AuthError(AuthProblem.WRONG_ACCOUNT, self._account)
        self._did = session.did

    def _keep(self, session: Session, event: str) -> Session:
        """Save a new session over the stale one, then use it; or the one of a worker that was faster."""
        self._save(session)
        if self._session is not session and self._session is not None:
            return self._session
        done = "session refreshed" if event == events.SESSION_REFRESHED else "signed in"
        until = session.expires_at.astimezone(UTC)
        logger().info(
            "%s (%s): %s, valid until %s UTC", session.handle, session.did, done, f"{until:%Y-%m-%d %H:%M:%S}"
        )
        events.emit(event, session)
        return session

    def _save(self, session: Session) -> None:
        document = self._own.renewed(session) if self._own else SessionDocument.made_with(self._credential, session)
        try:
            self._saved = self._store.save(document, self._saved)
        except StoreConflict:
            self._use(session)
            with suppress(StoreUnavailable):
                self._adopt(self._store.load())
        except StoreError as trouble:
            # The older refresh token, which lies in the store, works for 2 more hours: time for the store to return.
            self._use(session)
            self._unsaved = True
            self._paused_until = self._now() + _PAUSE
            logger().error("%s: the session could not be saved, publishing goes on: %s", self._account, trouble)
            events.emit(events.SESSION_UNSAVED, session, reason=str(trouble))
        else:
            self._use(session)
            self._own, self._unsaved = document, False
