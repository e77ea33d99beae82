"""Bluesky as a channel."""

from __future__ import annotations

from typing import Any

from prefect_bluesky.channels.base import Published, channel_of
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.channels.fitting import Rules, Variant, fit
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.posts import MAX_BYTES, MAX_GRAPHEMES, MAX_IMAGES, MAX_POSTS, SHOWN, Post

RULES = Rules("Bluesky", MAX_GRAPHEMES, MAX_BYTES, MAX_POSTS, MAX_IMAGES, has_cards=True, measure=SHOWN)


class BlueskyChannel:
    """A Bluesky account, as a channel."""

    rules = RULES

    def __init__(self, credentials: BlueskyCredentials) -> None:
        self._credentials = credentials

    def fit(self, draft: Draft) -> Variant:
        return fit(draft, self.rules)

    def publish(self, variant: Variant, key: str) -> Published:
        """Publish all posts in one commit, once; see `BlueskyCredentials.publish`."""
        published = self._credentials.publish(as_post(variant), key)
        return Published(tuple(each.url for each in published.posts or (published,)))


channel_of.register(BlueskyCredentials, BlueskyChannel)


def as_post(variant: Variant) -> Post:
    """Return the post or thread of a variant, with its link card below the last post.

    Raises:
        pydantic.ValidationError: the variant does not fit Bluesky.
    """
    posts: list[dict[str, Any]] = [{"text": text} for text in variant.posts]
    posts[0] |= {"images": variant.images, "languages": variant.languages}
    if variant.link:
        posts[-1]["link_card"] = {"url": variant.link}
    return Post.model_validate({**posts[0], "thread": posts[1:]})
