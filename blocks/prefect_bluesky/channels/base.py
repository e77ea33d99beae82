"""What a channel is."""

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
    """A variant that is out.

    Args:
        urls: where a person sees its posts; empty where a channel does not say it.
    """

    urls: tuple[str, ...]


class Channel(Protocol):
    """A place where posts go out.

    Another channel is a class with these; nothing else needs to know of it.
    """

    @property
    def rules(self) -> Rules:
        """What it takes."""

    def fit(self, draft: Draft) -> Variant:
        """A draft as it goes out here.

        Raises:
            DoesNotFit: it cannot; the message names each post, by how much it is over, and the remedy.
        """

    def publish(self, variant: Variant, key: str) -> Published:
        """Publish what fits, once under a key, however often and from wherever it is called.

        Raises:
            BlueskyError: it is not out, or it is not known; `retryable` says whether the same call may be made again.
        """


@singledispatch
def channel_of(block: Block) -> Channel:
    """The channel that a block is the key to.

    A module that has a channel of its own registers the type of its block.

    Args:
        block: such as `BlueskyCredentials`.

    Raises:
        InvalidInput: it is the key to none.

    Example:
        >>> channel_of(BlueskyCredentials.load("alice")).rules.channel
        'Bluesky'
    """
    raise InvalidInput("channels", f"{block.get_block_type_slug()} is no channel.", "Give a block that is one.")
