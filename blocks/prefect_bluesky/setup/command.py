"""The command that sets a Prefect server up: `prefect-bluesky setup --notify slack-webhook/alerts`."""

from __future__ import annotations

import argparse
import sys

from prefect.client.orchestration import get_client

from prefect_bluesky.prefect_api import as_script
from prefect_bluesky.setup.left_sessions import delete_left_sessions
from prefect_bluesky.setup.server import Setup


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(
        description="Set up the blocks, deployments, automations and limits of prefect-bluesky on a Prefect server.",
        epilog="PREFECT_API_URL selects the server, as for every Prefect command. Run it as often as you like.",
    )
    made.add_argument(
        "--notify",
        metavar="BLOCK",
        help="the saved notification block for messages, such as slack-webhook/alerts; later runs remember it",
    )
    made.add_argument("--check", action="store_true", help="change nothing, and print the differences")
    tidy = "delete the stored sessions of accounts that have no saved block any more; set up nothing"
    made.add_argument("--tidy", action="store_true", help=tidy)
    return made


def main() -> None:
    """Set a server up, or print how it differs. Exit with 1 if it differs or cannot be set up."""
    arguments = parser().parse_args()
    with as_script("to set up"), get_client(sync_client=True) as client:
        if arguments.tidy:
            print("\n".join(delete_left_sessions(client)) or "There was nothing to delete.")
            return
        setup = Setup(client, arguments.notify)
        if arguments.check:
            differences = list(setup.differences())
            print("\n".join(differences) or "Everything is up to date.")
            sys.exit(1 if differences else 0)
        for done in setup.apply():
            print(done)
        print("Set up. Start a worker: prefect worker start --pool bluesky")
