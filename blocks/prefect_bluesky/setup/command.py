"""The command that sets a Prefect server up: `prefect-bluesky setup --notify slack-webhook/alerts`."""

from __future__ import annotations

import argparse
import sys

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.prefect_api import API_TROUBLE
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
    return made


def main() -> None:
    """Set a server up, or print how it differs. Exit with 1 if it differs or cannot be set up."""
    arguments = parser().parse_args()
    try:
        sys.exit(_run(arguments.notify, check=arguments.check))
    except BlueskyError as problem:
        sys.exit(str(problem))


def _run(notify: str | None, *, check: bool) -> int:
    url = PREFECT_API_URL.value()
    start = "Start one with `prefect server start`"
    if not url:
        what = "it is not set, so there is no server to set up."
        raise InvalidInput("PREFECT_API_URL", what, f"{start}, and set it to http://127.0.0.1:4200/api.")
    try:
        with get_client(sync_client=True) as client:
            setup = Setup(client, notify)
            if check:
                differences = list(setup.differences())
                print("\n".join(differences) or "Everything is up to date.")
                return 1 if differences else 0
            for done in setup.apply():
                print(done)
    except API_TROUBLE as trouble:
        what = f"the server at {url} does not answer ({type(trouble).__name__})."
        raise InvalidInput("PREFECT_API_URL", what, f"{start}, or correct the URL.") from None
    print("Set up. Start a worker: prefect worker start --pool bluesky")
    return 0
