"""The task that publishes one variant on a channel."""

from __future__ import annotations

from prefect import task

from prefect_bluesky.channels.base import Published
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.channels.fitting import Variant
from prefect_bluesky.channels.load import load_channel
from prefect_bluesky.prefect_api import logger
from prefect_bluesky.tasks import RETRIES


@task(
    name="publish-variant",
    task_run_name="{variant.kind} on {channel}",
    description="Publish a post to a channel, once under its key.",
    **RETRIES,
)
def publish_once(channel: str, variant: Variant, key: str) -> Published:
    """Publish a post to a channel.

    Args:
        channel: the block of the channel, such as `mastodon-credentials/alice`.
        variant: what goes out.
        key: what tells it from all others of the channel.

    Raises:
        BlueskyError: it is not out, or it is not known; what is retryable is retried three times before.
    """
    loaded = load_channel(channel)
    # Somebody may have edited it since it was fitted.
    published = loaded.publish(loaded.fit(Draft.model_validate(variant.model_dump())), key)
    logger().info("Published on %s: %s", channel, ", ".join(published.urls) or "it gives no address")
    return published
