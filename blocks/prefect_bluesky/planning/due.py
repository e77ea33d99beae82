"""Publish planned posts when they are due: many accounts in one process, which is ready before the time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed

from prefect_bluesky.errors import BlueskyError, Expired
from prefect_bluesky.planning.clock import ServerClock
from prefect_bluesky.planning.delivery import AccountQueue, Delivery
from prefect_bluesky.planning.due_posts import DuePost, due_posts
from prefect_bluesky.planning.held_page import show_held
from prefect_bluesky.planning.held_runs import (
    HELD,
    final_state,
    held_because,
    held_state,
    tags_of,
    tell_expired,
    tell_held,
    without_account,
)
from prefect_bluesky.planning.times import how_late
from prefect_bluesky.prefect_api import api_client, ignoring_api_trouble, logger, until_answered
from prefect_bluesky.publishing import PreparedPosts, PublishedPost, attempt_for

_AT_ONCE_SETTLED = 4
"""States that are set at the same time. A server needs 20 to 30 ms of CPU for each (measured with Prefect 3.9.1)."""


@dataclass
class DueQueue(AccountQueue[DuePost]):
    """The posts of one account that are due at one time.

    Attributes:
        at: that time.
        ready: what will be the posts as they are sent, or None if they could not be made ready ahead.
        sent: the posts as they were sent last.
    """

    at: datetime = field(kw_only=True)
    ready: Future[PreparedPosts | None] | None = None
    sent: PreparedPosts | None = None

    @property
    def is_ready(self) -> bool:
        """Return whether nothing has to be waited for."""
        return self.ready is None or self.ready.done()


@dataclass(frozen=True)
class _Outcome:
    """What became of a post: its run's state, what stopped it, and if it is out, the post as it was sent."""

    item: DuePost
    state: State[Any]
    error: BlueskyError | None = None
    prepared: PreparedPosts | None = None
    post: PublishedPost | None = None


class DueDelivery(Delivery[DueQueue]):
    """The delivery of due posts, and of their outcomes to the runs that people see.

    The states of runs are set once each account's posts have been sent, as the server that sets them may share its
    cores with what sends.

    Args:
        clock: the server's clock.
        at_once: how many accounts are served at the same time.
    """

    def __init__(self, clock: ServerClock, at_once: int) -> None:
        self.counts: Counter[str] = Counter()
        self.late = timedelta()
        self._clock = clock
        self._at_once = at_once
        self._lock = Lock()
        self._unserved: set[int] = set()
        self._outcomes: list[_Outcome] = []
        self._known: dict[UUID, DuePost] = {}
        self._preparer = ThreadPoolExecutor(at_once, "bluesky-prepare")
        self._settler = ThreadPoolExecutor(_AT_ONCE_SETTLED, "bluesky-settle")
        self._settling: list[Future[None]] = []

    def queues(self, runs: Sequence[FlowRun], *, end_unusable: bool) -> list[DueQueue]:
        """Return the posts of runs, by account and time.

        Args:
            runs: the runs, as they are now.
            end_unusable: whether a run that cannot be published ends now, alone and with the reason. Before its time, a
                person may still correct it.
        """
        known = {run.id: self._known.get(run.id) for run in runs}
        new = [run for run in runs if not (before := known[run.id]) or not before.is_what_says(run)]
        for each in due_posts(new):
            if isinstance(each, DuePost):
                self._known[each.run.id] = known[each.run.id] = each
            else:
                run, state = each
                known[run.id] = None
                if end_unusable:
                    self._end_unusable(run, state)
        queues: dict[tuple[str, datetime], DueQueue] = {}
        for post in filter(None, (known[run.id] for run in runs)):
            queue = DueQueue(post.credentials.handle, at=post.at)
            queues.setdefault((post.account, post.at), queue).due.append(post)
        return list(queues.values())

    def prepare(self, queue: DueQueue) -> None:
        """Begin to sign in, and to load what posts attach, ahead of the time. What fails is tried again at the time."""
        queue.ready = self._preparer.submit(copy_context().run, self._prepare, queue)

    def _prepare(self, queue: DueQueue) -> PreparedPosts | None:
        try:
            prepared = self._made_ready(queue, is_first=True)
        except BlueskyError as trouble:
            logger().warning("%s is not ready yet: %s", queue.name, trouble)
            return None
        prepared.load()
        return prepared

    def _made_ready(self, queue: DueQueue, *, is_first: bool) -> PreparedPosts:
        now = self._clock.now()
        posts = [
            (each.post, each.key, attempt_for(each.run, max(each.at, now), is_first=is_first)) for each in queue.due
        ]
        return queue.due[0].credentials.prepare_many(posts)

    def reserve(self, queues: Sequence[DueQueue], until: datetime) -> None:
        """Wait until accounts are ready, but no longer than a time, and take the points ahead that they will spend."""
        deadline = self._clock.monotonic(until)
        coming = [queue.ready for queue in queues if queue.ready is not None]
        done, _ = wait(coming, max(0.0, deadline - time.monotonic()))
        ready = filter(None, (each.result() for each in done if each.exception() is None))
        PreparedPosts.reserve(ready, lambda: time.monotonic() < deadline)

    def send(self, queues: Sequence[DueQueue]) -> None:
        """Publish what is due, and set the states of its runs."""
        with self._lock:
            self._unserved |= {id(queue) for queue in queues}
        # Nobody waits for an account whose server keeps it waiting.
        self.work(sorted(queues, key=lambda queue: not queue.is_ready), self._at_once)

    def close(self) -> State[Any]:
        """Set the states that are left to set, and return the state of the run that has published."""
        self._unserved.clear()
        self.progressed()
        self._preparer.shutdown()
        self._settler.shutdown()
        for each in self._settling:
            each.result()
        said = ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items())) or "Nothing was due"
        late = f", the last {late}" if (late := how_late(self.late)) else ""
        return Completed(message=f"{said}{late}.")

    def serve(self, queue: DueQueue) -> timedelta | None:
        def send() -> list[PublishedPost | BlueskyError]:
            # What was made ready is sent once: another attempt has to look for the posts first.
            ready, queue.ready = queue.ready, None
            queue.sent = (ready.result() if ready else None) or self._made_ready(queue, is_first=False)
            return queue.sent.send()

        try:
            return self.deliver(queue, send)
        finally:
            with self._lock:
                self._unserved.discard(id(queue))

    def progressed(self) -> None:
        with self._lock:
            if self._unserved:
                return
            outcomes, self._outcomes = self._outcomes, []
        for each in outcomes:
            self._settling.append(self._settler.submit(copy_context().run, self._settle, each))

    def published(self, queue: DueQueue, item: DuePost, post: PublishedPost) -> None:
        late = self._clock.now() - item.at
        self.late = max(self.late, late)
        message = f"Published {post.url} {how_late(late)}".rstrip()
        self._note(_Outcome(item, Completed(message=message), prepared=queue.sent, post=post), "published")

    def held(self, queue: DueQueue, item: DuePost, error: BlueskyError) -> None:
        self._note(_Outcome(item, held_state(error), error=error), "held")

    def failed(self, queue: DueQueue, item: DuePost, error: BlueskyError) -> None:
        count = "expired" if isinstance(error, Expired) else "failed"
        self._note(_Outcome(item, final_state(error), error=error), count)

    def give_up(self, queue: DueQueue, what: str) -> None:
        for item in queue.due:
            self._note(_Outcome(item, held_because(what)), "held")
        queue.due = []

    def _note(self, outcome: _Outcome, count: str) -> None:
        with self._lock:
            self.counts[count] += 1
            self._outcomes.append(outcome)

    def _end_unusable(self, run: FlowRun, state: State[Any]) -> None:
        logger().error("%s: %s", run.name, state.message)
        self.counts["held" if state.name == HELD else "failed"] += 1
        if set_state(run, state) and state.name == HELD:
            show_held(run.id, state.message or "", None)

    def _settle(self, outcome: _Outcome) -> None:
        item, state = outcome.item, outcome.state
        # Logs and events too take time that others may be waiting for.
        log = logger()
        (log.info if state.is_completed() else log.error)("%s: %s. %s", item.run.name, state.name, state.message)
        if outcome.prepared and outcome.post:
            outcome.prepared.tell(outcome.post)
        is_set = set_state(item.run, state)
        if is_set and isinstance(outcome.error, Expired):
            tell_expired(outcome.error, item.credentials, item.run)
        if not is_set or state.name != HELD:
            return
        tags = [*without_account(item.run.tags), *tags_of(item.credentials)]
        # Without the tags the run is still found, but not by its account.
        with ignoring_api_trouble(f"{item.run.name} could not be tagged"), api_client() as client:
            client.update_flow_run(item.run.id, tags=tags)
        if outcome.error:
            tell_held(outcome.error, item.credentials)
        show_held(item.run.id, outcome.error or state.message or "", item.credentials)


def set_state(run: FlowRun, state: State[Any]) -> bool:
    """Set the state in which a planned run ends. Return False if a person has cancelled or deleted it meanwhile.

    A post that is out is out: a cancelled run is then called completed nevertheless.
    """
    with api_client() as client:
        try:
            if not state.is_completed():
                current = until_answered(lambda: client.read_flow_run(run.id)).state
                if current is None or not current.is_scheduled():
                    return False
            until_answered(lambda: client.set_flow_run_state(run.id, state, force=True))
        except ObjectNotFound:
            return False
    return True
