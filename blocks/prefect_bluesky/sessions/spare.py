"""The spare session of an account, and the next visit of its owner, of which people are told once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect_bluesky.alerts import events
from prefect_bluesky.errors import AuthError, RateLimited, RequestRefused, ServiceUnavailable, StoreError
from prefect_bluesky.prefect_api import logger
from prefect_bluesky.sessions.account_state import AccountState
from prefect_bluesky.sessions.session import Session
from prefect_bluesky.sessions.sign_in import SignIn

_RESTS = timedelta(days=30)
"""How long a spare session rests. A server forgets one that is not refreshed for three months (@atproto/pds 0.5.35)."""

_AHEAD = timedelta(days=30)
"""How long before a grant ends people are told of it; a fifth of the grant's time, if that is less."""


class Spare:
    """The spare session of an account. Its methods are called under the account's lock.

    Args:
        state: the account's state.
        sign_in: how the account signs in.
        block_id: the account's saved block.
        now: the clock.
    """

    def __init__(
        self, state: AccountState, sign_in: SignIn, block_id: UUID | None, now: Callable[[], datetime]
    ) -> None:
        self._state, self._sign_in, self._block_id, self._now = state, sign_in, block_id, now
        self._why_none = ""

    def take_over(self, ended: RequestRefused) -> Session | None:
        """Use the spare session, if there is one, in the place of one that the server has ended.

        Raises:
            StoreError: the store fails, and the spare session must not be used before the store has it.
        """
        session = self._state.use_spare()
        instead = "using the spare session" if session else "signing in again"
        logger().info("%s: the session has ended (%s), %s", self._state.account, ended, instead)
        self._why_none = f"The session before has ended, and the spare one is in use: {ended}."
        return session

    def upkeep(self) -> None:
        """After a refresh, refresh a spare session that has rested for long, and tell people of a visit that is due."""
        try:
            self._refresh()
            self._tell()
        except StoreError as trouble:
            about = self._state.account
            logger().warning("%s: the spare session is looked after later, as the store fails: %s", about, trouble)

    def _refresh(self) -> None:
        spare = self._state.document.spare
        if spare is None or self._now() - spare.received_at < _RESTS:
            return
        try:
            self._state.keep_spare(self._sign_in.refresh(spare, self._now()).session)
        except RequestRefused as ended:
            self._why_none = f"The spare one has ended: {ended}."
            self._state.keep_spare(None)
        except (AuthError, ServiceUnavailable, RateLimited) as trouble:
            logger().warning("%s: the spare session could not be refreshed yet: %s", self._state.account, trouble)

    def _tell(self) -> None:
        """Tell people why the account's owner has to come, unless they were told."""
        session, document = self._state.session, self._state.document
        if session is None or session.ends_at is None:
            return
        due = {kind: why for kind, why in self._due(session, session.ends_at) if kind not in document.visit_told}
        if not due:
            return
        until, why = f"{session.ends_at.astimezone(UTC):%Y-%m-%d}", " ".join(due.values())
        logger().warning("%s: the owner has to grant access again until %s. %s", self._state.account, until, why)
        events.emit(events.VISIT_DUE, session, block_id=self._block_id, reason=why, until=until)
        self._state.save(replace(document, visit_told=(*document.visit_told, *due)))

    def _due(self, session: Session, ends_at: datetime) -> Iterator[tuple[str, str]]:
        if ends_at - self._now() <= min(_AHEAD, (ends_at - session.began_at) / 5):
            yield "end", "The grant ends then."
        if self._state.document.spare is None:
            yield "spare", f"There is no spare session, in case this one is lost. {self._why_none}".strip()
