"""The places where posts go out, each with rules of its own.

A channel is a class with `rules`, `fit` and `publish`; see `Channel`. A saved block is the key to it; see `channel_of`.
"""

from prefect_bluesky.channels.apprise_channel import AppriseChannel, AppriseService
from prefect_bluesky.channels.bluesky import BlueskyChannel
from prefect_bluesky.channels.channel import Channel, Published, channel_of
from prefect_bluesky.channels.fitter import Rules, Variant, fit
from prefect_bluesky.channels.mastodon import MastodonChannel
from prefect_bluesky.channels.mastodon_credentials import MastodonCredentials
from prefect_bluesky.channels.saved import NoAccount, load_channel

__all__ = [
    "AppriseChannel",
    "AppriseService",
    "BlueskyChannel",
    "Channel",
    "MastodonChannel",
    "MastodonCredentials",
    "NoAccount",
    "Published",
    "Rules",
    "Variant",
    "channel_of",
    "fit",
    "load_channel",
]
