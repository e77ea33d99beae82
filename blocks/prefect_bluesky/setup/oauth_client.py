"""The command that makes an OAuth client and looks after its key: `prefect-bluesky oauth-client bot`.

    prefect-bluesky oauth-client bot --url https://example.org/bot --into site/bot
    prefect-bluesky oauth-client bot --rotate --into site/bot
    prefect-bluesky oauth-client bot --revoke --into site/bot

The first command saves a client as a block, and writes its two files for a web host. The second one gives it another
key, and the third one also ends all sessions that were granted to it: a key or a store may have leaked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.planning import load_many, saved_names
from prefect_bluesky.prefect_api import as_script, given_block, read_block_documents
from prefect_bluesky.sessions import BlueskyOAuthClient


def make(name: str, url: str) -> BlueskyOAuthClient:
    """Return the client that is saved under a name, or save a new one.

    Raises:
        InvalidInput: the client cannot be used, or was saved with another URL.
    """
    names = {document.name for document in read_block_documents(BlueskyOAuthClient.get_block_type_slug())}
    if name in names:
        saved = given_block(name, BlueskyOAuthClient, "client")
        if url and url.rstrip("/") != saved.url.rstrip("/"):
            what = f"{name} is saved with {saved.url or 'none'}. Its sessions would end with another one."
            raise InvalidInput("--url", what, "Leave --url out, or choose another name.")
        return saved
    made = BlueskyOAuthClient(url=url, key=BlueskyOAuthClient.new_key() if url else None)
    made.save(name)
    return made


def revoke(client: BlueskyOAuthClient) -> Iterator[tuple[str, BlueskyError | None]]:
    """End the sessions of all saved accounts that use a client. Yield their blocks' names, with what went wrong."""
    for name, account in load_many(saved_names()).items():
        if not isinstance(account, BlueskyCredentials) or account.oauth_client is None:
            continue
        if account.oauth_client.latest.client_id != client.latest.client_id:
            continue
        try:
            account.sign_out()
        except BlueskyError as trouble:
            yield name, trouble
        else:
            yield name, None


def write_files(client: BlueskyOAuthClient, folder: Path, console: Console) -> None:
    """Write the two files of a client, and say what to do with them."""
    if not client.url:
        console.print("It has no folder on the web, so its grants last two weeks.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in client.files().items():
        (folder / file).write_text(text)
    console.print(f"Put the two files in {folder} on the web, at {client.url.rstrip('/')}/.")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(description="Make an OAuth client, write its files, and look after its key.")
    made.add_argument("name", help="the name under which the client is saved, or is to be saved")
    made.add_argument("--url", default="", help="the folder on the web for the client's two files; without it, to try")
    made.add_argument("--into", default="", metavar="FOLDER", help="where the files are written; by default, NAME")
    what = made.add_mutually_exclusive_group()
    what.add_argument("--rotate", action="store_true", help="give the client another key, and keep the older one")
    ends = "end all sessions that were granted to the client, and give it another key: something has leaked"
    what.add_argument("--revoke", action="store_true", help=ends)
    return made


def main() -> None:
    """Make a client, or change its key. Exit with 1 if a session could not be ended."""
    arguments = parser().parse_args()
    console = Console(highlight=False, soft_wrap=True)
    left: list[str] = []
    with as_script("that stores the client"):
        if arguments.rotate or arguments.revoke:
            client = given_block(arguments.name, BlueskyOAuthClient, "name")
        else:
            client = make(arguments.name, arguments.url)
        console.print(f"The client is saved as bluesky-oauth-client/{arguments.name}. Pick it in the account's block.")
        if arguments.rotate:
            client = client.with_new_key()
            client.save(arguments.name, overwrite=True)
        if arguments.revoke:
            for name, trouble in revoke(client):
                console.print(f"{name}: {trouble or 'signed out'}", markup=False)
                left += [name] if trouble else []
            if client.url:
                client = client.with_new_key().model_copy(update={"older_key": None})
                client.save(arguments.name, overwrite=True)
        write_files(client, Path(arguments.into or arguments.name), console)
        if arguments.revoke:
            console.print("Then let each owner grant access again: prefect-bluesky authorize.")
    if left:
        # Measured on @atproto/pds 0.5.35: it keeps a client's document for 10 minutes, an access token lives 60.
        gone = "are of no use to anybody 70 minutes after the new files are on the web"
        console.print(f"The sessions of {', '.join(left)} may live on. They {gone}.", markup=False)
        sys.exit(1)
