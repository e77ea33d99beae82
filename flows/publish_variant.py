"""Publish one post to a channel: what `compose` has planned for later is a run of this, to be seen and cancelled."""

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
        variant: What goes out.
        key: What tells it from all others of the channel.
    """
    return publish_once(channel, variant, key)
