"""Where the session of one account lies between runs.

A store is a small thing: load what is there, replace what was read. It knows neither tokens nor servers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from prefect_bluesky.sessions.document import SessionDocument


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
