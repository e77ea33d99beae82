"""How long it takes to plan a large calendar, and to compare it again: `uv run python -m tests.benchmarks.plan`.

A Prefect server on PostgreSQL, a calendar of 10,000 posts of 100 accounts, and `publish-batch` in this process.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_bluesky import sandbox
from prefect_bluesky.planning import Options, preview_batch, read_entries
from tests.prefect_server import PrefectServer, postgresql
from tests.support import block, block_schemas_made_once, later_deployment, planned_deployments, run_to_state

FLOW = f"{Path(__file__).parents[2] / 'flows' / 'publish_batch.py'}:publish_batch"


def calendar(path: Path, names: list[str], posts: int) -> None:
    """Write a CSV of posts, each five minutes after the last."""
    start = (datetime.now(UTC) + timedelta(days=1)).replace(second=0, microsecond=0)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["account", "at", "text"])
        for number in range(posts):
            at = start + timedelta(minutes=5 * number)
            name = names[number % len(names)]
            rows.writerow(
                [name, f"{at:%Y-%m-%d %H:%M}", f"Post {number} of the year, with a link https://example.com/{number}"]
            )


def main(posts: int, accounts: int) -> None:
    """Print the seconds and the CPU seconds of each step."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = PrefectServer(home, stack.enter_context(postgresql()))
        url = stack.enter_context(server.running())
        stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        stack.enter_context(block_schemas_made_once())
        pds = stack.enter_context(sandbox.run())
        names = [f"account-{number}" for number in range(accounts)]
        for name in names:
            block(pds, pds.create_account()).save(name)
        planned_deployments()
        later_deployment()
        path = home / "year.csv"
        calendar(path, names, posts)
        flow: Flow[Any, Any] = load_flow_from_entrypoint(FLOW)
        for step in ("plan", "compare again"):
            began, cpu = time.monotonic(), time.process_time()
            state = run_to_state(flow, calendar=str(path))
            took, cpu = time.monotonic() - began, time.process_time() - cpu
            print(f"{step}: {took:.1f} s, CPU here {cpu:.1f} s: {state.message}")
        began = time.monotonic()
        preview = preview_batch(read_entries((), str(path), "", "UTC"), Options())
        print(f"dry run: {time.monotonic() - began:.1f} s: {preview.summary}")


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main(*(int(each) for each in (sys.argv[1:] or ("10000", "100"))))
