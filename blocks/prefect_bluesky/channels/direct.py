"""Publish a post on a channel as a person wrote it. What the channel has no place for is refused, never left out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import scrypt
from typing import Any

from prefect.blocks.core import Block
from pydantic import ValidationError

from prefect_bluesky.channels.base import Published, channel_of
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import DoesNotFit, Expired
from prefect_bluesky.posts import LinkCard, Post, ThreadPost
from prefect_bluesky.prefect_api import OneValue, can_keep_notes
from prefect_bluesky.publishing import Publishable, current_attempt
from prefect_bluesky.validation import in_plain_words


class PublishesPosts(OneValue):
    """A block of a channel that publishes posts by itself."""

    def publish(self: Any, post: Publishable, key: str | None = None) -> Published:
        """Publish a post or a thread once under a key.

        Args:
            post: the post. A string is a post with that text, a list is a thread.
            key: distinguishes this post from all others of the block in a flow run. By default the key is the flow
                run's id and the post's content, so that a retried run posts once. Outside a run, each call without a
                key is a separate post.

        Raises:
            DoesNotFit: the channel does not accept the post. The message names each field, the excess and the remedy.
            BlueskyError: the post is not published, or the result is unknown; `retryable` says whether the same call
                may be repeated.

        Example:
            >>> from prefect_bluesky import MastodonCredentials
            >>> MastodonCredentials.load("alice").publish("Hello from Prefect").urls
            ('http://...',)
        """
        return publish_on(self, post, key)

    async def apublish(self, post: Publishable, key: str | None = None) -> Published:
        """Publish a post once under a key, from async code; see `publish`."""
        return await asyncio.to_thread(self.publish, post, key)


def publish_on(block: Block, post: Publishable, key: str | None = None) -> Published:
    """Publish a post with the block of any channel, once under a key.

    Raises: as `PublishesPosts.publish`.
        InvalidInput: no channel is registered for this type of block.
    """
    if isinstance(block, BlueskyCredentials):
        published = block.publish(post, key)
        return Published(tuple(each.url for each in published.posts or (published,)))
    channel = channel_of(block)
    draft = draft_of(post, channel.rules.channel)
    key = key or f"{current_attempt().key} {draft.model_dump_json(exclude_defaults=True)}"
    # The notes of a run are not one account's alone.
    return channel.publish(channel.fit(draft), f"{_identity(block)} {key}")


def draft_of(given: Publishable, channel: str) -> Draft:
    """Return a post as a draft for a channel other than Bluesky.

    Raises:
        InvalidInput: this is no post.
        DoesNotFit: the post has a field that only Bluesky has a place for.
        Expired: the post makes no sense any more.
    """
    posts = _posts(given)
    if isinstance(given, Post) and (expired := given.expired_at(datetime.now(UTC))):
        raise Expired(expired)
    remedy = "Leave it out, or publish the post on Bluesky alone."
    problems = [f"{field}: {channel} has no place for it here. {remedy}" for field in _only_on_bluesky(given, posts)]
    if problems:
        raise DoesNotFit(channel, problems)
    is_split = isinstance(given, Post) and given.split_long_text
    return Draft(
        kind="thread" if is_split else "hook",  # only a thread is split
        posts=tuple(map(_with_link, posts)),
        images=posts[0].images,
        languages=posts[0].languages,
    )


def _posts(given: object) -> list[ThreadPost]:
    """Return the posts as written. Their texts may be longer than Bluesky's."""
    if isinstance(given, Post):
        return [given, *given.thread]
    if isinstance(given, list | tuple) and given:
        return [post for each in given for post in _posts(each)]
    try:
        return [ThreadPost.model_validate(given)]
    except ValidationError as unusable:
        raise in_plain_words(unusable, ThreadPost) from None


def _only_on_bluesky(given: object, posts: list[ThreadPost]) -> Iterator[str]:
    """Yield each field that has something for which only Bluesky has a place."""
    if isinstance(given, Post):
        if not given.quotable:
            yield "quotable"
        yield from (name for name in ("numbered", "reply_to", "replies_from") if getattr(given, name))
    for number, post in enumerate(posts):
        prefix = f"thread[{number - 1}]." if number else ""
        names = ["video", "quote", "labels", "tags", *(["images"] if number else [])]
        yield from (f"{prefix}{name}" for name in names if getattr(post, name))
        if post.link_card and post.link_card != LinkCard(url=post.link_card.url):
            yield f"{prefix}link_card"


def _with_link(post: ThreadPost) -> str:
    """Return the text, with the link of a card below. Other channels make a card of a link by themselves."""
    link = post.link_card.url if post.link_card else None
    return f"{post.text}\n\n{link}".strip() if link and link not in post.text.split() else post.text


def _identity(block: Block) -> str:
    """Return what tells a block from others in each attempt of a run. A secret cannot be guessed from it."""
    if block._block_document_id:  # noqa: SLF001 (Prefect's own)
        return str(block._block_document_id)  # noqa: SLF001
    fields = block.model_dump_json(context={"include_secrets": True}).encode()
    salt = current_attempt().key if can_keep_notes() else ""
    return scrypt(fields, salt=salt.encode(), n=2**14, r=8, p=1).hex()
