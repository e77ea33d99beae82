"""The state of one account in this process: its stored document, its session, its refusal and its credential."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime

from prefect_bluesky.errors import AuthError, StoreError
from prefect_bluesky.prefect_api import logger
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.document import Refusal, SessionDocument
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.policy import NEVER
from prefect_bluesky.sessions.session import Session
from prefect_bluesky.sessions.sign_in import SignIn
from prefect_bluesky.sessions.stores.base import Saved, SessionStore


class AccountState:
    """The only owner of an account's state. `Authenticator` decides what to do about the state.

    Attributes:
        session: the session in use, made with our credential.
        is_unsaved: True if the session in use is newer than the stored one.
        refresh_at: the time at which this process refreshes the session early.
        refusal: why the account cannot be used, or could not until now.
        is_refused: True if the refusal is open and concerns our credential.
        handle: the account's handle in the last answer of the server.
        made_with: the fingerprint of our credential; None until a login or the store gives it.
    """

    def __init__(self, account: str, service_url: str, store: SessionStore, sign_in: SignIn) -> None:
        self.account, self.service_url, self.handle = account, service_url, account
        self.session: Session | None = None
        self.is_unsaved = False
        self.refresh_at = NEVER
        self.refusal: Refusal | None = None
        self.is_refused = False
        self.made_with: Fingerprint | None = None
        self._did = account if account.startswith("did:") else None
        self._store = store
        self._saved: Saved | None = None
        self._document = SessionDocument()
        self._sign_in = sign_in
        self._credential: str | None = None

    @property
    def document(self) -> SessionDocument:
        """The stored document, with the session of our credential in the first place, if there is one."""
        return self._document

    @property
    def did(self) -> str | None:
        """The account's DID, if it is known."""
        return self._did or self.document.did

    def load(self) -> None:
        """Read the store. Adopt the refusal, and the session if our credential made it. Raise as `check_did`."""
        saved = self._store.load()
        if saved == self._saved:
            return
        if saved is not None:
            self.check_did(saved.document.did)
        document = saved.document.as_seen_by(self.matches_credential) if saved else SessionDocument()
        self._saved, self._document = saved, document
        ours = next((each for each in document.open_refusals if self.matches_credential(each.credential)), None)
        self.refusal, self.is_refused = ours or document.refusal, ours is not None
        if document.made_with is None or not self.matches_credential(document.made_with):
            return
        self.made_with = document.made_with
        if document.session is not None:
            self.is_unsaved = False
            self.use(document.session)

    def save(self, document: SessionDocument) -> None:
        """Replace the stored document. Raise `StoreConflict` if another worker saved first, or another `StoreError`."""
        self._saved, self._document = self._store.save(document, self._saved), document

    def save_session(self, session: Session) -> None:
        """Save a new session over the stale one, together with the refusal. Raises as `save`."""
        if self.made_with is None:
            self.made_with = Fingerprint.of(self.credential)
        self.save(self.document.with_session(session, self.made_with).with_refusal(self.refusal))

    def begin_refresh(self, now: datetime) -> bool:
        """Note in the store that a refresh begins. Return whether an earlier one may have been carried out.

        Raises:
            StoreError: nothing must be sent, as the next worker would send the same refresh token once more.
        """
        before = self.document.begun_at
        self.save(replace(self.document, begun_at=now))
        return before is not None

    def use_spare(self) -> Session | None:
        """Put the spare session, if there is one, into the place of the one that has ended. Raises as `save`."""
        document = self.document.with_spare_in_use()
        if document.session is None:
            return None
        self.save(document)
        self.use(document.session)
        return document.session

    def forget_sessions(self) -> None:
        """Store that there is neither a session nor a spare one. Raises as `save`."""
        self.session, self.is_unsaved = None, False
        self.save(replace(self.document, session=None, spare=None, begun_at=None))

    def keep_spare(self, spare: Session | None) -> None:
        """Store another spare session, or that there is none. Raises as `save`."""
        told = (kind for kind in self.document.visit_told if spare is None or kind != "spare")
        self.save(replace(self.document, spare=spare, visit_told=tuple(told)))

    def use(self, session: Session) -> None:
        """Sign calls with this session from now on."""
        self.session = session
        self._did, self.handle = session.did, session.handle
        # A random moment in the last third, so that workers do not refresh at the same time. If the clock was set back
        # since, the estimate is late; the server then refuses the token, and `recover` refreshes.
        self.refresh_at = session.expires_at - session.lifetime / 3 * random.random()

    def remember(self, refusal: Refusal, *, ends_session: bool) -> None:
        """Store a refusal of our credential, so that no worker asks again; `ends_session` also drops our session."""
        self.refusal, self.is_refused = refusal, True
        document = self.document
        if ends_session:
            self.session = None
            # A session that another credential made is not ours to end.
            if document.made_with and self.matches_credential(document.made_with):
                document = replace(document, session=None)
        self._save_refusal(document)

    def mark_reported(self) -> None:
        """Store that the refusal was reported to Prefect. A refusal that has ended is deleted."""
        if self.refusal is not None:
            self.refusal = replace(self.refusal, is_told=True, alerts=True) if self.refusal.is_open else None
            self._save_refusal(self.document)

    def mark_ended(self, now: datetime) -> None:
        """Note that the account can be used again. `save_session` stores this."""
        if self.refusal is not None:
            self.refusal = replace(self.refusal, ended_at=now) if self.refusal.alerts else None
        self.is_refused = False

    def _save_refusal(self, document: SessionDocument) -> None:
        try:
            self.save(document.with_refusal(self.refusal))
        except StoreError as trouble:
            logger().warning("%s: the refusal could not be stored, only this process has it: %s", self.account, trouble)

    def check_did(self, did: str | None) -> None:
        """Raise `AuthError` (`wrong_account`) if a DID is not that of the first login: a handle can change hands."""
        if did is not None and self.did is not None and did != self.did:
            raise AuthError(AuthProblem.WRONG_ACCOUNT, self.account)

    @property
    def credential(self) -> str:
        """The credential at the last reading."""
        if self._credential is None:
            self.read_credential()
        return self._credential or ""

    def read_credential(self) -> None:
        """Read the credential again, as it may have been replaced. Raise `InvalidInput` or `StoreError`."""
        credential = self._sign_in.read_credential()
        if credential != self._credential:
            self._credential, self.made_with = credential, None

    @property
    def has_signed_in(self) -> bool:
        """True if our credential has signed in before."""
        return self.document.was_made_with(self.credential)

    def matches_credential(self, fingerprint: Fingerprint) -> bool:
        """Return True if a fingerprint is that of our credential. Before answering False, read the credential again."""
        if fingerprint == self.made_with or fingerprint.matches(self.credential):
            return True
        before = self.credential
        self.read_credential()
        return self.credential != before and fingerprint.matches(self.credential)
