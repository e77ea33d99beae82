"""Compose each new item of a feed or a folder once. A schedule checks for new items every hour."""

# No `from __future__ import annotations`: see publish.py.

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Scheduled
from pydantic import Field

from prefect_bluesky import BlueskyError
from prefect_bluesky.compose import Item, no_channels, read_items
from prefect_bluesky.planning import deployment_id, final_state, has_failed, schedule_run
from prefect_bluesky.prefect_api import api_client

DEPLOYMENT = "compose/compose"

_MOST_RUNS = 3
"""How often an item is composed if that fails."""


@flow(
    name="compose-new",
    flow_run_name="compose what is new",
    description="Compose each new item of a feed or of a folder of Markdown files once.",
)
def compose_new(
    source: str = "",
    storage: str = "",
    channels: tuple[str, ...] = (),
    count: Annotated[int, Field(ge=1, le=50)] = 3,
    generator: str = "",
    review: bool = True,
    max_age_days: Annotated[float, Field(gt=0)] = 7,
    at_most: Annotated[int, Field(ge=1, le=100)] = 5,
    schedule: str = "",
    timezone: str = "UTC",
) -> State[Any]:
    """Start a run of `compose` for each item that has no run yet, and again for each whose run has failed.

    Args:
        source: The URL of an RSS or Atom feed, or the path of a folder of Markdown or text files.
        storage: The Prefect block that stores the folder, such as s3-bucket/ideas. Leave empty for no block.
        channels: The saved blocks of the channels, such as bluesky-credentials/alice and mastodon-credentials/alice.
            A channel that is added later gets only items that are new from then on.
        count: The maximum number of posts per item for each channel.
        generator: The AI Generator block that makes the drafts. Leave empty to make drafts by rules.
        review: Wait for a person before publishing posts of an item.
        max_age_days: Ignore older items, as a feed has many at the first run. Items without a date are included.
        at_most: The maximum number of items to compose in one run. The next run composes the others.
        schedule: Slots such as mon-fri 09:00, 13:00, or a Posting Schedule block. Each post takes the next free slot.
        timezone: The time zone of slots that are no block, such as Europe/Berlin.
    """
    try:
        if not channels:
            raise no_channels()
        youngest = datetime.now(UTC) - timedelta(days=max_age_days)
        items = [
            each for each in read_items(source, storage) if each.published_at is None or each.published_at > youngest
        ]
        options = {"channels": channels, "count": count, "generator": generator, "review": review}
        options |= {"schedule": schedule, "timezone": timezone}
        started = 0
        # Compose the oldest first, in the order in which the posts go out.
        for item in reversed(items):
            if started < at_most and _start(item, f"{storage} {source}", options):
                started += 1
                get_run_logger().info("Composing %s", item.name)
    except BlueskyError as unusable:
        return final_state(unusable)
    return Completed(message=f"{started} of {len(items)} items are new." if started else "There was nothing new.")


def _start(item: Item, source: str, options: dict[str, Any]) -> bool:
    """Have an item composed, and return whether the item is new."""
    digest = sha256(f"{source} {item.name}".encode()).hexdigest()[:40]
    key = f"bluesky-compose-{digest}"
    # The posts have keys of their own, as the runs of a server are not kept for ever.
    parameters = item.parameters | options | {"key": digest}
    now, name = datetime.now(UTC), f"compose {item.name}"[:200]
    run = schedule_run(deployment_id(DEPLOYMENT), parameters, key=key, name=name, at=now)
    # Prefect returns an earlier run under the same key.
    if run.state is not None and has_failed(run.state) and run.run_count < _MOST_RUNS:
        with api_client() as client:
            # The drafts and decisions that the run has kept are not asked for again.
            client.set_flow_run_state(run.id, Scheduled(message="Tried again, as it failed."), force=True)
        return True
    return run.expected_start_time is not None and run.expected_start_time >= now
