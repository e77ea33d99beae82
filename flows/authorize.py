"""Let an account's owner grant access by OAuth: `prefect-bluesky authorize alice`.

    prefect-bluesky authorize --client bot --url https://example.org/bot --into site/bot
    prefect-bluesky authorize alice

The first command makes an OAuth client and its two files for a web host. The second one prints a link for the owner of
an account whose block has an OAuth client, and takes the address at which the owner's browser ends. The browser may be
on another machine. PREFECT_API_URL names the Prefect server.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from prefect_bluesky import BlueskyCredentials, BlueskyOAuthClient
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.prefect_api import as_script, given_block, read_block_documents

_VISITS = (
    ("Open this link, sign in as the account's owner, and consent:", "Access is granted and stored."),
    (
        "Once more, for a spare session that takes over if the first one is lost:",
        "The spare session is stored, too. Nothing else is to be done.",
    ),
)


def authorize(credentials: BlueskyCredentials, console: Console) -> None:
    """Print links, and take the addresses at which the owner's browser ends."""
    visit = credentials.visit()
    for number, (wanted, done) in enumerate(_VISITS):
        session = None
        while session is None:
            console.print(f"{wanted}\n\n{escape(visit.link())}\n")
            address = console.input("The address at which the browser ended: ")
            if not address.strip():
                raise InvalidInput("address", "nothing was given.", "Run the command again for a new link.")
            try:
                session = visit.take(address, is_spare=number > 0)
            except InvalidInput as mistake:
                console.print(f"[red]{escape(str(mistake))}[/]\n")
        console.print(f"{done} [dim]{escape(session.did)} at {escape(session.pds_url)}: {escape(session.scope)}[/]\n")


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
            authorize(given_block(arguments.account, BlueskyCredentials, "account"), console)
        else:
            remedy = "Name an account's saved block, such as alice, or pass --client."
            raise InvalidInput("account", "nothing is given.", remedy)


if __name__ == "__main__":
    main()
