"""The errors that this package raises.

    BlueskyError
    ├── InvalidInput               a value that cannot be used; names the field and the remedy
    │   └── DoesNotFit             a draft that a channel does not accept; names each post and its excess
    ├── AuthError                  the account cannot sign in; `problem` is the cause
    ├── ServiceError               an error answer of a server, or no answer
    │   ├── ServiceUnavailable     retryable: no answer, 5xx, or the answer of something before the server
    │   ├── RateLimited            retryable: 429
    │   │   └── BudgetSpent        retryable: the account's write budget is spent, so no request was sent
    │   └── RequestRefused         a final refusal: the same request will be refused again
    ├── StoreError                 an error of the session store
    │   ├── StoreUnavailable       retryable: no answer, throttled, or failing
    │   ├── StoreConflict          retryable: another worker saved first
    │   ├── StoreDenied            access denied
    │   ├── StorePendingDeletion   the secret is scheduled for deletion
    │   └── StoreDamaged           the stored data is damaged, or is not a session of this package
    ├── GeneratorFailed            a generator produced no usable drafts; retryable if a later call may succeed
    └── PublishError
        ├── SourceUnavailable      a file or page that the post needs cannot be read; retryable if it may be later
        ├── KeyConflict            the record key belongs to another post
        ├── Expired                the post makes no sense any more, and was not sent
        ├── NotEverywhere          a post that is not out for each of several accounts; `results` has the outcomes
        ├── Unconfirmed            a channel did not confirm the post, and cannot be asked
        └── CidMismatch            the server stored the post under another CID than the computed one

Retry rules read only `retryable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from datetime import datetime, timedelta
from typing import Any, Self

from prefect_bluesky.problems import AuthProblem


class BlueskyError(Exception):
    """The base class of this package's errors."""

    retryable: bool = False
    """True if the same call may succeed later with nothing changed."""

    problem: AuthProblem | None = None
    """The cause, if the account cannot sign in or be used."""

    def with_retryable(self, retryable: bool) -> Self:
        """Return a copy of this error with another value of `retryable`."""
        other = copy(self)
        other.retryable = retryable
        return other

    @property
    def stops_account(self) -> bool:
        """True if the account cannot publish until a person has fixed the problem."""
        return self.problem is not None and not self.retryable

    @property
    def is_temporary(self) -> bool:
        """True if the unchanged post can go out once its account or a server works again, so it is worth holding."""
        return self.stops_account or self.retryable


class InvalidInput(BlueskyError):
    """A value that cannot be used. `reason` and `remedy` are sentences, and must not contain a secret field's value.

    The base class is not `ValueError`, because pydantic would show a ValueError with the value, which may be secret.
    """

    def __init__(self, field: str, reason: str, remedy: str) -> None:
        super().__init__(field, reason, remedy)
        self.field, self.reason, self.remedy = field, reason, remedy

    def __str__(self) -> str:
        return f"{self.field}: {self.reason} {self.remedy}".rstrip()


class DoesNotFit(InvalidInput):
    """A draft that a channel does not accept. Each problem is a sentence with its field and its remedy."""

    def __init__(self, channel: str, problems: list[str]) -> None:
        super().__init__(channel, " ".join(problems), "")
        self.problems = problems

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class AuthError(BlueskyError):
    """An account cannot sign in.

    Args:
        problem: the cause, with its explanation and remedy.
        account: the account's handle or DID.
        retryable: True if another attempt may succeed with nothing changed.
        answer: the server's answer, if a server refused.
        found: what the evidence says; see `explained`.

    Attributes:
        symptom: the problem that the answer alone names, before any evidence.

    Example:
        >>> print(AuthError(AuthProblem.ACCOUNT_DEACTIVATED, "alice.bsky.social"))
        alice.bsky.social: The account is deactivated. Reactivate it in the Bluesky app. (account_deactivated)
    """

    problem: AuthProblem

    def __init__(
        self,
        problem: AuthProblem,
        account: str,
        *,
        retryable: bool = False,
        answer: ServiceError | None = None,
        found: str = "",
    ) -> None:
        super().__init__(problem, account)
        self.problem, self.symptom, self.found = problem, problem, found
        self.account, self.retryable = account, retryable
        self.http_status = answer.status if answer else None
        self.xrpc_error = answer.error if answer else None

    def __str__(self) -> str:
        return f"{self.account}: {self.explanation} {self.problem.remedy} ({self.problem.value})"

    @property
    def explanation(self) -> str:
        """The problem's explanation, with what was found."""
        return explanation_of(self.problem, self.found)

    def explained(self, problem: AuthProblem, found: str) -> Self:
        """Return a copy of this error that names the cause behind the server's answer, and what shows the cause."""
        other = copy(self)
        other.args = (problem, self.account)
        other.problem, other.found = problem, found
        return other


def explanation_of(problem: AuthProblem, found: str) -> str:
    """Return a problem's explanation, with what was found in this case."""
    return f"{problem.explanation} Found: {found}." if found else problem.explanation


class ServiceError(BlueskyError):
    """An error answer of a server, or no answer (`status` is None). `method` is the XRPC method.

    `error` and `message` are those of the answer; `retry_after` is the wait that the server asks for.
    """

    def __init__(
        self,
        server_url: str,
        method: str,
        status: int | None,
        error: str | None = None,
        message: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(server_url, method, status, error, message, retry_after)
        self.server_url, self.method, self.status = server_url, method, status
        self.error, self.message, self.retry_after = error, message, retry_after

    def __str__(self) -> str:
        said = ": ".join(part for part in (self.error, self.message) if part)
        return f"{self.server_url} answered {self.method} with {self.status} {said}".rstrip()


class ServiceUnavailable(ServiceError):
    """No answer, a 5xx answer, or the answer of something before the server, such as a firewall's page.

    The request may or may not have been carried out. An answer of something else has no XRPC `error`; its `message` is
    the title of the page.
    """

    retryable = True
    problem = AuthProblem.SERVICE_UNAVAILABLE

    @property
    def was_sent(self) -> bool:
        """False if no connection was made, so that the server knows nothing of the request."""
        return self.status is not None or not (self.message or "").startswith(("ConnectError", "ConnectTimeout"))

    def __str__(self) -> str:
        if self.status is None:
            remedy = "" if self.was_sent else " Check its URL, and that this machine can reach it."
            return f"{self.server_url} did not answer {self.method} ({self.message}).{remedy}"
        if self.error is None:
            said = f": {self.message}" if self.message else ""
            return f"Something before {self.server_url} answered {self.method} with {self.status}{said}"
        return super().__str__()


class RateLimited(ServiceError):
    """The server asks to slow down (429)."""

    retryable = True

    def __str__(self) -> str:
        wait = f"; the server asks to wait {self.retry_after.total_seconds():.0f} s" if self.retry_after else ""
        return super().__str__() + wait


class BudgetSpent(RateLimited):
    """The account's write budget is spent for now. No request was sent, because the server would refuse it.

    `retry_after` is the time until the budget suffices again, if nobody else spends it.
    """

    def __init__(self, server_url: str, method: str, retry_after: timedelta) -> None:
        super().__init__(server_url, method, None, retry_after=retry_after)
        self.args = (server_url, method, retry_after)

    def __str__(self) -> str:
        seconds = self.retry_after.total_seconds() if self.retry_after else 0
        return f"The account's write budget is spent for now. The next write is possible in {seconds:.0f} s."


class RequestRefused(ServiceError):
    """A final refusal: the same request will be refused again."""


class StoreError(BlueskyError):
    """An error of the session store. `place` is such as `AWS secret prefect-bluesky/alice.bsky.social/session`."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place, self.reason = place, reason

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class StoreUnavailable(StoreError):
    """The store did not answer, is throttled, or fails."""

    retryable = True
    problem = AuthProblem.STORE_UNAVAILABLE


class StoreConflict(StoreError):
    """Another worker saved the document after we had read it."""

    retryable = True


class StoreDenied(StoreError):
    """The store refuses access."""

    problem = AuthProblem.STORE_DENIED


class StorePendingDeletion(StoreError):
    """The secret is scheduled for deletion and can be neither read nor written."""

    problem = AuthProblem.SECRET_PENDING_DELETION


class StoreDamaged(StoreError):
    """The stored data is damaged, or is not a session of this package. It is left unchanged."""

    def __init__(self, place: str, reason: str, problem: AuthProblem = AuthProblem.STORE_UNREADABLE) -> None:
        super().__init__(place, reason)
        self.problem = problem


class GeneratorFailed(BlueskyError):
    """A generator produced no usable drafts.

    Args:
        generator: the generator, such as a model's name.
        reason: the error.
        retryable: True if a later call may succeed.
    """

    def __init__(self, generator: str, reason: str, *, retryable: bool = False) -> None:
        super().__init__(generator, reason)
        self.generator, self.reason, self.retryable = generator, reason, retryable

    def __str__(self) -> str:
        return f"{self.generator}: {self.reason}"


class PublishError(BlueskyError):
    """A post that was not published, or not correctly. The account's other posts are not affected."""


class SourceUnavailable(PublishError):
    """A file or page that a post needs cannot be read. Nothing was published. `reason` has the error and the remedy."""

    def __init__(self, source: str, reason: str, *, retryable: bool = False) -> None:
        super().__init__(source, reason)
        self.source, self.reason, self.retryable = source, reason, retryable

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


class KeyConflict(PublishError):
    """The record key belongs to another post, whose at:// URI is `uri`."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.uri = uri

    def __str__(self) -> str:
        return f"{self.uri} is another post. Give this post another key: each key names one post for ever."


class Expired(PublishError):
    """The post made sense until a time (`expires`) that has passed. It was not sent."""

    def __init__(self, expires: datetime) -> None:
        super().__init__(expires)
        self.expires = expires

    def __str__(self) -> str:
        until = f"{self.expires:%Y-%m-%d %H:%M} {self.expires.tzname() or 'UTC'}"
        return f"expires: the post made sense until {until}, so it was not sent. To send it, start a new run."


class NotEverywhere(PublishError):
    """A post that is not out for each of several accounts and channels. All were tried; `results` has the outcomes.

    Retryable if each failure is.
    """

    def __init__(self, results: Sequence[Any]) -> None:
        super().__init__(results)
        self.results = tuple(results)
        self.retryable = all(getattr(each.error, "retryable", False) for each in self.failed)

    @property
    def failed(self) -> tuple[Any, ...]:
        """The outcomes of the accounts and channels for which the post is not out."""
        return tuple(each for each in self.results if each.error)

    def __str__(self) -> str:
        # An error of another package may show a secret.
        reasons = (
            f"{each.to}: {each.error if isinstance(each.error, BlueskyError) else type(each.error).__name__}"
            for each in self.failed
        )
        return f"The post is not out for {len(self.failed)} of {len(self.results)}. {' '.join(reasons)}"


class Unconfirmed(PublishError):
    """A channel did not confirm a post, and cannot be asked. The post is not sent again."""

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.channel = channel

    def __str__(self) -> str:
        return (
            f"{self.channel} did not confirm a post, which may be out or not. The post is not sent again. Look for it"
            " there, and if it is missing, start a new run."
        )


class CidMismatch(PublishError):
    """The post is published, but with another CID (`found`) than the one computed from its record (`expected`)."""

    def __init__(self, uri: str, expected: str, found: str) -> None:
        super().__init__(uri, expected, found)
        self.uri, self.expected, self.found = uri, expected, found

    def __str__(self) -> str:
        return (
            f"{self.uri} is published with the CID {self.found}, but {self.expected} was expected. Please report this."
        )
