"""Find out why an account cannot publish: `uv run flows/diagnose.py`.

A deployment takes a saved `BlueskyCredentials` block. The script takes the account from the environment.
"""

# No `from __future__ import annotations`: see publish.py.

import argparse
import sys

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from rich.console import Console
from rich.markdown import Markdown

from prefect_bluesky import BlueskyCredentials, BlueskyError, Diagnosis
from prefect_bluesky.planning import final_state
from prefect_bluesky.prefect_api import quiet_server


@flow(
    name="diagnose",
    flow_run_name="diagnose {account.handle}",
    description="Find out why an account cannot publish, and what to do about it.",
)
def diagnose(account: BlueskyCredentials, log_in: bool = False) -> Diagnosis:
    """Check an account as a person would.

    The check refreshes the session, stores the new session, and writes nothing to the account.

    Args:
        account: The account. Pick a saved block.
        log_in: Also sign in, which uses one of the logins allowed per day.
    """
    try:
        diagnosis = account.diagnose(log_in=log_in)
    except BlueskyError as error:
        return final_state(error)  # type: ignore[return-value]  # a Python caller gets the error
    problem = diagnosis.problem
    get_run_logger().info("%s: %s", account.handle, f"{problem}: {problem.remedy}" if problem else "all well")
    create_markdown_artifact(diagnosis.to_markdown(), description=f"Diagnosis of {account.handle}")
    return diagnosis


@quiet_server()
def _main() -> None:
    description = "Find out why a Bluesky account cannot publish, and what to do about it."
    epilog = "The account comes from BLUESKY_HANDLE, BLUESKY_APP_PASSWORD and, optionally, BLUESKY_SERVICE_URL."
    parser = argparse.ArgumentParser(prog="diagnose.py", description=description, epilog=epilog)
    parser.add_argument("--log-in", action="store_true", help="also sign in, which uses one of the day's logins")
    arguments = parser.parse_args()
    try:
        diagnosis = diagnose(BlueskyCredentials.from_environment(), arguments.log_in)
    except BlueskyError as problem:
        sys.exit(str(problem))
    Console().print(Markdown(diagnosis.to_markdown()))
    sys.exit(1 if diagnosis.problem else 0)


if __name__ == "__main__":
    _main()
