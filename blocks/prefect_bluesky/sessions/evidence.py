"""The evidence about an account that costs no login: who has the handle, where the account lives, and its status there.

A server gives one answer for many causes. These public facts, and what is stored, distinguish them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.errors import AuthError, RequestRefused, ServiceError
from prefect_bluesky.problems import AuthProblem, problem_of_status, root_cause
from prefect_bluesky.protocol import did_document, handles_in, pds_in, resolve_handle, signs_in_at, xrpc
from prefect_bluesky.sessions.document import SessionDocument

PATIENCE = 5.0
"""Seconds for each of three requests. They are made under the lock of the account's worker."""


class Check(BaseModel):
    """A check and its result."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="The name of the check.")
    found: str = Field(description="The finding; nothing secret.")
    problem: AuthProblem | None = Field(default=None, description="The problem found, if any.")


@dataclass
class Evidence:
    """The evidence about one account.

    Args:
        account: the handle or DID that the block names.
        service_url: where the account signs in.
        directory_url: the directory of did:plc accounts.
        known: the stored document.
        has_signed_in: whether the block's app password has signed in at this service before.

    Attributes:
        did: the account's DID, once a check has found it.
    """

    account: str
    service_url: str
    directory_url: str
    known: SessionDocument
    has_signed_in: bool
    did: str | None = field(default=None, init=False)
    _documents: dict[str, dict[str, Any] | None] = field(default_factory=dict, init=False)

    def explain(self, refusal: AuthError) -> AuthError:
        """Return the refusal with its cause, as far as the evidence can be had."""
        # An account that has moved is deactivated at its old PDS. All else is known of a deactivated one.
        if refusal.problem is AuthProblem.ACCOUNT_DEACTIVATED and self.known.did:
            checks = [self._home(self._read_home(self.known.did))]
        else:
            checks = list(self.checks())
        cause = root_cause([self.in_view_of_history(refusal.problem), *(check.problem for check in checks)])
        shown = next((check.found for check in checks if check.problem is cause), "")
        return refusal.explained(cause or refusal.problem, shown)

    def in_view_of_history(self, problem: AuthProblem) -> AuthProblem:
        """Return the problem; a rejected app password that has signed in before was revoked, not mistyped."""
        was_revoked = problem is AuthProblem.APP_PASSWORD_REJECTED and self.has_signed_in
        return AuthProblem.APP_PASSWORD_REVOKED if was_revoked else problem

    def checks(self) -> Iterator[Check]:
        """Yield the checks of the handle, the PDS and the account's status there."""
        self.did = self.account if self.account.startswith("did:") else self.known.did
        if not self.account.startswith("did:"):
            yield self._handle()
        if self.did is None:
            return
        home = self._read_home(self.did)
        yield self._home(home)
        session = self.known.session
        # Elsewhere than at its own PDS, an account that exists is unknown.
        if pds_url := home or (session.pds_url if session else None):
            yield self._status(pds_url, self.did)

    def _handle(self) -> Check:
        """Compare the owner of the handle with the stored account."""
        name, known = "Handle", self.known.did
        try:
            resolved = resolve_handle(self.service_url, self.account, timeout=PATIENCE)
        except ServiceError as trouble:
            return Check(name=name, found=str(trouble))
        self.did = known or resolved
        if resolved is None and known and self.account in handles_in(self._document(known)):
            return Check(name=name, found=f"{self.account} cannot be looked up now, and {known} still claims it")
        problem = None
        if resolved is None:
            problem = AuthProblem.HANDLE_NOT_FOUND
        elif known and known != resolved:
            problem = AuthProblem.WRONG_ACCOUNT
        before = f"; the stored account is {known}" if problem and known else ""
        return Check(name=name, found=f"{self.account} belongs to {resolved or 'nobody'}{before}", problem=problem)

    def _read_home(self, did: str) -> str | None:
        return pds_in(self._document(did))

    def _document(self, did: str) -> dict[str, Any] | None:
        if did not in self._documents:
            # Without the evidence, the general cause stands.
            self._documents[did] = None
            with suppress(ServiceError):
                self._documents[did] = did_document(did, self.directory_url, timeout=PATIENCE)
        return self._documents[did]

    def _home(self, home: str | None) -> Check:
        """Compare the service and the session's PDS with the PDS in the DID document."""
        name = "PDS"
        if home is None:
            return Check(name=name, found="the DID document names no PDS, or cannot be read")
        problem, session = None, self.known.session
        if session is not None and self.has_signed_in:
            # Whoever has made this session signs in for this PDS, whatever their addresses are.
            problem = None if session.pds_url == home else AuthProblem.ACCOUNT_MOVED
        elif not signs_in_at(self.service_url, home):
            problem = AuthProblem.ACCOUNT_MOVED if self.has_signed_in else AuthProblem.WRONG_SERVICE
        return Check(name=name, found=f"the DID document names {home}", problem=problem)

    @staticmethod
    def _status(pds_url: str, did: str) -> Check:
        """Ask the PDS for the account's status, without a password."""
        name, method = "Account", "com.atproto.sync.getRepoStatus"
        try:
            answer = xrpc.query(pds_url, method, {"did": did}, timeout=PATIENCE)
        except RequestRefused as refused:
            gone = AuthProblem.ACCOUNT_DELETED if refused.error == "RepoNotFound" else None
            return Check(name=name, found=f"{pds_url} has no such account" if gone else str(refused), problem=gone)
        except ServiceError as trouble:
            return Check(name=name, found=str(trouble))
        if answer.get("active") is True:
            return Check(name=name, found="active")
        status = str(answer.get("status", "inactive"))
        return Check(name=name, found=f"{pds_url} says {status}", problem=problem_of_status(status))
