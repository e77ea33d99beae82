"""Where the session of one account lies between runs.

A store is a small thing: load what is there, replace what was read. It knows neither tokens nor servers.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock
from typing import ClassVar

from prefect_bluesky.errors import StoreConflict
from prefect_bluesky.session_document import SessionDocument


@dataclass(frozen=True)
class Saved:
    """A document as it lies in a store, with the version that a replacement must name."""

    document: SessionDocument
    version: str


class SessionStore(ABC):
    """The place of one account's session.

    Another store is a subclass with these two methods.
    """

    place: str
    """What a person calls it, for messages."""

    @abstractmethod
    def load(self) -> Saved | None:
        """What lies there, or None.

        Raises:
            StoreDamaged: it is not a session of ours.
            StoreUnavailable: no answer; try later.
            StoreError: the store refuses.
        """

    @abstractmethod
    def save(self, document: SessionDocument, replacing: Saved | None) -> Saved:
        """Put a document in the place of the one that was read.

        Args:
            document: the new one.
            replacing: what `load` or `save` returned before; None if nothing lay there.

        Raises:
            StoreConflict: something else lies there by now; it is untouched.
            StoreUnavailable: no answer; whether it was saved is unknown.
            StoreError: the store refuses.
        """


class MemorySessionStore(SessionStore):
    """Keeps sessions for as long as this process lives; all stores of one account in it share one session.

    Args:
        account: what tells accounts apart.
    """

    _documents: ClassVar[dict[Hashable, Saved]] = {}
    _lock: ClassVar[Lock] = Lock()

    def __init__(self, account: Hashable) -> None:
        self._account = account
        self.place = "this process's memory"

    def load(self) -> Saved | None:
        return self._documents.get(self._account)

    def save(self, document: SessionDocument, replacing: Saved | None) -> Saved:
        with self._lock:
            if self._documents.get(self._account) != replacing:
                raise StoreConflict(self.place, "another thread saved first.")
            saved = self._documents[self._account] = Saved(document, secrets.token_hex(8))
            return saved
