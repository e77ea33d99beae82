"""Compose each new item of a feed or a folder once: schedule it, and it looks every hour."""

# No `from __future__ import annotations`: see publish.py.

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed
from pydantic import Field

from prefect_bluesky.compose import Item, read_items
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning import deployment_id, schedule_run

DEPLOYMENT = "compose/compose"


@flow(
    name="compose-new",
    flow_run_name="compose what is new",
    description="Compose each new item of a feed or of a folder of Markdown files, once.",
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
) -> State[Any]:
    """Start a run of `compose` for each item that has none yet.

    Args:
        source: The URL of an RSS or Atom feed; or the path of a folder of Markdown or text files.
        storage: The Prefect block that the folder lies in, such as s3-bucket/ideas. Left out, no block.
        channels: The saved blocks of the channels, such as bluesky-credentials/alice and mastodon-credentials/alice.
            One that is added later gets what is new from then on.
        count: How many posts a channel gets at most of an item.
        generator: The AI Generator block that makes the drafts. Left out, they are made by rule.
        review: Wait for a person before anything of an item goes out.
        max_age_days: Items that are older are left alone: a feed that is read for the first time has many. Of items
            without a date nobody knows.
        at_most: How many items are composed at a time; the others the next time.
    """
    if not channels:
        raise InvalidInput("channels", "there are none.", "Name saved blocks, such as bluesky-credentials/alice.")
    youngest = datetime.now(UTC) - timedelta(days=max_age_days)
    items = [item for item in read_items(source, storage) if item.published_at is None or item.published_at > youngest]
    options = {"channels": channels, "count": count, "generator": generator, "review": review}
    started = 0
    # The oldest of them first, as their posts shall go out.
    for item in reversed(items):
        if started < at_most and _start(item, f"{storage} {source}", options):
            started += 1
            get_run_logger().info("Composing %s", item.name)
    return Completed(message=f"{started} of {len(items)} items are new." if started else "There was nothing new.")


def _start(item: Item, source: str, options: dict[str, Any]) -> bool:
    """Have an item composed; whether it was not yet."""
    key = sha256(f"{source} {item.name}".encode()).hexdigest()[:40]
    now = datetime.now(UTC)
    run = schedule_run(
        deployment_id(DEPLOYMENT),
        item.parameters | options,
        key=f"bluesky-compose-{key}",
        name=f"compose {item.name}"[:200],
        at=now,
    )
    # Prefect returns the run of an earlier time under the same key.
    return run.expected_start_time is not None and run.expected_start_time >= now
