"""Let an account's owner grant access by OAuth: `prefect-bluesky authorize alice`.

The command prints a link for the owner of an account whose block has an OAuth client, and takes the address at which
the owner's browser ends. The browser may be on another machine. PREFECT_API_URL names the Prefect server.
"""

# No `from __future__ import annotations`: see publish.py.

import argparse
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed
from pydantic import Field
from rich.console import Console
from rich.markup import escape

from prefect_bluesky import BlueskyCredentials, BlueskyError
from prefect_bluesky.planning import final_state
from prefect_bluesky.prefect_api import as_script, ask_and_forget, given_block, literal_markdown

_GOOD_FOR = timedelta(minutes=5)
"""How long a link is good (measured on @atproto/pds 0.5.35)."""

_WHAT = ("First of two: the session.", "Second of two: a spare session, which takes over if the first one is lost.")


class Address(RunInput):
    """The form of the paused run."""

    address: str = Field(
        default="",
        title="Address",
        description="Where the browser ended: all of the address. Leave the field empty for a new link.",
    )


@flow(
    name="authorize",
    flow_run_name="authorize {account.handle}",
    description="Let an account's owner grant access by OAuth, in a browser.",
)
def authorize(account: BlueskyCredentials, hours: Annotated[float, Field(gt=0)] = 24) -> State[Any]:
    """Pause twice, for a session and for a spare one. The form of the paused run shows a link and takes an address.

    Args:
        account: The account. Pick a saved block that has an OAuth client. Once the run is paused, choose Resume: the
            form shows a link.
        hours: The hours to wait for the owner at each link.
    """
    patience = timedelta(hours=hours)
    about, missing = "", ""
    try:
        for session in account.visit().sessions(partial(_in_form, patience)):
            about = f"The account is {session.did} at {session.pds_url}. The scope is {session.scope}."
    except FlowPauseTimeout:
        missing = f"Nobody has granted access within {hours:g} hours."
        if not about:
            return Cancelled(message=f"{missing} Run it again for a new link.")
    except BlueskyError as error:
        missing = str(error)
        if not about:
            return final_state(error)
    # Prefect's older UI cuts the message off after 75 characters.
    done = f"but the spare session is missing. {missing}" if missing else "with a spare session."
    return Completed(message=f"Access is granted, {done} {about}")


def _in_form(patience: timedelta, link: str, is_spare: bool, wrong: str) -> str:
    """Show a link in the form of the paused run, and return the address that a person gives."""
    until = datetime.now(UTC) + _GOOD_FOR
    steps = f"""{_WHAT[is_spare]}

1. Open [{literal_markdown(link.partition("?")[0])}](<{link}>) in a new tab, before {until:%H:%M} UTC.
2. Sign in as the account's owner, and consent.
3. Copy the address at which the browser ends, even if that page does not open, and paste it below."""
    form = Address.with_initial_data(description=f"**{literal_markdown(wrong)}**\n\n{steps}" if wrong else steps)
    get_run_logger().info("Waiting for the account's owner. Resume this run: the form shows a link.")
    return str((ask_and_forget(form, patience) or {}).get("address", ""))


def _in_terminal(console: Console, link: str, is_spare: bool, wrong: str) -> str:
    """Print a link, and return the address that a person types."""
    if wrong:
        console.print(f"[red]{escape(wrong)}[/]\n")
    wanted = "Open this link, sign in as the account's owner, and consent:"
    console.print(f"{_WHAT[is_spare]} {wanted}\n\n{escape(link)}\n")
    return console.input("The address at which the browser ended (nothing for a new link): ")


def grant(credentials: BlueskyCredentials, console: Console) -> None:
    """Print links, and take the addresses at which the owner's browser ends."""
    done = iter(("Access is granted and stored.", "The spare session is stored, too. Nothing else is to be done."))
    for session in credentials.visit().sessions(partial(_in_terminal, console)):
        about = f"{session.did} at {session.pds_url}: {session.scope}"
        console.print(f"{next(done)} [dim]{escape(about)}[/]\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(description="Let an account's owner grant access by OAuth, in a browser.")
    made.add_argument("account", help="the name of the account's saved block, which has an OAuth client")
    ends = "end the account's sessions at its server instead: what is stored of them may have leaked"
    made.add_argument("--revoke", action="store_true", help=ends)
    return made


def main() -> None:
    """Let an owner grant access, or end what was granted."""
    arguments = parser().parse_args()
    console = Console(highlight=False, soft_wrap=True)
    with as_script("that stores grants"):
        credentials = given_block(arguments.account, BlueskyCredentials, "account")
        if arguments.revoke:
            credentials.sign_out()
            console.print("The sessions have ended. To publish again, let the account's owner grant access again.")
        else:
            grant(credentials, console)


if __name__ == "__main__":
    main()
