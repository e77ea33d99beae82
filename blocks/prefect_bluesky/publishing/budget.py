"""Keep within Bluesky's limits of writes: a budget for each account, shared by all workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from threading import Lock

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

from prefect_bluesky.errors import BudgetSpent
from prefect_bluesky.prefect_api import API_TROUBLE, api_at_hand, api_client, logger
from prefect_bluesky.sessions import SessionStatus
from prefect_bluesky.settings import current_settings

CREATE, DELETE = 3, 1
"""Points that a write costs (https://bsky.network/docs/rate-limits/)."""

_HOUR = 3600


@dataclass(frozen=True)
class Allowance:
    """A bucket of points that refills slowly.

    The bucket holds `capacity` points and refills `per_second`. A server counts in windows whose beginnings nobody
    knows. In no hour and no day, whenever it begins, are more points taken than the bucket holds and refills in that
    time.
    """

    capacity: int
    per_second: float

    @classmethod
    def of(cls, per_hour: int, per_day: int) -> Allowance:
        """Return the largest allowance for the points that may be taken in an hour and in a day."""
        # Where both count, capacity + refill of 1 hour = per_hour and capacity + refill of 24 hours = per_day.
        refill = min(per_hour / 2, max((per_day - per_hour) / 23, per_day / 48))
        return cls(int(min(per_hour - refill, per_day - 24 * refill)), refill / _HOUR)


def spend(account: SessionStatus, points: int, *, method: str) -> None:
    """Take points for writes that are about to be sent.

    With a Prefect API all workers share the account's budget: a global concurrency limit whose slots decay. Without
    one, each process has its own. If the API fails, the writes go on.

    Raises:
        BudgetSpent: fewer points are left.
    """
    settings = current_settings()
    allowance = Allowance.of(settings.points_per_hour, settings.points_per_day)
    take = _take_from_prefect if api_at_hand() else _take_here
    missing = take(account.did, points, allowance)
    if missing:
        raise BudgetSpent(account.pds_url, method, timedelta(seconds=missing / allowance.per_second))


class Purse:
    """Points of an account that may be taken before they are spent, for writes that must not wait at their moment."""

    def __init__(self, account: SessionStatus) -> None:
        self._account = account
        self._left = 0

    @property
    def limit(self) -> str:
        """The name of the account's limit in Prefect."""
        return _limit_of(self._account.did)

    def reserve(self, points: int, *, method: str) -> None:
        """Take points ahead; raises as the function `spend`."""
        spend(self._account, points, method=method)
        self.add(points)

    def add(self, points: int) -> None:
        """Note that points were taken ahead."""
        self._left += points

    def spend(self, points: int, *, method: str) -> None:
        """Take points for writes that are about to be sent, the reserved ones first; raises as the function `spend`."""
        missing = max(0, points - self._left)
        self._left = max(0, self._left - points)
        if missing:
            spend(self._account, missing, method=method)


def reserve_together(purses: Sequence[Purse], points: int) -> list[Purse]:
    """Take as many points ahead for each of many accounts, in one request for each hundred.

    A request for each would cost Prefect's server 30 ms of CPU (measured with Prefect 3.9.1).

    Returns:
        those for whom nothing was taken: one of a hundred has too few points, or has no limit in Prefect yet.
    """
    if not api_at_hand():
        return list(purses)
    left = {purse.limit: purse for purse in purses}
    wanted = [purse for purse in purses if purse.limit not in _short]
    for start in range(0, len(wanted), _TOGETHER):
        some = {purse.limit: purse for purse in wanted[start : start + _TOGETHER]}
        # Prefect takes all or none, and answers with those limits that there are.
        with suppress(*API_TROUBLE), api_client() as client:
            for taken in client.increment_concurrency_slots(list(some), points, "rate_limit").json():
                left.pop(taken["name"]).add(points)
    return list(left.values())


_TOGETHER = 100

_short: set[str] = set()
"""Limits that have refused us before. Their free slots are read before any are taken."""


def _take_from_prefect(did: str, points: int, allowance: Allowance) -> float:
    """Take points; return how many are missing."""
    name = _limit_of(did)
    try:
        with api_client() as client:
            if name in _short:
                # When Prefect refuses a request, it forgets what has refilled since the last one (3.8.8 to 3.9.1):
                # asking again and again would wait for ever.
                with suppress(ObjectNotFound):
                    limit = client.read_global_concurrency_limit_by_name(name)
                    if (missing := points - (limit.limit - limit.active_slots)) > 0:
                        return missing
            if _increment(client, name, points):
                return 0
            # A missing limit lets everyone in.
            if points > allowance.capacity:
                return points
            try:
                client.create_global_concurrency_limit(
                    GlobalConcurrencyLimitCreate(
                        name=name,
                        limit=allowance.capacity,
                        active_slots=points,
                        slot_decay_per_second=allowance.per_second,
                    )
                )
            except ObjectAlreadyExists:
                _increment(client, name, points)
    except PrefectHTTPStatusError as refusal:
        # Prefect answers 422 if more slots are requested than the limit has.
        if refusal.response.status_code in {HTTPStatus.LOCKED, HTTPStatus.UNPROCESSABLE_ENTITY}:
            _short.add(name)
            return points
        logger().warning("Going on without the limit %s: %s", name, type(refusal).__name__)
    except API_TROUBLE as trouble:
        logger().warning("Going on without the limit %s: %s", name, type(trouble).__name__)
    return 0


def _limit_of(did: str) -> str:
    return f"bluesky-points-{did.replace('%', '=')}"


def _increment(client: SyncPrefectClient, name: str, points: int) -> bool:
    """Take slots; return False if there is no such limit."""
    return bool(client.increment_concurrency_slots([name], points, "rate_limit").json())


_taken: dict[str, tuple[float, float]] = {}
"""The points in use of each account, and when that was."""

_taken_lock = Lock()


def _take_here(did: str, points: int, allowance: Allowance) -> float:
    with _taken_lock:
        now = time.monotonic()
        used, then = _taken.get(did, (0.0, now))
        used = max(0.0, used - (now - then) * allowance.per_second)
        missing = max(0.0, used + points - allowance.capacity)
        _taken[did] = (used if missing else used + points, now)
        return missing
