"""Diagnose an account that cannot publish: make the checks a person would make, and name the cause.

The gate names causes by the same evidence. The diagnosis also looks at what no refusal has shown yet: the stored
session, the clock, the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field, computed_field

from prefect_bluesky.errors import BlueskyError, RequestRefused, ServiceError, ServiceUnavailable, StoreError
from prefect_bluesky.prefect_api import table_cell
from prefect_bluesky.problems import AuthProblem, classify, is_token_refusal, root_cause
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.sessions.authenticator import Authenticator
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.evidence import Check, Evidence
from prefect_bluesky.sessions.login import is_unknown_method
from prefect_bluesky.sessions.profile import BOT, PROFILE, labels_of
from prefect_bluesky.sessions.session import Session
from prefect_bluesky.sessions.sign_in import Signed, SignIn
from prefect_bluesky.sessions.stores.base import SessionStore

_DRIFT = timedelta(minutes=5)
# A commit that differs from the account's: the server first checks everything else, then refuses the commit.
_NO_COMMIT = "bafyreieqyabdae2fmyw2xg2aylcwox3ex6uexgqgkgzsoa3j72jvncsopa"


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
        return root_cause(check.problem for check in self.checks)

    def to_markdown(self) -> str:
        """Return the report for people."""
        cause = self.problem
        verdict = f"**{cause}**: {cause.explanation}\n\n{cause.remedy}" if cause else "The account can publish."
        rows = [f"| {c.name} | {table_cell(c.found)} | {c.problem or 'ok'} |" for c in self.checks]
        table = "\n".join(["| check | found | verdict |", "|---|---|---|", *rows])
        # Not in the table: Prefect's UI leaves a fourth column no room.
        others = dict.fromkeys(c.problem for c in self.checks if c.problem not in {None, cause})
        remedies = (f"**{problem}**: {problem.remedy}" for problem in others if problem)
        return "\n\n".join([f"# {self.account}", verdict, table, *remedies])


@dataclass
class Examination:
    """The checks of one account. Each check uses the findings of the earlier ones."""

    account: str
    service_url: str
    store: SessionStore
    authenticator: Authenticator
    directory_url: str
    max_logins_per_day: int
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    known: SessionDocument = field(default=SessionDocument(), init=False)

    @property
    def sign_in(self) -> SignIn:
        """How the account signs in."""
        return self.authenticator.sign_in

    def run(self, *, log_in: bool, is_bot: bool = False) -> Diagnosis:
        """Make all checks; see `BlueskyCredentials.diagnose`."""
        checks = list(self.checks(log_in=log_in))
        if is_bot and self.known.session is not None:
            checks.append(self.label(self.known.session))
        return Diagnosis(account=self.account, checks=checks)

    def checks(self, *, log_in: bool) -> Iterator[Check]:
        """Yield the checks in turn. If the service does not answer, stop, as later checks would find nothing."""
        yield self.stored_session()
        service = self.service()
        yield service
        if service.problem is not None:
            return
        yield self.clock()
        yield from self.evidence.checks()
        yield self.credential()
        yield self.logins()
        if self.known.session is not None and self.evidence.has_signed_in:
            yield from self.tokens(self.known.session)
        if log_in and self.sign_in.logs_in:
            yield self.login()

    def stored_session(self) -> Check:
        name = "Stored session"
        try:
            saved = self.store.load()
        except StoreError as trouble:
            return Check(name=name, found=str(trouble), problem=trouble.problem)
        if saved:
            with suppress(BlueskyError):  # without a credential, as it is stored
                ours = self.sign_in.read_credential()
                saved = replace(saved, document=saved.document.as_seen_by(lambda each: each.matches(ours)))
            self.known = saved.document
        session = self.known.session
        if session is None:
            found = f"none in {self.store.place}"
            if not self.sign_in.logs_in:
                return Check(name=name, found=found, problem=AuthProblem.GRANT_MISSING)
            return Check(name=name, found=f"{found}; the next publish signs in")
        hours = (self.now() - session.received_at) / timedelta(hours=1)
        found = f"of {session.handle} ({session.did}), {hours:.1f} h old, in {self.store.place}"
        if session.ends_at is not None:
            spare = "a spare one" if self.known.spare else "no spare one"
            found += f"; granted until {session.ends_at.astimezone(UTC):%Y-%m-%d}, with {spare}"
        if not self.evidence.has_signed_in:
            # Another block of the account may use it, so it is neither tried nor said to be at fault.
            found += ". Another app password made it; the next publish signs in with this block's"
        return Check(name=name, found=found)

    def service(self) -> Check:
        """Check that the service answers like a PDS."""
        name, method = "Service", "com.atproto.server.describeServer"
        try:
            answer = xrpc.query(self.service_url, method, {})
        except ServiceError as trouble:
            is_no_pds = is_unknown_method(trouble)
            problem = AuthProblem.WRONG_SERVICE if is_no_pds else AuthProblem.SERVICE_UNAVAILABLE
            return Check(name=name, found=str(trouble), problem=problem)
        if "did" not in answer:
            found = f"{self.service_url} answers, but not like a PDS"
            return Check(name=name, found=found, problem=AuthProblem.SERVICE_UNAVAILABLE)
        return Check(name=name, found=f"{self.service_url} is {answer['did']}")

    def clock(self) -> Check:
        name = "Clock"
        try:
            drift = self.now() - xrpc.server_time(self.service_url)
        except ServiceUnavailable as trouble:
            return Check(name=name, found=str(trouble))
        found = f"{drift.total_seconds():+.0f} s compared to the server's clock"
        return Check(name=name, found=found, problem=AuthProblem.CLOCK_DRIFT if abs(drift) > _DRIFT else None)

    @cached_property
    def evidence(self) -> Evidence:
        """What can be found out about the account without a login, in view of the stored session."""
        try:
            has_signed_in = self.known.was_made_with(self.sign_in.read_credential())
        except BlueskyError:
            has_signed_in = False  # as far as the credential can be read
        return Evidence(self.account, self.service_url, self.directory_url, self.known, has_signed_in)

    def credential(self) -> Check:
        try:
            return Check(name=self.sign_in.kind, found=self.sign_in.describe())
        except BlueskyError as trouble:
            return Check(name=self.sign_in.kind, found=str(trouble), problem=trouble.problem)

    def logins(self) -> Check:
        """Count the logins of the last 24 hours, and look for an open refusal."""
        name = "Logins"
        count = len(self.known.logins_of_the_day(self.now()))
        found = f"{count} of {self.max_logins_per_day} in the last 24 hours" if self.sign_in.logs_in else "none needed"
        refusal = self.known.refusal
        if refusal is not None and refusal.is_open and refusal.credential.matches(self.sign_in.read_credential()):
            since = f"{refusal.first_seen.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            problem = self.evidence.in_view_of_history(refusal.problem)
            return Check(name=name, found=f"{found}; refused since {since}", problem=problem)
        limit = AuthProblem.LOGIN_LIMIT_REACHED if count >= self.max_logins_per_day else None
        return Check(name=name, found=found, problem=limit)

    def tokens(self, session: Session) -> Iterator[Check]:
        """Check the session's scope, and that the server accepts its tokens."""
        main = AuthProblem.MAIN_PASSWORD_USED if session.scope == "com.atproto.access" else None
        yield Check(name="Scope", found=session.scope, problem=main)
        auth = Signed(self.sign_in, session)
        write = {
            "repo": session.did,
            "collection": "app.bsky.feed.post",
            "record": {"$type": "app.bsky.feed.post", "text": "a check", "createdAt": "2026-01-01T00:00:00Z"},
            "swapCommit": _NO_COMMIT,
        }
        name, needs_refresh = "Access token, and a write that is not committed", not self.sign_in.refresh_is_final
        try:
            xrpc.procedure(session.pds_url, "com.atproto.repo.createRecord", write, auth=auth)
        except RequestRefused as refused:
            if refused.error == "InvalidSwap":
                yield Check(name=name, found="accepted")
            else:
                problem = classify(error=refused.error, message=refused.message)
                needs_refresh |= is_token_refusal(error=refused.error, message=refused.message)
                yield Check(name=name, found=str(refused), problem=problem)
        except ServiceError as trouble:
            yield Check(name=name, found=str(trouble), problem=trouble.problem)
        if needs_refresh:
            yield self.refresh(session)

    @staticmethod
    def label(session: Session) -> Check:
        """Look for the label that says that a program writes the posts. A missing label stops no post."""
        name, method = "Label", "com.atproto.repo.getRecord"
        try:
            found = xrpc.query(session.pds_url, method, {"repo": session.did, "collection": PROFILE, "rkey": "self"})
        except ServiceError as trouble:
            return Check(name=name, found=f"the profile cannot be read: {trouble}")
        if BOT in labels_of(found.get("value") or {}):
            return Check(name=name, found="the profile says that a program writes the posts")
        return Check(name=name, found="the profile does not say that a program writes the posts: label_as_bot() does")

    def refresh(self, session: Session) -> Check:
        name = "Refresh"
        try:
            if self.sign_in.refresh_is_final:
                # The next publish does the same.
                renewed = self.authenticator.recover(session)
                return Check(name=name, found=f"valid until {renewed.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
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
            return Check(name=name, found=str(trouble), problem=problem)
        return Check(name=name, found=str(status))
