"""Send publications so that each exists exactly once; those that fit share a commit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from typing import Any, TypeGuard

from prefect_bluesky.errors import (
    AuthError,
    BlueskyError,
    BudgetSpent,
    CidMismatch,
    Expired,
    InvalidInput,
    KeyConflict,
    RateLimited,
    RequestRefused,
    ServiceError,
    ServiceUnavailable,
    StoreError,
)
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.publishing import budget
from prefect_bluesky.publishing.publication import Publication, PublishedPost
from prefect_bluesky.sessions import SessionAuth, SessionStatus

MAX_WRITES = 200
"""Writes in a commit at most (measured: a PDS answers `Too many writes` to more)."""

_MAX_BYTES = 997_500
"""Bytes of JSON that writes may take. A PDS takes 1,000,000 in one request (measured: it answers 413 to more). A DID of
up to 2,048 bytes (https://atproto.com/specs/did) and little else surrounds the writes."""

_MOST_ATTEMPTS = 4
"""How often a commit is sent at most. Each time its answer is lost, some of its posts may be found published."""

WRITE = "com.atproto.repo.applyWrites"
"""The method that writes a commit."""

Outcome = PublishedPost | BlueskyError
"""The published post, or the error that stopped it."""


def send(
    publications: Sequence[Publication], account: SessionStatus, auth: SessionAuth, purse: budget.Purse | None = None
) -> list[Outcome]:
    """Publish posts of one account in order, unless they are published already; return the outcome of each.

    Points that the writes cost are taken from `purse`; without one, from the account's budget.

    A post that cannot be published stops no other. Trouble of the account or its server stops all that remain. The
    errors are `KeyConflict` (another post has the key), `Expired` (it makes no sense any more), `CidMismatch`
    (published, under another CID), `AuthError` and `StoreError` (the account cannot sign in, or may not write),
    `RequestRefused`, `RateLimited` (not out), `ServiceUnavailable` (it is unknown whether the post is out; if
    `retryable`, the same publication may be sent again), and those of `Publication.prepare_records`.
    """
    return _Sender(account, auth, purse or budget.Purse(account)).send(publications)


class _Sender:
    def __init__(self, account: SessionStatus, auth: SessionAuth, purse: budget.Purse) -> None:
        self._account = account
        self._auth = auth
        self._purse = purse
        self._outcomes: dict[int, Outcome] = {}
        self._failed_alone = 0

    def send(self, publications: Sequence[Publication]) -> list[Outcome]:
        rest: Outcome | None = None
        try:
            for commit in self._commits(publications):
                self._settle(commit)
        except BlueskyError as stopped:
            rest = stopped
        outcomes = [self._outcomes.get(id(each), rest) for each in publications]
        for missing in filter(_is_of_a_right, outcomes):
            self._auth.tell_missing_right(missing)
        return [outcome for outcome in outcomes if outcome is not None]

    def _commits(self, publications: Sequence[Publication]) -> Iterator[list[Publication]]:
        """Yield the publications as they share commits. Those that are out or unusable get their outcome."""
        commit: list[Publication] = []
        writes = size = 0
        for publication in publications:
            try:
                expired = publication.post.expired_at(datetime.now(UTC))
                if (publication.look_first or expired) and (found := publication.find_earlier()):
                    self._outcomes[id(publication)] = found
                    continue
                if expired:
                    raise Expired(expired)
                own_writes, own_size = len(publication.prepare_records()), _size(publication)
            except BlueskyError as unusable:
                if isinstance(unusable, AuthError | StoreError) and not _is_of_a_right(unusable):
                    yield commit
                    raise
                self._outcomes[id(publication)] = unusable
                continue
            if commit and (writes + own_writes > MAX_WRITES or size + own_size > _MAX_BYTES):
                yield commit
                commit, writes, size = [], 0, 0
            commit.append(publication)
            writes, size = writes + own_writes, size + own_size
        yield commit

    def _settle(self, commit: Sequence[Publication]) -> None:
        """Send a commit until the outcome of each of its posts is known.

        Raises:
            AuthError, StoreError, RateLimited, ServiceUnavailable: no other post can be sent now.
        """
        pending = list(commit)
        for attempt in range(_MOST_ATTEMPTS):
            if not pending:
                return
            try:
                self._write(pending)
            except (RequestRefused, BudgetSpent) as refused:
                # An earlier attempt may still succeed.
                may_repeat = refused.retryable and (attempt == 0 or _all_repeatable(pending))
                self._settle_halves(pending, refused.with_retryable(may_repeat))
                return
            except (ServiceUnavailable, RateLimited) as unclear:
                if attempt == 0 and isinstance(unclear, RateLimited):
                    raise
                # A broken connection says nothing, and a server answers an existing key with 500 too.
                trouble = unclear
            else:
                return
            before, is_again = len(pending), attempt > 0
            # A server that itself refuses the first write has not stored its posts: they were out before.
            was_out = not is_again and trouble.status == HTTPStatus.INTERNAL_SERVER_ERROR and trouble.error is not None
            pending = self._not_out(pending, look_for_remains=is_again, was_out=was_out)
            if is_again and len(pending) == before:
                break
        if not pending:
            return
        trouble = trouble.with_retryable(_all_repeatable(pending))
        is_of_one = trouble.status == HTTPStatus.INTERNAL_SERVER_ERROR
        if is_of_one and len(pending) > 1:
            self._settle_halves(pending, trouble)
            return
        self._outcomes.update((id(each), trouble) for each in pending)
        self._failed_alone += 1
        # A 500 may concern one post, but hardly several.
        if not is_of_one or self._failed_alone > 1:
            raise trouble

    def _settle_halves(self, commit: Sequence[Publication], refused: ServiceError) -> None:
        """Send a commit in halves: one post may cause the refusal, and the budget may suffice for some posts."""
        if len(commit) == 1:
            if isinstance(refused, BudgetSpent):
                raise refused
            self._outcomes[id(commit[0])] = refused
            return
        middle = len(commit) // 2
        self._settle(commit[:middle])
        self._settle(commit[middle:])

    def _write(self, commit: Sequence[Publication]) -> None:
        writes = [write for publication in commit for write in _writes(publication)]
        self._purse.spend(len(writes) * budget.CREATE, method=WRITE)
        body = {"repo": self._account.did, "writes": writes}
        with self._auth.problems():
            answer = xrpc.procedure(self._account.pds_url, WRITE, body, auth=self._auth)
        try:
            cids = [str(result["cid"]) for result in answer["results"]]
        except (KeyError, TypeError):
            cids = []
        if len(cids) != len(writes):
            raise ServiceUnavailable(self._account.pds_url, WRITE, HTTPStatus.OK, message="no results")
        given = iter(cids)
        for publication in commit:
            own = list(islice(given, len(publication.prepare_records())))
            try:
                self._outcomes[id(publication)] = publication.confirm(own)
            except CidMismatch as mismatch:
                self._outcomes[id(publication)] = mismatch

    def _not_out(self, commit: Sequence[Publication], *, look_for_remains: bool, was_out: bool) -> list[Publication]:
        """Return the publications of a commit that are not out although they were sent.

        Args:
            commit: the publications.
            look_for_remains: whether the rest of a deleted thread may be the cause.
            was_out: whether those that are out were so before they were sent.
        """
        missing = []
        for publication in commit:
            try:
                found = publication.find_after_write()
                if found is None and look_for_remains:
                    publication.check_for_remains()
            except (KeyConflict, RequestRefused) as refused:
                self._outcomes[id(publication)] = refused
            except (ServiceUnavailable, RateLimited) as unknown:
                raise unknown.with_retryable(_all_repeatable(commit)) from unknown
            else:
                if found is None:
                    missing.append(publication)
                else:
                    self._outcomes[id(publication)] = found.model_copy(update={"is_new": not was_out})
        return missing


def _writes(publication: Publication) -> list[dict[str, Any]]:
    return [
        {"$type": f"{WRITE}#create", "collection": record.collection, "rkey": record.rkey, "value": record.value}
        for record in publication.prepare_records()
    ]


def _size(publication: Publication) -> int:
    """Return the bytes that a publication takes as JSON, or raise InvalidInput if a commit cannot hold them."""
    size = len(json.dumps(_writes(publication), ensure_ascii=False).encode())
    if size > _MAX_BYTES:
        over = f"it takes {size:,} bytes as JSON, over the limit of {_MAX_BYTES:,}."
        raise InvalidInput("thread", over, "Publish it as two threads, or shorten its links and alt texts.")
    return size


def _is_of_a_right(outcome: Outcome | None) -> TypeGuard[AuthError]:
    """Return whether a right is missing that other posts of the account do not need."""
    return isinstance(outcome, AuthError) and outcome.problem is AuthProblem.INSUFFICIENT_SCOPE


def _all_repeatable(publications: Sequence[Publication]) -> bool:
    return all(each.is_repeatable for each in publications)
