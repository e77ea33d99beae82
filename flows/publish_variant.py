"""Publish one post to a channel: what `compose` has planned for later is a run of this, to be seen and edited."""

# No `from __future__ import annotations`: see publish.py.

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from prefect_bluesky.channels import Draft, Published, Variant, load_channel
from prefect_bluesky.tasks import is_retryable


@task(
    name="publish-variant",
    task_run_name="{variant.kind} on {channel}",
    description="Publish a post to a channel, once under its key.",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=is_retryable,
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
    get_run_logger().info("Published on %s: %s", channel, ", ".join(published.urls) or "it gives no address")
    return published


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
