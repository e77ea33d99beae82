"""Publish one post to a channel. `compose` schedules later posts as runs of this flow, which people can cancel."""

# No `from __future__ import annotations`: see publish.py.

from prefect import flow

from prefect_bluesky.channels import Published, Variant, publish_once


@flow(
    name="publish-variant",
    flow_run_name="publish on {channel}",
    description="Publish one post to a channel: Mastodon, or a service that Apprise reaches.",
)
def publish_variant(channel: str, variant: Variant, key: str) -> Published:
    """Publish a post to a channel.

    Args:
        channel: The block of the channel, such as mastodon-credentials/alice.
        variant: The post to publish.
        key: A name for this post, unique within the channel: each key is published once.
    """
    return publish_once(channel, variant, key)
