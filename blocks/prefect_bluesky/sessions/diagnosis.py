"""Diagnose an account that cannot publish: make the checks a person would make, and name the cause.

A server gives the same answer for many causes. Public facts distinguish them: the owner of the handle, the account's
PDS and status, and the stored session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, computed_field

from prefect_bluesky.errors import BlueskyError, RequestRefused, ServiceError, ServiceUnavailable, StoreError
from prefect_bluesky.prefect_api import table_cell
from prefect_bluesky.problems import AuthProblem, classify, problem_of_status
from prefect_bluesky.protocol import did_document, pds_in, resolve_handle, xrpc
from prefect_bluesky.sessions.app_password import AppPassword
from prefect_bluesky.sessions.authenticator import Authenticator
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.session import Session
from prefect_bluesky.sessions.stores.base import SessionStore
from prefect_bluesky.validation import looks_like_app_password

_DRIFT = timedelta(minutes=5)
# An entryway signs in the accounts of many PDSs (https://docs.bsky.app/docs/advanced-guides/entryway).
_ENTRYWAYS = {"https://bsky.social"}
# A commit that differs from the account's: the server first checks everything else, then refuses the commit.
_NO_COMMIT = "bafyreieqyabdae2fmyw2xg2aylcwox3ex6uexgqgkgzsoa3j72jvncsopa"

# An earlier problem explains the later ones.
# fmt: off
_BY_DEPTH = [
    AuthProblem.STORE_UNAVAILABLE, AuthProblem.STORE_DENIED, AuthProblem.SECRET_PENDING_DELETION,
    AuthProblem.STORE_UNREADABLE, AuthProblem.MALFORMED_HEADER, AuthProblem.WRONG_TOKEN_TYPE, AuthProblem.WRONG_SERVICE,
    AuthProblem.WRONG_ACCOUNT, AuthProblem.ACCOUNT_MOVED, AuthProblem.ACCOUNT_TAKEN_DOWN,
    AuthProblem.ACCOUNT_DEACTIVATED, AuthProblem.ACCOUNT_DELETED, AuthProblem.HANDLE_NOT_FOUND,
    AuthProblem.SERVICE_UNAVAILABLE, AuthProblem.LOGIN_LIMIT_REACHED, AuthProblem.SIGN_IN_CODE_REQUIRED,
    AuthProblem.APP_PASSWORD_REVOKED, AuthProblem.APP_PASSWORD_REJECTED, AuthProblem.MALFORMED_TOKEN,
    AuthProblem.INSUFFICIENT_SCOPE, AuthProblem.SESSION_REVOKED, AuthProblem.REFRESH_TOKEN_EXPIRED,
    AuthProblem.ACCESS_TOKEN_EXPIRED, AuthProblem.MAIN_PASSWORD_USED, AuthProblem.CLOCK_DRIFT,
]
# fmt: on


class Check(BaseModel):
    """A check and its result."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="The name of the check.")
    found: str = Field(description="The finding; nothing secret.")
    problem: AuthProblem | None = Field(default=None, description="The problem found, if any.")


class Diagnosis(BaseModel):
    """The checks of an account, and the problem that explains the others. Safe to log and to return.

    Example:
        >>> credentials.diagnose().checks[0].name
        'Stored session'
    """

    model_config = ConfigDict(frozen=True)

    account: str = Field(description="The handle or DID.")
    checks: list[Check] = Field(description="The checks, in the order in which they were made.")

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know that it takes a property
    @property
    def problem(self) -> AuthProblem | None:
        """The cause, or None if the account can publish."""
        found = {check.problem for check in self.checks}
        return next((problem for problem in _BY_DEPTH if problem in found), None)

    def to_markdown(self) -> str:
        """Return the report for people."""
        cause = self.problem
        verdict = f"**{cause}**: {cause.explanation}\n\n{cause.remedy}" if cause else "The account can publish."
        rows = [
            f"| {c.name} | {table_cell(c.found)} | {c.problem or 'ok'} | {c.problem.remedy if c.problem else ''} |"
            for c in self.checks
        ]
        head = ["| check | found | verdict | remedy |", "|---|---|---|---|"]
        return "\n".join([f"# {self.account}", "", verdict, "", *head, *rows])


@dataclass
class Examination:
    """The checks of one account. Each check uses the findings of the earlier ones."""

    account: str
    service_url: str
    read_app_password: AppPassword
    store: SessionStore
    authenticator: Authenticator
    directory_url: str
    max_logins_per_day: int
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    known: SessionDocument = field(default=SessionDocument(), init=False)
    did: str | None = field(default=None, init=False)

    def run(self, *, log_in: bool) -> Diagnosis:
        """Make all checks; see `BlueskyCredentials.diagnose`."""
        return Diagnosis(account=self.account, checks=list(self.checks(log_in=log_in)))

    def checks(self, *, log_in: bool) -> Iterator[Check]:
        """Yield the checks in turn. If the service does not answer, stop, as later checks would find nothing."""
        yield self.stored_session()
        service = self.service()
        yield service
        if service.problem is not None:
            return
        yield self.clock()
        yield from self.identity()
        yield self.app_password()
        yield self.logins()
        if self.known.session is not None:
            yield from self.tokens(self.known.session)
        if log_in:
            yield self.login()

    def stored_session(self) -> Check:
        name = "Stored session"
        try:
            saved = self.store.load()
        except StoreError as trouble:
            return Check(name=name, found=str(trouble), problem=trouble.problem)
        self.known = saved.document if saved else self.known
        session = saved.document.session if saved else None
        if session is None:
            return Check(name=name, found=f"none in {self.store.place}; the next publish signs in")
        hours = (self.now() - session.received_at) / timedelta(hours=1)
        found = f"of {session.handle} ({session.did}), {hours:.1f} h old, in {self.store.place}"
        return Check(name=name, found=found)

    def service(self) -> Check:
        """Check that the service answers like a PDS."""
        name, method = "Service", "com.atproto.server.describeServer"
        try:
            answer = xrpc.query(self.service_url, method, {})
        except ServiceError as trouble:
            is_web_page = trouble.error is None and trouble.status is not None and trouble.status < 500
            problem = AuthProblem.WRONG_SERVICE if is_web_page else AuthProblem.SERVICE_UNAVAILABLE
            return Check(name=name, found=str(trouble), problem=problem)
        if "did" not in answer:
            found = f"{self.service_url} answers, but not like a PDS"
            return Check(name=name, found=found, problem=AuthProblem.WRONG_SERVICE)
        return Check(name=name, found=f"{self.service_url} is {answer['did']}")

    def clock(self) -> Check:
        name = "Clock"
        try:
            drift = self.now() - xrpc.server_time(self.service_url)
        except ServiceUnavailable as trouble:
            return Check(name=name, found=str(trouble))
        found = f"{drift.total_seconds():+.0f} s compared to the server's clock"
        return Check(name=name, found=found, problem=AuthProblem.CLOCK_DRIFT if abs(drift) > _DRIFT else None)

    def identity(self) -> Iterator[Check]:
        """Check the owner of the handle, and that account's PDS and status."""
        known = self.account if self.account.startswith("did:") else self.known.did
        resolved = known
        if not self.account.startswith("did:"):
            try:
                resolved = resolve_handle(self.service_url, self.account)
            except ServiceError as trouble:
                yield Check(name="Handle", found=str(trouble))
            else:
                problem = None
                if known and resolved and known != resolved:
                    problem = AuthProblem.WRONG_ACCOUNT
                elif resolved is None:
                    problem = AuthProblem.HANDLE_NOT_FOUND
                before = f"; the stored account is {known}" if problem and known else ""
                found = f"{self.account} belongs to {resolved or 'nobody'}{before}"
                yield Check(name="Handle", found=found, problem=problem)
        self.did = known or resolved
        if self.did is None:
            return
        home = pds_in(did_document(self.did, self.directory_url))
        yield self.home(home)
        yield self.status(home or (self.known.session.pds_url if self.known.session else self.service_url))

    def home(self, home: str | None) -> Check:
        """Compare the session's PDS and the service with the PDS in the DID document."""
        name = "PDS"
        if home is None:
            return Check(name=name, found="the DID document names no PDS, or cannot be read")
        problem, session = None, self.known.session
        if session is not None and session.pds_url != home:
            problem = AuthProblem.ACCOUNT_MOVED
        elif session is None and self.service_url not in {home, *_ENTRYWAYS}:
            problem = AuthProblem.WRONG_SERVICE
        return Check(name=name, found=f"the DID document names {home}", problem=problem)

    def status(self, pds_url: str) -> Check:
        """Ask the PDS for the account's status, without a password."""
        name, method = "Account", "com.atproto.sync.getRepoStatus"
        try:
            answer = xrpc.query(pds_url, method, {"did": self.did or ""})
        except RequestRefused as refused:
            gone = AuthProblem.ACCOUNT_DELETED if refused.error == "RepoNotFound" else None
            return Check(name=name, found=str(refused), problem=gone)
        except ServiceError as trouble:
            return Check(name=name, found=str(trouble))
        if answer.get("active") is True:
            return Check(name=name, found="active")
        status = str(answer.get("status", "inactive"))
        return Check(name=name, found=status, problem=problem_of_status(status))

    def app_password(self) -> Check:
        name = "App password"
        try:
            password = self.read_app_password()
        except BlueskyError as trouble:
            return Check(name=name, found=str(trouble), problem=trouble.problem)
        looks = "looks" if looks_like_app_password(password) else "does not look"
        return Check(name=name, found=f"{looks} like an app password")

    def logins(self) -> Check:
        """Count the logins of the last 24 hours, and look for an open refusal."""
        name = "Logins"
        count = len(self.known.logins_of_the_day(self.now()))
        found = f"{count} of {self.max_logins_per_day} in the last 24 hours"
        refusal = self.known.refusal
        if refusal is not None and refusal.is_open and refusal.credential.matches(self._credential()):
            since = f"{refusal.first_seen.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            return Check(name=name, found=f"{found}; refused since {since}", problem=self._refused(refusal.problem))
        limit = AuthProblem.LOGIN_LIMIT_REACHED if count >= self.max_logins_per_day else None
        return Check(name=name, found=found, problem=limit)

    def tokens(self, session: Session) -> Iterator[Check]:
        """Check the session's scope, and that the server accepts its tokens."""
        main = AuthProblem.MAIN_PASSWORD_USED if session.scope == "com.atproto.access" else None
        yield Check(name="Scope", found=session.scope, problem=main)
        auth = xrpc.BearerToken(session.access_token)
        write = {
            "repo": session.did,
            "collection": "app.bsky.feed.post",
            "record": {"$type": "app.bsky.feed.post", "text": "a check", "createdAt": "2026-01-01T00:00:00Z"},
            "swapCommit": _NO_COMMIT,
        }
        name = "Access token, and a write that is not committed"
        try:
            xrpc.procedure(session.pds_url, "com.atproto.repo.createRecord", write, auth=auth)
        except RequestRefused as refused:
            if refused.error == "InvalidSwap":
                yield Check(name=name, found="accepted")
            else:
                problem = classify(error=refused.error, message=refused.message)
                yield Check(name=name, found=str(refused), problem=problem)
        except ServiceError as trouble:
            yield Check(name=name, found=str(trouble), problem=trouble.problem)
        yield self.refresh()

    def refresh(self) -> Check:
        name = "Refresh"
        try:
            status = self.authenticator.refresh()
        except RequestRefused as ended:
            problem = classify(error=ended.error, message=ended.message)
            if problem is AuthProblem.ACCESS_TOKEN_EXPIRED:
                problem = AuthProblem.REFRESH_TOKEN_EXPIRED
            return Check(name=name, found=str(ended), problem=problem)
        except BlueskyError as trouble:
            return Check(name=name, found=str(trouble), problem=trouble.problem)
        return Check(name=name, found=str(status))

    def login(self) -> Check:
        name = "Login"
        try:
            status = self.authenticator.log_in()
        except BlueskyError as trouble:
            limited = isinstance(trouble, ServiceError) and trouble.status == 429
            problem = AuthProblem.LOGIN_LIMIT_REACHED if limited else trouble.problem
            return Check(name=name, found=str(trouble), problem=problem and self._refused(problem))
        return Check(name=name, found=str(status))

    def _refused(self, problem: AuthProblem) -> AuthProblem:
        """Return the problem; a rejected app password that has signed in before was revoked, not mistyped."""
        made_with = self.known.password_fingerprint
        if problem is AuthProblem.APP_PASSWORD_REJECTED and made_with and made_with.matches(self._credential()):
            return AuthProblem.APP_PASSWORD_REVOKED
        return problem

    def _credential(self) -> str:
        return f"{self.service_url} {self.read_app_password()}"
