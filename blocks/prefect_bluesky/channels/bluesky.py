"""Bluesky as a channel."""

from __future__ import annotations

from typing import Any

from prefect_bluesky.channels.base import Channel, Published, channel_of
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.channels.fitting import Rules, Variant, fit
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.posts import MAX_BYTES, MAX_GRAPHEMES, MAX_IMAGES, MAX_POSTS, SHOWN, LinkCard, Post, ThreadPost

RULES = Rules(
    channel="Bluesky",
    max_length=MAX_GRAPHEMES,
    max_bytes=MAX_BYTES,
    max_posts=MAX_POSTS,
    max_images=MAX_IMAGES,
    has_cards=True,
    measure=SHOWN,
)


class BlueskyChannel:
    """An account on Bluesky.

    Args:
        credentials: the account's block.

    Example:
        >>> channel = BlueskyChannel(BlueskyCredentials.load("alice"))
        >>> channel.publish(channel.fit(Draft(kind="hook", posts=["Good morning"])), key="morning").urls
        ('https://bsky.app/profile/alice.test/post/3...',)
    """

    rules = RULES

    def __init__(self, credentials: BlueskyCredentials) -> None:
        self._credentials = credentials

    def fit(self, draft: Draft) -> Variant:
        """A draft as it goes out here; see `Channel`."""
        return fit(draft, self.rules)

    def publish(self, variant: Variant, key: str) -> Published:
        """Publish all of its posts in one commit, once; see `BlueskyCredentials.publish`."""
        published = self._credentials.publish(as_post(variant), key)
        return Published(tuple(each.url for each in published.posts or (published,)))


@channel_of.register
def _(credentials: BlueskyCredentials) -> Channel:
    return BlueskyChannel(credentials)


def as_post(variant: Variant) -> Post:
    """A variant as a post or a thread, with its card below the last post.

    Args:
        variant: what fits Bluesky.

    Raises:
        pydantic.ValidationError: it does not.
    """
    posts: list[dict[str, Any]] = [{"text": text} for text in variant.posts]
    posts[0] |= {"images": variant.images, "languages": variant.languages}
    if variant.link:
        posts[-1]["link_card"] = LinkCard(url=variant.link)
    return Post(**posts[0], thread=tuple(ThreadPost(**post) for post in posts[1:]))
