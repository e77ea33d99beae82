"""The share of a minute's posts that one run publishes, where several runs publish them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from prefect.client.schemas.objects import FlowRun

from prefect_bluesky.planning.due_posts import account_of_run


@dataclass
class Share:
    """Some of the parts into which the accounts of a minute are divided.

    Attributes:
        parts: how many parts there are.
        own: the parts, counted from 0.
    """

    parts: int
    own: set[int]

    def has(self, run: FlowRun) -> bool:
        """Return whether a planned run's account is in the share."""
        return self.parts == 1 or part_of(run, self.parts) in self.own


def part_of(run: FlowRun, parts: int) -> int:
    """Return the part that a planned run's account is in: the same for every run of `publish-due`."""
    return int.from_bytes(sha256(account_of_run(run).encode()).digest()[:8]) % parts
