"""Publish each post exactly once: fix its records and keys, send them, and look for them when in doubt.

A post enters as a `Post` and leaves as a `PublishedPost`, with the account's repository as the only record.
"""

from prefect_bluesky.publishing import actions
from prefect_bluesky.publishing.actions import Publishable
from prefect_bluesky.publishing.attempt import current_attempt, in_place_of
from prefect_bluesky.publishing.publication import PublishedPost

# fmt: off
__all__ = [
    "Publishable", "PublishedPost", "actions", "current_attempt", "in_place_of",
]
# fmt: on
