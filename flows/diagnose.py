"""Find out why an account cannot publish: `prefect-bluesky diagnose`.

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
from prefect_bluesky.prefect_api import as_script, given_block
from prefect_bluesky.problems import without_block


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


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(
        description="Find out why a Bluesky account cannot publish, and what to do about it.",
        epilog="Without a name, the account comes from BLUESKY_HANDLE, BLUESKY_APP_PASSWORD and, optionally,"
        " BLUESKY_SERVICE_URL.",
    )
    made.add_argument("account", nargs="?", help="the name of the account's saved block, such as alice")
    made.add_argument("--log-in", action="store_true", help="also sign in, which uses one of the day's logins")
    return made


@as_script()
def main() -> None:
    """Print the diagnosis. Exit with 1 if there is a problem."""
    arguments = parser().parse_args()
    account = (
        given_block(arguments.account, BlueskyCredentials, "account")
        if arguments.account
        else BlueskyCredentials.from_environment()
    )
    diagnosis = diagnose(account, arguments.log_in)
    page = diagnosis.to_markdown()
    Console().print(Markdown(page if arguments.account else without_block(page)))
    sys.exit(1 if diagnosis.problem else 0)


if __name__ == "__main__":
    main()
