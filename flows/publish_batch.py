"""Publish for many accounts at once: what is due now goes out now, what is due later is scheduled.

uv run flows/publish_batch.py calendars/december.yaml
"""

# No `from __future__ import annotations`: see publish.py.

import argparse
import sys
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from pydantic import Field

from prefect_bluesky import BlueskyError, PlannedPost
from prefect_bluesky.planning import Batch, read_entries
from prefect_bluesky.prefect_api import run_name


def _run_name() -> str:
    calendar = flow_run.parameters.get("calendar")
    return f"publish {run_name(calendar)}" if calendar else "publish a batch"


@flow(
    name="publish-batch",
    flow_run_name=_run_name,
    description="Publish many posts of many accounts: those that are due now, and the others when they are.",
)
def publish_batch(
    items: tuple[PlannedPost, ...] = (),
    calendar: str = "",
    storage: str = "",
    timezone: str = "UTC",
    dry_run: bool = False,
    at_once: Annotated[int, Field(ge=1, le=64)] = 32,
) -> State[Any]:
    """Publish what is due, and schedule the rest as runs of `publish`.

    An account that cannot sign in stops no other; its posts are held. The same calendar may be given again and again:
    what it has published or scheduled before is left as it is.

    Args:
        items: The posts. Or give a calendar.
        calendar: A YAML, JSON, CSV or Markdown file: its path or URL.
        storage: The Prefect block that the calendar lies in, such as s3-bucket/calendars. Left out, no block.
        timezone: Where times hold that name no offset, if the calendar does not say it.
        dry_run: Publish and schedule nothing, and show what would be.
        at_once: How many accounts are served at a time.
    """
    batch = Batch(read_entries(items, calendar, storage, timezone), dry_run=dry_run)
    batch.work(at_once)
    return batch.close()


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="publish_batch.py",
        description="Publish a calendar: what is due now goes out now, what is due later is scheduled.",
    )
    parser.add_argument("calendar", help="a YAML, JSON, CSV or Markdown file")
    parser.add_argument("--timezone", default="UTC", help="where times hold that name no offset, such as Europe/Berlin")
    parser.add_argument("--dry-run", action="store_true", help="publish and schedule nothing")
    arguments = parser.parse_args()
    try:
        state = publish_batch(
            calendar=arguments.calendar, timezone=arguments.timezone, dry_run=arguments.dry_run, return_state=True
        )
    except BlueskyError as problem:
        sys.exit(str(problem))
    print(state.message)
    sys.exit(not state.is_completed())


if __name__ == "__main__":
    _main()
