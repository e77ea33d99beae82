"""Publish each post exactly once: make its records, send them, and look for them when in doubt.

`protocol/records` computes the record keys, which are the same on each attempt; the account's repository alone decides
whether a post is out.
"""

from prefect_bluesky.publishing import actions
from prefect_bluesky.publishing.actions import PreparedPosts, Publishable
from prefect_bluesky.publishing.attempt import Attempt, attempt_for, current_attempt, in_place_of
from prefect_bluesky.publishing.drafts import SavedDraft
from prefect_bluesky.publishing.profile import label_as_bot
from prefect_bluesky.publishing.publication import PublishedPost

# fmt: off
__all__ = [
    "Attempt", "PreparedPosts", "Publishable", "PublishedPost", "SavedDraft", "actions", "attempt_for",
    "current_attempt", "in_place_of", "label_as_bot",
]
# fmt: on
