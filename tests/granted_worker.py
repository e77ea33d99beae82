"""A worker of an account by a grant, which may die at any step, and whose store may fail there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prefect_bluesky.errors import ServiceUnavailable
from prefect_bluesky.sessions import Authenticator, GrantSignIn, Saved, Session, SessionDocument, SessionStore
from prefect_bluesky.sessions.sign_in import NewSession


class Dies(BaseException):
    """The end of a worker."""


class Store(SessionStore):
    """A store at one of whose calls something happens.

    Attributes:
        step: the call: `read`, `noted` (that a refresh begins) or `saved`.
        is_done: whether the store has carried the call out by then.
        what: what the worker meets; None if nothing more is to happen.
    """

    step, is_done = "", False
    what: BaseException | None = None

    def __init__(self, real: SessionStore) -> None:
        self._real, self.place = real, real.place

    def load(self) -> Saved | None:
        with self._trouble("read"):
            return self._real.load()

    def save(self, document: SessionDocument, replacing: Saved | None) -> Saved:
        with self._trouble("noted" if document.begun_at else "saved"):
            return self._real.save(document, replacing)

    @contextmanager
    def _trouble(self, step: str) -> Iterator[None]:
        what = self.what if step == self.step else None
        if what:
            self.what = None
        if what and not self.is_done:
            raise what
        yield
        if what:
            raise what


class Grant(GrantSignIn):
    """A grant whose worker may die while it refreshes.

    Attributes:
        dies: `before` the request, or while it is `underway`; "" if not at all.
        underway: makes the server's answer to the request be lost.
    """

    dies = ""
    underway: Callable[[], AbstractContextManager[Any]] = staticmethod(nullcontext)

    def refresh(self, session: Session, received_at: datetime, *, again: bool = False) -> NewSession:
        dies, self.dies = self.dies, ""
        if dies == "before":
            raise Dies
        if not dies:
            return super().refresh(session, received_at, again=again)
        with self.underway():
            try:
                return super().refresh(session, received_at, again=again)
            except ServiceUnavailable:
                raise Dies from None


@dataclass
class Worker:
    """A worker that has just started.

    Attributes:
        ahead: how far the clock of its machine is ahead.
    """

    store: Store
    grant: Grant
    authenticator: Authenticator
    ahead: timedelta = timedelta()
