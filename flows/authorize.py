"""Let an account's owner grant access by OAuth: `prefect-bluesky authorize alice`.

    prefect-bluesky authorize --client bot --url https://example.org/bot --into site/bot
    prefect-bluesky authorize alice

The first command makes an OAuth client and its two files for a web host. The second one prints a link for the owner of
an account whose block has an OAuth client, and takes the address at which the owner's browser ends. The browser may be
on another machine. PREFECT_API_URL names the Prefect server.
"""

# No `from __future__ import annotations`: see publish.py.

import argparse
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
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

from prefect_bluesky import BlueskyCredentials, BlueskyError, BlueskyOAuthClient
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning import final_state
from prefect_bluesky.prefect_api import as_script, ask_and_forget, given_block, literal_markdown, read_block_documents

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


def make_client(name: str, url: str, into: str, rotate: bool, console: Console) -> None:
    """Save a client with a key under a name, or give it another key, and write its files."""
    names = {document.name for document in read_block_documents(BlueskyOAuthClient.get_block_type_slug())}
    saved = given_block(name, BlueskyOAuthClient, "--client") if name in names else None
    if saved is None:
        client = BlueskyOAuthClient(url=url, key=BlueskyOAuthClient.new_key() if url else None)
    elif rotate:
        client = saved.with_new_key()
    else:
        client = saved
    if client is not saved:
        client.save(name, overwrite=True)
        console.print(f"Saved the client as bluesky-oauth-client/{name}. Pick it in the account's block.")
    if not client.url:
        console.print("It has no folder on the web, so its grants last two weeks.")
        return
    folder = Path(into or name)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in client.files().items():
        (folder / file).write_text(text)
    console.print(f"Put the two files in {folder} on the web, at {client.url.rstrip('/')}/.")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(description="Let an account's owner grant access by OAuth, in a browser.")
    made.add_argument("account", nargs="?", help="the name of the account's saved block, which has an OAuth client")
    made.add_argument("--client", metavar="NAME", help="make an OAuth client, or write the files of a saved one again")
    made.add_argument("--url", default="", help="the folder on the web for the client's two files; without it, to try")
    made.add_argument("--into", default="", metavar="FOLDER", help="where the files are written; by default, NAME")
    made.add_argument("--rotate", action="store_true", help="give a saved client another key, and keep the older one")
    return made


def main() -> None:
    """Make a client, or let an owner grant access."""
    arguments = parser().parse_args()
    console = Console(highlight=False, soft_wrap=True)
    with as_script("that stores grants"):
        if arguments.client:
            make_client(arguments.client, arguments.url, arguments.into, arguments.rotate, console)
        elif arguments.account:
            grant(given_block(arguments.account, BlueskyCredentials, "account"), console)
        else:
            remedy = "Name an account's saved block, such as alice, or pass --client."
            raise InvalidInput("account", "nothing is given.", remedy)


if __name__ == "__main__":
    main()
