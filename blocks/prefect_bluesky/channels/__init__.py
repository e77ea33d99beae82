"""Publish on several channels, each with its own rules: Bluesky, Mastodon and what Apprise reaches.

A channel is a class with `rules`, `fit` and `publish` (see `Channel` and docs/adding-a-channel.md). Users select it by
naming a saved block.
"""

from prefect_bluesky.channels.apprise import AppriseChannel, AppriseService
from prefect_bluesky.channels.base import Channel, Published, channel_of
from prefect_bluesky.channels.bluesky import BlueskyChannel, as_post
from prefect_bluesky.channels.direct import PublishesPosts, publish_on
from prefect_bluesky.channels.draft import Draft, Kind
from prefect_bluesky.channels.everywhere import Delivery, apublish_everywhere, publish_everywhere
from prefect_bluesky.channels.fitting import Rules, Variant, fit
from prefect_bluesky.channels.load import NoAccount, load_channel
from prefect_bluesky.channels.mastodon import MastodonChannel
from prefect_bluesky.channels.mastodon_credentials import MastodonCredentials
from prefect_bluesky.channels.notification import BlueskyNotification
from prefect_bluesky.channels.publish_once import publish_once

# fmt: off
__all__ = [
    "AppriseChannel", "AppriseService", "BlueskyChannel", "BlueskyNotification", "Channel", "Delivery", "Draft",
    "Kind", "MastodonChannel", "MastodonCredentials", "NoAccount", "Published", "PublishesPosts", "Rules", "Variant",
    "apublish_everywhere", "as_post", "channel_of", "fit", "load_channel", "publish_everywhere", "publish_on",
    "publish_once",
]
# fmt: on
