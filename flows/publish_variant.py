"""Publish one post to a channel. `compose` schedules later posts as runs of this flow, which people can cancel."""

# No `from __future__ import annotations`: see publish.py.

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from prefect_bluesky import BlueskyError
from prefect_bluesky.channels import Published, Variant, publish_once
from prefect_bluesky.planning import final_state


@flow(
    name="publish-variant",
    flow_run_name="publish on {channel}",
    description="Publish one post to a channel: Mastodon, or a service that Apprise reaches.",
)
def publish_variant(channel: str, variant: Variant, key: str) -> Published | State[Any]:
    """Publish a post to a channel.

    Args:
        channel: The block of the channel, such as mastodon-credentials/alice.
        variant: The post to publish.
        key: A name for this post, unique within the channel: each key is published once.
    """
    try:
        return publish_once(channel, variant, key)
    except BlueskyError as error:
        return final_state(error)
