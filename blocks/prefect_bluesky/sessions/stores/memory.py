"""A session store in the memory of this process."""

from __future__ import annotations

import secrets
from collections.abc import Hashable
from threading import Lock
from typing import ClassVar

from prefect_bluesky.errors import StoreConflict
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.stores.base import Saved, SessionStore


class MemorySessionStore(SessionStore):
    """A store that lasts as long as this process. All stores of the same account share one session."""

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
