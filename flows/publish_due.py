"""Publish planned posts at their time: one run publishes all that is due in a minute, for all accounts.

`publish-batch` and `compose` plan a run for each minute of the next day in which posts are due, two minutes ahead, and
`publish-held` does so for later ones. An automation starts a run for what is overdue.
"""

# No `from __future__ import annotations`: see publish.py.

from datetime import datetime
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from pydantic import Field

from prefect_bluesky import BlueskyError
from prefect_bluesky.planning import final_state
from prefect_bluesky.planning import publish_due as publish_what_is_due


def _run_name() -> str:
    # The runs of automations have names such as comical-curassow.
    return name if (name := str(flow_run.name)).startswith("publish what") else "publish what is overdue"


@flow(
    name="publish-due",
    flow_run_name=_run_name,
    description="Publish planned posts at their time, of all accounts, each exactly once.",
)
def publish_due(
    due: datetime | None = None,
    part: Annotated[int, Field(ge=0)] = 0,
    bounds: list[int] = [],  # noqa: B006 - Prefect's form needs the default, and nobody changes it
    at_once: Annotated[int, Field(ge=1, le=64)] = 32,
) -> State[Any]:
    """Publish the posts whose time has come.

    Args:
        due: The minute whose posts are published. Leave empty to publish what is overdue.
        part: The part of the minute's accounts that this run publishes. A run of many accounts starts the other parts.
        bounds: Where the other parts begin. Leave empty to let the run decide.
        at_once: The number of accounts to serve at the same time.
    """
    try:
        return publish_what_is_due(due, part, bounds, at_once)
    except BlueskyError as error:
        return final_state(error)


if __name__ == "__main__":
    publish_due()
