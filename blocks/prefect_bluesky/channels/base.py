"""The interface of a channel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Protocol

from prefect.blocks.core import Block

from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.channels.fitting import Rules, Variant
from prefect_bluesky.errors import InvalidInput


@dataclass(frozen=True)
class Published:
    """The public URLs of a published variant's posts; empty if the channel does not report any."""

    urls: tuple[str, ...]


class Channel(Protocol):
    """A place to publish posts. To add a channel, see docs/adding-a-channel.md."""

    @property
    def rules(self) -> Rules:
        """The channel's limits."""

    def fit(self, draft: Draft) -> Variant:
        """Return the variant of a draft that the channel accepts.

        Raises:
            DoesNotFit: the draft breaks a rule; the message names each post, the excess and the remedy.
        """

    def publish(self, variant: Variant, key: str) -> Published:
        """Publish a fitted variant once under a key, however often and from wherever this is called.

        Raises:
            BlueskyError: the variant is not published, or the result is unknown; `retryable` says whether the same call
                may be repeated.
        """


@singledispatch
def channel_of(block: Block) -> Channel:
    """Return the channel that a block gives access to.

    A module that defines a channel registers its block type here.

    Args:
        block: a saved block, such as `BlueskyCredentials`.

    Raises:
        InvalidInput: no channel is registered for this type of block.

    Example:
        >>> channel_of(BlueskyCredentials.load("alice")).rules.channel
        'Bluesky'
    """
    raise InvalidInput("channels", f"{block.get_block_type_slug()} is no channel.", "Give a block that is one.")
