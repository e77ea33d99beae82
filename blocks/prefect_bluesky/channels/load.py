"""Channels by the names of their saved blocks."""

from __future__ import annotations

from dataclasses import dataclass

from prefect_bluesky.channels.base import Channel, Published, channel_of
from prefect_bluesky.channels.bluesky import RULES as BLUESKY
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.channels.fitting import Rules, Variant, fit
from prefect_bluesky.channels.mastodon import RULES as MASTODON
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.prefect_api import load_block

_RULES = {"bluesky": BLUESKY, "mastodon": MASTODON}


@dataclass(frozen=True)
class NoAccount:
    """A channel without an account: it shows what would go out, and publishes nothing.

    Args:
        rules: the channel's.
    """

    rules: Rules

    def fit(self, draft: Draft) -> Variant:
        """As the channel does."""
        return fit(draft, self.rules)

    def publish(self, variant: Variant, key: str) -> Published:
        """Refuse: there is no account.

        Raises:
            InvalidInput: always.
        """
        raise InvalidInput("channels", f"{self.rules.channel} is no account.", "Name a saved block, such as TYPE/NAME.")


def load_channel(name: str) -> Channel:
    """A channel.

    Args:
        name: the type and the name of its saved block, such as `mastodon-credentials/alice`; or `bluesky` or `mastodon`
            for one without an account.

    Raises:
        InvalidInput: there is no such block, or it cannot be used; the message says why.
    """
    if name in _RULES:
        return NoAccount(_RULES[name])
    kind, _, block_name = name.partition("/")
    if not kind or not block_name:
        raise InvalidInput(
            "channels", f"{name!r} is no channel.", "Name a saved block, such as bluesky-credentials/alice."
        )
    return channel_of(load_block(name, "channels"))
