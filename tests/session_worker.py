"""One account on one worker, with a store that can fail and a clock that moves together with the server's."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from prefect_bluesky import AuthError, sandbox
from prefect_bluesky.alerts.incidents import Reporter
from prefect_bluesky.errors import StoreConflict, StoreError
from prefect_bluesky.sessions.app_password import from_block
from prefect_bluesky.sessions.authenticator import Authenticator
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.password_sign_in import PasswordSignIn
from prefect_bluesky.sessions.policy import LoginPolicy
from prefect_bluesky.sessions.session import Session
from prefect_bluesky.sessions.stores.base import Saved, SessionStore

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@dataclass
class FailingStore(SessionStore):
    """A store that fails as a test wants it to."""

    place: str = "the store"
    saved: Saved | None = None
    load_trouble: StoreError | None = None
    save_trouble: StoreError | None = None
    overtaken_by: Saved | None = None
    versions: int = 0
    calls: list[str] = field(default_factory=list)

    def load(self) -> Saved | None:
        self.calls.append("load")
        if self.load_trouble:
            raise self.load_trouble
        return self.saved

    def save(self, document: SessionDocument, replacing: Saved | None) -> Saved:
        self.calls.append("save")
        if self.save_trouble:
            raise self.save_trouble
        if self.overtaken_by:
            self.saved, self.overtaken_by = self.overtaken_by, None
        if replacing != self.saved:
            raise StoreConflict(self.place, "overtaken")
        self.versions += 1
        self.saved = Saved(document, str(self.versions))
        return self.saved

    def put(self, session: Session) -> None:
        """Store another session, made with the same app password."""
        assert self.saved is not None
        self.save(replace(self.saved.document, session=session), self.saved)


class Worker:
    """An account on one worker."""

    def __init__(
        self,
        pds: sandbox.Sandbox,
        store: SessionStore,
        account: sandbox.Account | None = None,
        *,
        has_saved_block: bool = False,
    ) -> None:
        self.pds = pds
        self.store: Any = store
        self.account = account or pds.create_account()
        self.time = datetime(2026, 11, 22, 12, tzinfo=UTC)
        self.has_saved_block = has_saved_block
        self.authenticator = self.restarted()

    def restarted(self, app_password: str | None = None, **changes: Any) -> Authenticator:
        """Return the account's authenticator in a process that has just started."""
        options: dict[str, Any] = {
            "account": self.account.handle,
            "service_url": self.pds.url,
            "store": self.store,
            "lock": nullcontext,
            "policy": LoginPolicy(),
            "directory_url": self.pds.plc_url,
            "reporter": Reporter(uuid4() if self.has_saved_block else None),
            "now": lambda: self.time,
        }
        options |= changes
        read = from_block(app_password or self.account.app_password)
        sign_in = PasswordSignIn(self.account.handle, options["service_url"], read, self.pds.plc_url)
        return Authenticator(sign_in=sign_in, **options)

    def passes(self, time: timedelta) -> None:
        """Let time pass, here and on the server."""
        self.time += time
        self.pds.advance(time)

    def gate(self, authenticator: Authenticator | None = None) -> str:
        """Pass the gate. Return the action, or the problem that closes it."""
        try:
            return (authenticator or self.authenticator).ensure().action
        except AuthError as refused:
            return refused.problem.value
