"""Send the posts that were held because their account could not sign in, or because their worker died.

An automation starts this flow as soon as an account recovers. A schedule also starts it, in case an event is lost, and
to see to planned posts whose runs a person has moved or copied.
"""

# No `from __future__ import annotations`: see publish.py.

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from prefect_bluesky.planning import end_lost_runs, plan_ahead, send_held, show_calendar
from prefect_bluesky.prefect_api import ignoring_api_trouble, run_id


@flow(
    name="publish-held",
    flow_run_name="publish what was held",
    description="Send the posts that were held while their account could not sign in, oldest first, each exactly once.",
)
def publish_held(account: str | None = None) -> State[Any]:
    """Send held posts under the keys of their own runs.

    Args:
        account: Send only this account's posts. Write the handle or DID as in its block. Leave empty for all accounts.
    """
    with ignoring_api_trouble("Lost runs could not be looked for"):
        end_lost_runs(but=run_id())
    sent = send_held(account or None)
    with ignoring_api_trouble("The planned posts could not be seen to"):
        plan_ahead()
    show_calendar()
    return sent


if __name__ == "__main__":
    publish_held()
