"""The interface of session stores.

A store loads an account's document and replaces the document that was read. A store knows neither tokens nor servers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from prefect_bluesky.sessions.document import SessionDocument


@dataclass(frozen=True)
class Saved:
    """A stored document, with the version that a replacement must name."""

    document: SessionDocument
    version: str


class SessionStore(ABC):
    """The store of one account's session. To add a kind of store, write a subclass with `load`, `save` and `place`."""

    place: str
    """The store's name in messages."""

    @abstractmethod
    def load(self) -> Saved | None:
        """Return the stored document, or None if nothing is stored.

        Raises:
            StoreDamaged: the stored text is not a session written by prefect-bluesky.
            StoreUnavailable: the store does not answer; try again later.
            StoreError: the store refuses.
        """

    @abstractmethod
    def save(self, document: SessionDocument, replacing: Saved | None) -> Saved:
        """Replace the document that was read.

        Args:
            document: the new document.
            replacing: the result of the last `load` or `save`; None if nothing was stored.

        Raises:
            StoreConflict: another document is stored by now, and stays unchanged.
            StoreUnavailable: the store does not answer; the document may or may not be saved.
            StoreError: the store refuses.
        """
