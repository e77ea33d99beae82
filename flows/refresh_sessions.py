"""Keep every saved account's session warm, and notice a dead app password before the next publish does.

A revoked app password shows only at a refresh: its access tokens work on for up to two hours. So this flow, on a
schedule and whenever a worker starts, refreshes what has not been refreshed for a while.
"""

# No `from __future__ import annotations`: see publish.py.

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import ArtifactSort
from prefect.logging import get_run_logger
from prefect.states import Completed

from prefect_bluesky import BlueskyCredentials, BlueskyError
from prefect_bluesky.alerts import AccountHealth, Past, status_page
from prefect_bluesky.planning import load_many, saved_names
from prefect_bluesky.prefect_api import api_client, ignoring_api_trouble

TABLE, PAGE = "bluesky-sessions", "bluesky-accounts"
_CHECKS_SHOWN = 24


@flow(
    name="refresh-sessions",
    flow_run_name="refresh sessions",
    description="Keep every saved account's session warm, and say which account needs somebody.",
)
def refresh_sessions(max_age: timedelta = timedelta(minutes=30), at_once: int = 8) -> State[Any]:
    """Check all saved accounts.

    It does not fail because of an account: the alert on `bluesky.auth.failed` has told of that.

    Args:
        max_age: Refresh what was refreshed longer ago than this.
        at_once: How many accounts are asked at a time.
    """
    blocks = load_many(saved_names())
    # No tasks: a thousand accounts every ten minutes would be a thousand rows in Prefect's database each time.
    with ThreadPoolExecutor(at_once) as threads:
        checks = [threads.submit(copy_context().run, _check, name, block, max_age) for name, block in blocks.items()]
        accounts = [check.result() for check in checks]
    counts = Counter(account.state for account in accounts)
    told = ", ".join(f"{count} {state}" for state, count in counts.items()) or "No account is saved."
    _show(accounts, told)
    return Completed(message=told)


def _check(name: str, credentials: BlueskyCredentials | BlueskyError | ValueError, max_age: timedelta) -> AccountHealth:
    log = get_run_logger()
    if not isinstance(credentials, BlueskyCredentials):
        log.warning("The block %s cannot be used: %s", name, credentials)
        return AccountHealth(account=name, block=name, state="unusable", remark=str(credentials))
    about: dict[str, Any] = {"account": credentials.handle, "block": name}
    try:
        status = credentials.keep_alive(max_age)
    except BlueskyError as error:
        log.warning("%s: %s", credentials.handle, error)
        return AccountHealth(
            **about,
            did=credentials.did,
            state="stopped" if error.stops_account else "not reached",
            problem=error.problem,
            remark=error.problem.remedy if error.problem else str(error),
        )
    log.info("%s", status)
    return AccountHealth(**about, did=status.did, expires_at=status.expires_at, state="well")


def _show(accounts: list[AccountHealth], told: str) -> None:
    with ignoring_api_trouble("The artifacts could not be made"):
        page = status_page(accounts, _past_checks(), datetime.now(UTC))
        create_table_artifact([account.row() for account in accounts], key=TABLE, description=told)
        create_markdown_artifact(page, key=PAGE, description="The accounts that publish to Bluesky, and how they are.")


def _past_checks() -> list[Past]:
    """What the last runs found, read from their tables."""
    with api_client() as client:
        tables = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[TABLE])),
            sort=ArtifactSort.CREATED_DESC,
            limit=_CHECKS_SHOWN - 1,
        )
    return [{row["block"]: row["state"] for row in json.loads(str(table.data))} for table in reversed(tables)]


if __name__ == "__main__":
    refresh_sessions()
