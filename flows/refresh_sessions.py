"""Refresh the sessions of all saved accounts, to detect a revoked app password before the next post.

A revoked app password is detected only at a refresh, as its access tokens work for up to two more hours. This flow
refreshes older sessions on a schedule and whenever a worker starts.
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
from prefect_bluesky.alerts import AccountHealth, Check, status_page, tell_unusable
from prefect_bluesky.planning import end_lost_runs, load_many, saved_names
from prefect_bluesky.prefect_api import api_client, ignoring_api_trouble, run_id

TABLE, PAGE = "bluesky-sessions", "bluesky-accounts"
_CHECKS_SHOWN = 24


@flow(
    name="refresh-sessions",
    flow_run_name="refresh sessions",
    description="Refresh the sessions of all saved accounts, and report which accounts need attention.",
)
def refresh_sessions(max_age: timedelta = timedelta(minutes=30), at_once: int = 8) -> State[Any]:
    """Check all saved accounts.

    A failing account does not fail the run: the alert on `bluesky.auth.failed` has reported the account.

    Args:
        max_age: Refresh sessions whose last refresh is older than this.
        at_once: The number of accounts to check at the same time.
    """
    with ignoring_api_trouble("Lost runs could not be looked for"):
        # A lost run of publish-held keeps the next ones from starting.
        end_lost_runs(but=run_id())
    blocks = load_many(saved_names())
    # Threads, not tasks: a thousand accounts would add a thousand rows to Prefect's database every ten minutes.
    with ThreadPoolExecutor(at_once) as threads:
        checks = [threads.submit(copy_context().run, _check, name, block, max_age) for name, block in blocks.items()]
        accounts = [check.result() for check in checks]
    tell_unusable({each.block: each.remark if each.state == "unusable" else None for each in accounts})
    counts = Counter(account.state for account in accounts)
    summary = ", ".join(f"{count} {state}" for state, count in counts.items()) or "No account is saved."
    _show(accounts, summary)
    return Completed(message=summary)


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
        state, problem = "stopped" if error.stops_account else "not reached", error.problem
        remark = problem.remedy if problem else str(error)
        return AccountHealth(**about, did=credentials.did, state=state, problem=problem, remark=remark)
    log.info("%s", status)
    # A session that is reused was not shown to its server.
    state = "not due" if status.action == "reused" else "well"
    return AccountHealth(**about, did=status.did, expires_at=status.expires_at, state=state)


def _show(accounts: list[AccountHealth], summary: str) -> None:
    with ignoring_api_trouble("The artifacts could not be made"):
        page = status_page(accounts, _past_checks(), datetime.now(UTC))
        create_table_artifact([account.row() for account in accounts], key=TABLE, description=summary)
        create_markdown_artifact(page, key=PAGE, description="The accounts that publish to Bluesky, and their health.")


def _past_checks() -> list[Check]:
    """Return the results of the last runs, read from their tables."""
    with api_client() as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[TABLE]))
        tables = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=_CHECKS_SHOWN - 1)
    return [
        Check(table.created, {row["block"]: row["state"] for row in json.loads(str(table.data))})
        for table in reversed(tables)
        if table.created
    ]


if __name__ == "__main__":
    refresh_sessions()
