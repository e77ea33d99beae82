"""Publish posts of many accounts: publish due posts now, and schedule later posts.

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
from prefect_bluesky.planning import final_state, read_entries, run_batch
from prefect_bluesky.prefect_api import quiet_server, run_name


def _run_name() -> str:
    calendar = flow_run.parameters.get("calendar")
    return f"publish {run_name(calendar)}" if calendar else "publish a batch"


@flow(
    name="publish-batch",
    flow_run_name=_run_name,
    description="Publish many posts of many accounts: publish due posts now, and schedule later posts.",
)
def publish_batch(
    items: tuple[PlannedPost, ...] = (),
    calendar: str = "",
    storage: str = "",
    timezone: str = "UTC",
    dry_run: bool = False,
    at_once: Annotated[int, Field(ge=1, le=64)] = 32,
) -> State[Any]:
    """Publish due posts, and schedule later posts as runs of `publish/planned`.

    An account that cannot sign in does not stop the others, and its posts are held. The same calendar may be passed
    repeatedly: posts that were published or scheduled before are left unchanged.

    Args:
        items: The posts. Leave empty to read a calendar.
        calendar: A YAML, JSON, CSV or Markdown file: its path or URL.
        storage: The Prefect block that stores the calendar, such as s3-bucket/calendars. Leave empty for no block.
        timezone: The time zone of times without an offset, if the calendar does not name one.
        dry_run: Publish and schedule nothing. Show a preview.
        at_once: The number of accounts to serve at the same time.
    """
    try:
        entries = read_entries(items, calendar, storage, timezone)
    except BlueskyError as unusable:
        return final_state(unusable)  # without a traceback in the log: a person corrects the calendar
    return run_batch(entries, calendar=calendar, dry_run=dry_run, at_once=at_once)


@quiet_server()
def _main() -> None:
    description = "Publish a calendar: publish due posts now, and schedule later posts."
    parser = argparse.ArgumentParser(prog="publish_batch.py", description=description)
    parser.add_argument("calendar", help="a YAML, JSON, CSV or Markdown file")
    parser.add_argument("--timezone", default="UTC", help="time zone of times without an offset, such as Europe/Berlin")
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
