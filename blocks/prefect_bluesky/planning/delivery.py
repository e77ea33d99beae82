"""Deliver the posts of many accounts, several accounts at a time, independently of each other."""

from __future__ import annotations

import heapq
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any, Generic, TypeVar

from prefect_bluesky.errors import BlueskyError, RateLimited
from prefect_bluesky.prefect_api import logger
from prefect_bluesky.publishing import PublishedPost

_PAUSES = [timedelta(seconds=seconds) for seconds in (2, 10, 30)]
"""The pauses between attempts after temporary errors. A `retry_after` of the server takes precedence."""

_PATIENCE = timedelta(hours=1)
"""The longest wait. Beyond it the posts are held: a run that waits for a daily limit would block a worker."""

Item = TypeVar("Item")
"""A post, as who has it delivered knows it."""


@dataclass
class AccountQueue(Generic[Item]):
    """The posts of one account that are yet to be delivered, and how long its server has kept them waiting."""

    name: str
    due: list[Item] = field(default_factory=list)
    served_at: float = 0.0
    attempts: int = 0

    def pause_after(self, troubles: Sequence[BlueskyError]) -> timedelta | None:
        """Return how long to wait after temporary errors, or None if the wait would be too long."""
        asked = [error.retry_after for error in troubles if isinstance(error, RateLimited) and error.retry_after]
        if not asked:
            self.attempts += 1
            return _PAUSES[self.attempts - 1] if self.attempts <= len(_PAUSES) else None
        pause = max(asked)
        waits_until = time.monotonic() + pause.total_seconds()
        return pause if waits_until - self.served_at < _PATIENCE.total_seconds() else None


Queue = TypeVar("Queue", bound=AccountQueue[Any])


class Delivery(ABC, Generic[Queue]):
    """Serves the queues of many accounts. What trouble one account has is no other's.

    A subclass says what it means that a post is out, is held or has failed.
    """

    def work(self, queues: Iterable[Queue], at_once: int) -> None:
        """Serve all accounts until nothing is pending, at most `at_once` accounts at a time."""
        # Threads, not Prefect tasks: a thousand accounts would add a thousand rows to Prefect's database each run.
        order = count()
        # Each account with its next time, and a number that keeps the order of accounts with equal times.
        pending = [(0.0, next(order), queue) for queue in queues]
        under_way: dict[Future[timedelta | None], Queue] = {}
        with ThreadPoolExecutor(at_once) as threads:
            while pending or under_way:
                while pending and len(under_way) < at_once and pending[0][0] <= time.monotonic():
                    queue = heapq.heappop(pending)[2]
                    under_way[threads.submit(copy_context().run, self.serve, queue)] = queue
                free = pending and len(under_way) < at_once
                patience = max(0.0, pending[0][0] - time.monotonic()) if free else None
                if not under_way:
                    time.sleep(patience or 0)
                    continue
                done, _ = wait(under_way, patience, FIRST_COMPLETED)
                for each in done:
                    queue = under_way.pop(each)
                    if defect := each.exception():
                        # A defect must not stop the other accounts.
                        logger().error("%s: this is a defect. Please report it.", queue.name, exc_info=defect)
                        self.give_up(queue, f"unexpected {type(defect).__name__}: see the log.")
                    elif (pause := each.result()) is not None:
                        heapq.heappush(pending, (time.monotonic() + pause.total_seconds(), next(order), queue))
                self.progressed()

    def deliver(self, queue: Queue, send: Callable[[], Sequence[PublishedPost | BlueskyError]]) -> timedelta | None:
        """Send what is due, and deal with each outcome.

        Args:
            queue: the account's queue; what is left in it has to wait.
            send: sends what is due, and returns the outcomes in that order.

        Returns:
            the pause before the next attempt; None if nothing waits.
        """
        queue.served_at = queue.served_at or time.monotonic()
        outcomes: Sequence[PublishedPost | BlueskyError]
        try:
            outcomes = send()
        except BlueskyError as error:
            outcomes = [error] * len(queue.due)
        waiting: list[tuple[Any, BlueskyError]] = []
        for item, outcome in zip(queue.due, outcomes, strict=True):
            if isinstance(outcome, PublishedPost):
                queue.served_at, queue.attempts = time.monotonic(), 0
                self.published(queue, item, outcome)
            elif outcome.stops_account:
                self.held(queue, item, outcome)
            elif outcome.retryable:
                waiting.append((item, outcome))
            else:
                self.failed(queue, item, outcome)
        queue.due = [item for item, _ in waiting]
        if not waiting:
            return None
        pause = queue.pause_after([trouble for _, trouble in waiting])
        if pause is None:
            for item, trouble in waiting:
                (self.held if trouble.is_temporary else self.failed)(queue, item, trouble)
            queue.due = []
        return pause

    @abstractmethod
    def serve(self, queue: Queue) -> timedelta | None:
        """Serve an account. Return the pause before it is served again, or None if it is done."""

    @abstractmethod
    def give_up(self, queue: Queue, what: str) -> None:
        """End all that an account's queue still has, for one reason."""

    def progressed(self) -> None:
        """Take note that an account has been served."""

    @abstractmethod
    def published(self, queue: Queue, item: Any, post: PublishedPost) -> None:
        """Take note that a post is out."""

    @abstractmethod
    def held(self, queue: Queue, item: Any, error: BlueskyError) -> None:
        """Let a post wait until its account or its server works again."""

    @abstractmethod
    def failed(self, queue: Queue, item: Any, error: BlueskyError) -> None:
        """Take note that a post cannot be published."""
