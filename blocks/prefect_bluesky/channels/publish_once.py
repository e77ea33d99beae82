"""A Prefect task that publishes one variant on a channel."""

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
    """Publish a variant to a channel, given as its block (`mastodon-credentials/alice`), once under its key.

    Raises:
        BlueskyError: the variant is not published, or the result is unknown. Retryable errors are retried three times.
    """
    loaded = load_channel(channel)
    # The variant may have been edited since it was fitted, so fit it again.
    published = loaded.publish(loaded.fit(Draft.model_validate(variant.model_dump())), key)
    logger().info("Published on %s: %s", channel, ", ".join(published.urls) or "no address is known")
    return published
