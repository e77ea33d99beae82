"""List, show and discard held posts: `prefect-bluesky held list`.

    prefect-bluesky held list --account alice.test
    prefect-bluesky held show 0198c5f2
    prefect-bluesky held drop 0198c5f2

PREFECT_API_URL names the Prefect server.
"""

from __future__ import annotations

import argparse
import json

from prefect.client.schemas.objects import FlowRun
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefect_bluesky.planning import account_of, drop, find_held_run, read_held_runs, service_of
from prefect_bluesky.prefect_api import as_script

_ID_CHARACTERS, _TEXT_CHARACTERS = 13, 60
"""The lengths of a run's id and of a post's text in the list."""


def _list(account: str | None, console: Console) -> None:
    runs = list(read_held_runs(account))
    if not runs:
        console.print("Nothing is held.")
        return
    table = Table("run", "account", "held since (UTC)", "planned for (UTC)", "post")
    for run in runs:
        times = _held_since(run), _planned_for(run)
        table.add_row(str(run.id)[:_ID_CHARACTERS], account_of(run) or "?", *times, escape(_beginning(run)))
    console.print(table)


def _show(run: FlowRun, console: Console) -> None:
    facts = {
        "run": f"{run.name} ({run.id})",
        "account": f"{account_of(run) or '?'} at {service_of(run) or '?'}",
        "held since": f"{_held_since(run)} UTC",
        "planned for": f"{_planned_for(run)} UTC",
        "why": (run.state.message if run.state else "") or "",
        "sent by publish-held": "yes" if run.deployment_id else "no: the run has no deployment",
    }
    for name, fact in facts.items():
        console.print(f"[bold]{name}:[/] {escape(fact)}")
    parameters = {name: value for name, value in run.parameters.items() if name != "credentials"}
    console.print(json.dumps(parameters, ensure_ascii=False, indent=2), markup=False)


def _drop(run: FlowRun, console: Console) -> None:
    console.print(f"Dropped {run.id}." if drop(run.id) else f"{run.id} is no longer held: see its page in Prefect.")


def _beginning(run: FlowRun) -> str:
    post = run.parameters.get("post")
    text = " ".join((post.get("text", "") if isinstance(post, dict) else str(post or run.name)).split())
    return text if len(text) <= _TEXT_CHARACTERS else f"{text[:_TEXT_CHARACTERS]}…"


def _held_since(run: FlowRun) -> str:
    return f"{run.state.timestamp:%Y-%m-%d %H:%M}" if run.state else "?"


def _planned_for(run: FlowRun) -> str:
    return f"{run.expected_start_time:%Y-%m-%d %H:%M}" if run.expected_start_time else "?"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    description = "List, show and discard the posts that are held on the Prefect server of PREFECT_API_URL."
    made = argparse.ArgumentParser(description=description)
    commands = made.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="list the held posts, oldest first")
    listing.add_argument(
        "--account", metavar="HANDLE", help="only posts of this account: handle or DID as in its block"
    )
    helps = {"show": "show held posts, and why each is held", "drop": "discard held posts: never send them"}
    for name, text in helps.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("run", nargs="+", help="the id of the run, or the beginning of the id")
    return made


def main() -> None:
    """List, show or discard held posts."""
    arguments = parser().parse_args()
    with as_script("that holds posts"):
        _do(arguments, Console(highlight=False, soft_wrap=True))


def _do(arguments: argparse.Namespace, console: Console) -> None:
    if arguments.command == "list":
        _list(arguments.account, console)
        return
    runs = [find_held_run(each) for each in arguments.run]
    act = _drop if arguments.command == "drop" else _show
    for run in runs:
        act(run, console)


if __name__ == "__main__":
    main()
