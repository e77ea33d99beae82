"""The share of a minute's posts that one run publishes, where several runs publish them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from prefect.client.schemas.objects import FlowRun

from prefect_bluesky.planning.due_posts import account_of_run


@dataclass
class Share:
    """Some of the parts into which the accounts of a minute are divided.

    Attributes:
        bounds: where each part but the first begins; see `bounds_of`.
        own: the parts, counted from 0.
    """

    bounds: Sequence[int]
    own: set[int]

    def has(self, run: FlowRun) -> bool:
        """Return whether a planned run's account is in the share."""
        return part_of(run, self.bounds) in self.own


def bounds_of(accounts: Iterable[str], parts: int) -> list[int]:
    """Return where each part but the first begins, so that no part has more than one account more than another.

    An account has a place among all accounts that there could be. So who is planned or cancelled meanwhile moves no
    other account to another part.

    Example:
        >>> bounds_of(["alice", "bob", "carol", "dave"], 2)
        [1642727427]
    """
    places = sorted(map(_place_of, accounts))
    return [places[len(places) * part // parts] for part in range(1, parts)]


def part_of(run: FlowRun, bounds: Sequence[int]) -> int:
    """Return the part that a planned run's account is in: the same for every run of `publish-due`."""
    return bisect_right(bounds, _place_of(account_of_run(run)))


def _place_of(account: str) -> int:
    return int.from_bytes(sha256(account.encode()).digest()[:4])
