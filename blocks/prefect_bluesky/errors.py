"""Everything that this package raises on purpose.

    BlueskyError
    ├── InvalidInput               what a person gave cannot be used; names the field and the remedy
    │   └── DoesNotFit             a channel does not take it; names each post and by how much it is over
    ├── AuthError                  the account cannot sign in; `problem` says why
    ├── ServiceError               what a server answered, or that it did not
    │   ├── ServiceUnavailable     retryable: no answer, or 5xx
    │   ├── RateLimited            retryable: 429
    │   │   └── BudgetSpent        it would be: the account's own budget of writes is spent
    │   └── RequestRefused         a definite no
    ├── StoreError                 the place where sessions are kept
    │   ├── StoreUnavailable       retryable: no answer, throttled, or failing
    │   ├── StoreConflict          retryable: somebody else saved first
    │   ├── StoreDenied            no access
    │   ├── StorePendingDeletion   the secret is scheduled for deletion
    │   └── StoreDamaged           what lies there is not a session of ours
    ├── GeneratorFailed            no drafts came of an idea; retryable where a model's provider may answer later
    └── PublishError
        ├── SourceUnavailable      a file or page that the post needs cannot be read; retryable if that may pass
        ├── KeyConflict            the record key is taken by another post
        ├── Unconfirmed            a channel did not say that it has it, and cannot be asked
        └── CidMismatch            the server stored something else than was computed

Retry rules read `retryable` and nothing else.
"""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from typing import Self

from prefect_bluesky.problems import AuthProblem


class BlueskyError(Exception):
    """The root of the tree."""

    retryable: bool = False
    """Whether the same call may succeed a little later with nothing changed."""

    problem: AuthProblem | None = None
    """Why the account cannot sign in or be used, if that is what happened."""

    def with_retryable(self, retryable: bool) -> Self:
        """Return this error with another word on whether the same call may be made again."""
        other = copy(self)
        other.retryable = retryable
        return other

    @property
    def stops_account(self) -> bool:
        """Whether the account can publish nothing until a person has mended something."""
        return self.problem is not None and not self.retryable

    @property
    def is_temporary(self) -> bool:
        """Whether a post can go out as it is, once its account or a server is well again: so it is worth holding."""
        return self.stops_account or self.retryable


class InvalidInput(BlueskyError):
    """A value that cannot be used.

    Deliberately no `ValueError`: pydantic would wrap that one together with the value, which may be secret.

    Args:
        field: the name of the field.
        reason: what is wrong with it; never the value of a secret field.
        remedy: what to write instead.
    """

    def __init__(self, field: str, reason: str, remedy: str) -> None:
        super().__init__(field, reason, remedy)
        self.field = field
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.field}: {self.reason} {self.remedy}"


class DoesNotFit(InvalidInput):
    """A draft that a channel does not take.

    Args:
        channel: what a person calls it.
        problems: what is wrong, each with its field and its remedy.
    """

    def __init__(self, channel: str, problems: list[str]) -> None:
        super().__init__(channel, " ".join(problems), "")
        self.problems = problems

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class AuthError(BlueskyError):
    """The account cannot sign in.

    Attributes:
        problem: the cause; never None.

    Args:
        problem: the cause, with its explanation and remedy.
        account: the handle or DID that it concerns.
        retryable: whether another attempt may succeed all the same.
        answer: what the server answered, if a server refused.
    """

    problem: AuthProblem

    def __init__(
        self, problem: AuthProblem, account: str, *, retryable: bool = False, answer: ServiceError | None = None
    ) -> None:
        super().__init__(problem, account)
        self.retryable = retryable
        self.http_status = answer.status if answer else None
        self.xrpc_error = answer.error if answer else None
        self.problem = problem
        self.account = account

    def __str__(self) -> str:
        return f"{self.account}: {self.problem.explanation} {self.problem.remedy} ({self.problem.value})"


class ServiceError(BlueskyError):
    """What a server answered.

    Args:
        server_url: the server that was asked.
        method: the XRPC method, such as `com.atproto.repo.applyWrites`.
        status: the HTTP status, or None if there was no answer.
        error: the answer's `error`, such as `InvalidRequest`.
        message: the answer's `message`.
        retry_after: how long the server asks to wait, if it says so.
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
        self.server_url = server_url
        self.method = method
        self.status = status
        self.error = error
        self.message = message
        self.retry_after = retry_after

    def __str__(self) -> str:
        said = ": ".join(part for part in (self.error, self.message) if part)
        return f"{self.server_url} answered {self.method} with {self.status} {said}".rstrip()


class ServiceUnavailable(ServiceError):
    """No answer, or an answer of the 500 kind. What was asked may or may not have happened."""

    retryable = True
    problem = AuthProblem.SERVICE_UNAVAILABLE

    def __str__(self) -> str:
        if self.status:
            return super().__str__()
        return f"{self.server_url} did not answer {self.method} ({self.message})"


class RateLimited(ServiceError):
    """The server asks to slow down (429)."""

    retryable = True

    def __str__(self) -> str:
        wait = f"; the server asks to wait {self.retry_after.total_seconds():.0f} s" if self.retry_after else ""
        return super().__str__() + wait


class BudgetSpent(RateLimited):
    """The account has spent what it may on writes for now. The server was not asked, as it would refuse.

    Args:
        server_url: the server that was not asked.
        method: what for.
        retry_after: when the budget suffices again, if nobody else spends it.
    """

    def __init__(self, server_url: str, method: str, retry_after: timedelta) -> None:
        super().__init__(server_url, method, None, retry_after=retry_after)
        self.args = (server_url, method, retry_after)

    def __str__(self) -> str:
        seconds = self.retry_after.total_seconds() if self.retry_after else 0
        return f"The account's budget of writes is spent for now; the next may go out in {seconds:.0f} s."


class RequestRefused(ServiceError):
    """A definite no: the same request will be refused again."""


class StoreError(BlueskyError):
    """The place where sessions are kept answered with an error.

    Args:
        place: which one, such as `AWS secret prefect-bluesky/alice.bsky.social/session`.
        reason: what happened.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place = place
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class StoreUnavailable(StoreError):
    """The store did not answer, is throttled, or fails."""

    retryable = True
    problem = AuthProblem.STORE_UNAVAILABLE


class StoreConflict(StoreError):
    """Somebody else saved between our reading and our saving."""

    retryable = True


class StoreDenied(StoreError):
    """The store refuses access."""

    problem = AuthProblem.STORE_DENIED


class StorePendingDeletion(StoreError):
    """The secret is scheduled for deletion and can be neither read nor written."""

    problem = AuthProblem.SECRET_PENDING_DELETION


class StoreDamaged(StoreError):
    """What lies in the store is not a session of ours, or is damaged. It is left as it is.

    Args:
        place: as `StoreError`.
        reason: as `StoreError`.
        problem: what is wrong with it, if it is known better than that it cannot be read.
    """

    def __init__(self, place: str, reason: str, problem: AuthProblem = AuthProblem.STORE_UNREADABLE) -> None:
        super().__init__(place, reason)
        self.problem = problem


class GeneratorFailed(BlueskyError):
    """What was to make drafts of an idea made none that can be used.

    Args:
        generator: which one, such as a model's name.
        reason: what happened.
        retryable: whether it may pass by itself.
    """

    def __init__(self, generator: str, reason: str, *, retryable: bool = False) -> None:
        super().__init__(generator, reason)
        self.generator = generator
        self.reason = reason
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.generator}: {self.reason}"


class PublishError(BlueskyError):
    """A post that was not, or not rightly, published."""

    @property
    def is_temporary(self) -> bool:
        """No: what concerns this post alone must not hold up those after it."""
        return False


class SourceUnavailable(PublishError):
    """A file or page that a post needs cannot be read. Nothing was published.

    Args:
        source: the path or URL.
        reason: what happened, and what to do about it.
        retryable: whether it may pass by itself, as a server that does not answer.
    """

    def __init__(self, source: str, reason: str, *, retryable: bool = False) -> None:
        super().__init__(source, reason)
        self.retryable = retryable
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


class KeyConflict(PublishError):
    """The record key is taken by another post.

    Args:
        uri: the at:// URI that is taken.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.uri = uri

    def __str__(self) -> str:
        return f"{self.uri} is another post. Give this post another key: a key stands for one post for ever."


class Unconfirmed(PublishError):
    """A channel did not say that it has a post, and it cannot be asked: the post is not sent again.

    Args:
        channel: what a person calls it.
    """

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.channel = channel

    def __str__(self) -> str:
        return (
            f"{self.channel} did not confirm a post, which may be out or not. It is not sent again: look there, and if"
            " it is missing, start a new run for it."
        )


class CidMismatch(PublishError):
    """The server stored the post under another CID than was computed from the same record.

    Args:
        uri: the at:// URI of the post, which is published.
        expected: the CID computed before sending.
        found: the CID that the server answered.
    """

    def __init__(self, uri: str, expected: str, found: str) -> None:
        super().__init__(uri, expected, found)
        self.uri = uri
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"{self.uri} is published, but as {self.found} where {self.expected} was expected. Please report this."
