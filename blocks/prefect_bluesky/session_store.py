"""Where the session of one account lies between runs, and what is written there.

A store is a small thing: load what is there, replace what was read. It knows neither tokens nor servers.
"""

from __future__ import annotations

import hmac
import json
import secrets
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import scrypt
from threading import Lock
from typing import Any, ClassVar

from prefect_bluesky.errors import BlueskyError, StoreConflict, StoreDamaged
from prefect_bluesky.session import Session

_FORMAT = "prefect-bluesky/session"
_VERSION = 1
# 16 MiB and about 50 ms: once a process and account (https://datatracker.ietf.org/doc/html/rfc7914 section 2).
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}


@dataclass(frozen=True)
class SessionDocument:
    """A session with a fingerprint of the credential that made it: it serves only that one.

    Example:
        >>> document = SessionDocument.made_with("https://bsky.social xxxx-xxxx-xxxx-xxxx", authenticator.session())
        >>> document.serves("https://bsky.social xxxx-xxxx-xxxx-xxxx")
        True
    """

    session: Session
    fingerprint: str = field(repr=False)

    @classmethod
    def made_with(cls, credential: str, session: Session) -> SessionDocument:
        """The document of a session that was made with this credential (see `serves`)."""
        salt = secrets.token_bytes(16)
        return cls(session, f"{_base64(salt)}:{_base64(scrypt(credential.encode(), salt=salt, **_SCRYPT))}")

    def serves(self, credential: str) -> bool:
        """Whether this is the credential that made the session.

        Args:
            credential: the app password together with the service that it is for; as whoever made the session put it.
        """
        salt, digest = (b64decode(part) for part in self.fingerprint.split(":"))
        return hmac.compare_digest(digest, scrypt(credential.encode(), salt=salt, **_SCRYPT))

    def renewed(self, session: Session) -> SessionDocument:
        """The same document with a refreshed session."""
        return SessionDocument(session, self.fingerprint)

    def to_json(self) -> str:
        """What is written into a store. It holds the tokens."""
        session = self.session
        return json.dumps(
            {
                "format": _FORMAT,
                "version": _VERSION,
                "did": session.did,
                "handle": session.handle,
                "pds_url": session.pds_url,
                "access_token": session.access_token,
                "refresh_token": session.refresh_token,
                "received_at": session.received_at.isoformat(),
                "fingerprint": self.fingerprint,
            }
        )

    @classmethod
    def from_json(cls, text: str, *, place: str) -> SessionDocument:
        """What `to_json` wrote.

        Args:
            text: the JSON.
            place: where it was read, for the error.

        Raises:
            StoreDamaged: it is something else, or damaged; the message names the field and no value.
        """
        try:
            content = json.loads(text)
        except ValueError:
            raise StoreDamaged(place, f"it is not JSON. {_REMEDY}") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise StoreDamaged(place, f"format: it is not a session written by prefect-bluesky. {_REMEDY}")
        if content.get("version") != _VERSION:
            found = content.get("version")
            raise StoreDamaged(
                place,
                f"version: it is {found!r}, this release reads {_VERSION}. Upgrade prefect-bluesky on this worker.",
            )
        fields = {name: _text(content, name, place) for name in _FIELDS}
        fingerprint = fields.pop("fingerprint")
        received_at = _moment(fields.pop("received_at"))
        if received_at is None:
            raise StoreDamaged(place, f"received_at: it is not a time with a zone. {_REMEDY}")
        if not _is_fingerprint(fingerprint):
            raise StoreDamaged(place, f"fingerprint: it is damaged. {_REMEDY}")
        try:
            return cls(Session(**fields, received_at=received_at), fingerprint)
        except BlueskyError as damage:
            raise StoreDamaged(place, f"access_token or refresh_token: {damage} {_REMEDY}") from None


_FIELDS = ("did", "handle", "pds_url", "access_token", "refresh_token", "received_at", "fingerprint")
_REMEDY = "Nothing was changed. Point the block somewhere else, or delete it: the next run signs in anew."


def _text(content: dict[str, Any], name: str, place: str) -> str:
    value = content.get(name)
    if not isinstance(value, str) or not value:
        raise StoreDamaged(place, f"{name}: it is missing or no text. {_REMEDY}")
    return value


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _is_fingerprint(text: str) -> bool:
    parts = text.split(":")
    try:
        return [len(b64decode(part, validate=True)) for part in parts] == [16, _SCRYPT["dklen"]]
    except ValueError:
        return False


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


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
