"""What is known of one account: what lies in its store, and the app password that it goes with."""

from __future__ import annotations

from prefect_bluesky.errors import AuthError
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.app_password import AppPassword
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.stores.base import Saved, SessionStore


class Ledger:
    """One account's document in its store, as last read or saved, and its app password, as last read.

    Args:
        account: handle or DID, normalised.
        service_url: where to log in.
        store: where the document lies.
        app_password: reads the app password.
    """

    def __init__(self, account: str, service_url: str, store: SessionStore, app_password: AppPassword) -> None:
        self.account = account
        self.service_url = service_url
        self.handle = account
        """The account's handle, as last heard."""
        self.made_with: Fingerprint | None = None
        """The fingerprint of the app password, once it is known."""
        self._did = account if account.startswith("did:") else None
        self._store = store
        self._saved: Saved | None = None
        self._read_app_password = app_password
        self._app_password: str | None = None

    @property
    def document(self) -> SessionDocument:
        """What lies in the store, whoever's session it is."""
        return self._saved.document if self._saved else SessionDocument()

    @property
    def did(self) -> str | None:
        """The account's DID, if it is known."""
        return self._did or self.document.did

    def read(self) -> bool:
        """Read the document; whether it is another one than was known.

        Raises:
            AuthError: `wrong_account` if it is another account's.
            StoreError: it cannot be read.
        """
        saved = self._store.load()
        if saved == self._saved:
            return False
        if saved is not None:
            self.check_did(saved.document.did)
        self._saved = saved
        return True

    def write(self, document: SessionDocument) -> None:
        """Put a document in the place of the known one.

        Raises:
            StoreConflict: it is not the known one that lies there.
            StoreError: it cannot be written.
        """
        self._saved = self._store.save(document, self._saved)

    def meet(self, did: str, handle: str) -> None:
        """Learn who the account is, from its server."""
        self._did, self.handle = did, handle

    def check_did(self, did: str | None) -> None:
        """The DID of the first login stays: a handle can be given to somebody else.

        Raises:
            AuthError: `wrong_account`.
        """
        if did is not None and self.did is not None and did != self.did:
            raise AuthError(AuthProblem.WRONG_ACCOUNT, self.account)

    @property
    def app_password(self) -> str:
        """The app password, as last read."""
        if self._app_password is None:
            self.read_app_password()
        return self._app_password or ""

    def read_app_password(self) -> None:
        """Read the app password: it may have been replaced.

        Raises:
            InvalidInput: there is none.
            StoreError: it cannot be read.
        """
        app_password = self._read_app_password()
        if app_password != self._app_password:
            self._app_password, self.made_with = app_password, None

    @property
    def credential(self) -> str:
        """The app password with the service that it is for."""
        return f"{self.service_url} {self.app_password}"

    def is_ours(self, fingerprint: Fingerprint) -> bool:
        """Whether a fingerprint is of our app password, which is read anew if it seems not to be."""
        if fingerprint == self.made_with or fingerprint.matches(self.credential):
            return True
        before = self.credential
        self.read_app_password()
        return self.credential != before and fingerprint.matches(self.credential)
