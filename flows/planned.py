"""List, show, move, change and drop planned posts: `prefect-bluesky planned list`.

    prefect-bluesky planned list --account alice.test
    prefect-bluesky planned show 0198c5f2
    prefect-bluesky planned move release-2.0 "2026-12-01 08:00" --timezone Europe/Berlin
    prefect-bluesky planned change 0198c5f2 --text "Good morning"
    prefect-bluesky planned drop 0198c5f2

A post is named by its key, or by the beginning of its run's id. PREFECT_API_URL names the Prefect server.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from prefect.client.schemas.objects import FlowRun
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning import change, describe, drop_plan, find_plan, move, read_plans, show_calendar
from prefect_bluesky.prefect_api import as_script

_ID_CHARACTERS = 13
"""The length of a run's id in the list."""


def _list(account: str, calendar: str, console: Console) -> None:
    runs = read_plans(account, calendar)
    if not runs:
        console.print("Nothing is planned.")
        return
    # Of what names a post, nothing is cut off: people copy it.
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "when (UTC)"):
        table.add_column(name, no_wrap=True)
    for name in ("account", "post"):
        table.add_column(name, overflow="fold")
    for run in runs:
        about = dict(describe(run))
        when = about["planned for"].removesuffix(" UTC")
        known = " · ".join(filter(None, (about["key"], about["calendar"])))
        post = f"{escape(about['text'])}\n[dim]{escape(known)}[/]"
        table.add_row(str(run.id)[:_ID_CHARACTERS], when, escape(about["account"]), post)
    console.print(table)


def _show(run: FlowRun, console: Console) -> None:
    for name, fact in describe(run):
        console.print(f"[bold]{name}:[/] {escape(fact)}")
    console.print(_as_json(run.parameters.get("post")), markup=False)


def _move(run: FlowRun, to: str, timezone: str, console: Console) -> None:
    at, successor = move(run, to, timezone)
    has_passed = at <= datetime.now(UTC)
    when = f"{at:%Y-%m-%d %H:%M %Z}"
    said = f"{when} has passed: the post goes out at once." if has_passed else f"Moved to {when}."
    console.print(f"{said} Its run is now {str(successor.id)[:_ID_CHARACTERS]}.")


def _change(run: FlowRun, text: str | None, fields: str | None, console: Console) -> None:
    try:
        changed: Any = json.loads(fields) if fields else {}
    except ValueError as damaged:
        raise InvalidInput("--fields", f"this is not JSON: {damaged}.", 'Write {"languages": ["en"]}.') from None
    if not isinstance(changed, dict):
        raise InvalidInput("--fields", "this is not a JSON object.", 'Write {"languages": ["en"]}.')
    if text is not None:
        changed["text"] = text
    if not changed:
        raise InvalidInput("change", "nothing to change was given.", "Pass --text or --fields.")
    post = change(run, changed)
    console.print("Changed. It will go out as:")
    console.print(_as_json(post.model_dump(mode="json", exclude_defaults=True)), markup=False)


def _as_json(post: Any) -> str:
    return json.dumps(post, ensure_ascii=False, indent=2)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    description = "List, show, move, change and drop the posts that are planned on the server of PREFECT_API_URL."
    made = argparse.ArgumentParser(description=description)
    commands = made.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="list the planned posts, the earliest first")
    listing.add_argument(
        "--account", default="", metavar="HANDLE", help="only posts of this account: handle or DID as in its block"
    )
    listing.add_argument("--calendar", default="", metavar="FILE", help="only posts of this calendar")
    commands.add_parser("show", help="show a planned post")
    moving = commands.add_parser("move", help="publish a post at another time")
    changing = commands.add_parser("change", help="change what a post says")
    commands.add_parser("drop", help="drop a post: never publish it")
    for command in commands.choices.values():
        if command is not listing:
            command.add_argument("run", help="the post's key, or the beginning of its run's id")
    moving.add_argument("to", metavar="TIME", help='such as "2026-12-01 08:00"')
    moving.add_argument("--timezone", default="UTC", help="the zone of a time without an offset, such as Europe/Berlin")
    changing.add_argument("--text", help="the new text")
    changing.add_argument("--fields", metavar="JSON", help='other fields of the post, such as {"languages": ["en"]}')
    return made


def main() -> None:
    """List, show, move, change or drop planned posts."""
    arguments = parser().parse_args()
    with as_script("that has planned posts"):
        _do(arguments, Console(highlight=False, soft_wrap=True))


def _do(arguments: argparse.Namespace, console: Console) -> None:
    if arguments.command == "list":
        _list(arguments.account, arguments.calendar, console)
        return
    run = find_plan(arguments.run)
    if arguments.command == "show":
        _show(run, console)
        return
    if arguments.command == "move":
        _move(run, arguments.to, arguments.timezone, console)
    elif arguments.command == "change":
        _change(run, arguments.text, arguments.fields, console)
    else:
        drop_plan(run)
        console.print(f"Dropped: {run.name}")
    show_calendar()


if __name__ == "__main__":
    main()
