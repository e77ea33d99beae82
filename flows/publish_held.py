"""Send the posts that were held while their account could not sign in.

An automation runs it as soon as an account has recovered, and a schedule now and then, so that no post waits for an
event that got lost.
"""

# No `from __future__ import annotations`: see publish.py.

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from prefect_bluesky.planning import send_held


@flow(
    name="publish-held",
    flow_run_name="publish what was held",
    description="Send the posts that were held while their account could not sign in, oldest first, each exactly once.",
)
def publish_held(account: str | None = None) -> State[Any]:
    """Send what was held, under the keys of the runs that were to send it.

    Args:
        account: Only this account's posts: its handle or DID, as its block has it. Left out, those of all accounts.
    """
    return send_held(account)


if __name__ == "__main__":
    publish_held()
