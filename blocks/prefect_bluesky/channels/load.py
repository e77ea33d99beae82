"""Load channels by the names of their saved blocks."""

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
    """A channel without an account, for dry runs: fits drafts and publishes nothing."""

    rules: Rules

    def fit(self, draft: Draft) -> Variant:
        return fit(draft, self.rules)

    def publish(self, variant: Variant, key: str) -> Published:
        raise InvalidInput("channels", f"{self.rules.channel} is no account.", "Name a saved block, such as TYPE/NAME.")


def load_channel(name: str) -> Channel:
    """Return the channel of a saved block (`mastodon-credentials/alice`), or of `mastodon` or `bluesky`, a NoAccount.

    Raises:
        InvalidInput: the block does not exist or cannot be used; the message gives the reason.
    """
    if name in _RULES:
        return NoAccount(_RULES[name])
    kind, _, block_name = name.partition("/")
    if not kind or not block_name:
        remedy = "Name a saved block, such as bluesky-credentials/alice."
        raise InvalidInput("channels", f"{name!r} is no channel.", remedy)
    return channel_of(load_block(name, "channels"))
