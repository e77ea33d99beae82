"""Publish many posts of many accounts: publish due posts now, and schedule later posts.

prefect-bluesky publish-batch calendars/december.yaml --dry-run
prefect-bluesky publish-batch calendars/december.yaml
"""

# No `from __future__ import annotations`: see publish.py.

import argparse
import sys
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from pydantic import Field
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefect_bluesky import BlueskyError, PlannedPost
from prefect_bluesky.planning import (
    Options,
    PlanLine,
    final_state,
    not_approved,
    plan_lines,
    plan_page,
    preview_batch,
    problem_lines,
    read_entries,
    require_server_for_later,
    run_batch,
    zone_of,
)
from prefect_bluesky.posts import OF_A_FORM, usable
from prefect_bluesky.prefect_api import as_script, run_name

_COLOURS = {"+": "green", "~": "yellow", "-": "red", "!": "cyan"}


def _run_name() -> str:
    calendar = flow_run.parameters.get("calendar")
    return f"publish {run_name(calendar)}" if calendar else "publish a batch"


@flow(
    name="publish-batch",
    flow_run_name=_run_name,
    description="Publish many posts of many accounts: publish due posts now, and schedule later posts.",
)
def publish_batch(
    items: Annotated[tuple[PlannedPost, ...], OF_A_FORM] = (),
    calendar: str = "",
    storage: str = "",
    timezone: str = "UTC",
    dry_run: bool = False,
    at_once: Annotated[int, Field(ge=1, le=64)] = 32,
    name: str = "",
    overwrite: bool = False,
    prune: bool = False,
    schedule: str = "",
    account: str = "",
    dates: Literal["", "day-first", "month-first"] = "",
    approve: bool = False,
) -> State[Any]:
    """Publish due posts, and bring the planned posts, the runs of `publish/planned`, in line with the calendar.

    An account that cannot sign in does not stop the others, and its posts are held. The same calendar may be passed
    repeatedly: what is published or unchanged is left alone, and so is what a person has edited or cancelled.

    Args:
        items: The posts. Leave empty to read a calendar.
        calendar: A YAML, JSON, CSV or Markdown file: its path or URL.
        storage: The Prefect block that stores the calendar, such as s3-bucket/calendars. Leave empty for no block.
        timezone: The time zone of times without an offset, if the calendar does not name one.
        dry_run: Publish, schedule and change nothing. Show what would be done.
        at_once: The number of accounts to serve at the same time.
        name: The calendar's name. Leave empty for the name in the calendar, else the file's name.
        overwrite: Let posts that a person has edited or cancelled follow the calendar.
        prune: Remove planned posts that the calendar no longer has.
        schedule: The slots of posts without a time, such as mon-fri 09:00, 13:00, or a Posting Schedule block. Leave
            empty to publish these posts at once, unless the calendar has slots.
        account: The account of posts that name none, such as those of another scheduler's export.
        dates: The order of day and month in a CSV, if its dates do not tell.
        approve: Show what would be done, and wait for a person who resumes the run and approves.
    """
    try:
        batch = read_entries(usable(items), calendar, storage, timezone, name, schedule, account, dates)
        options = Options(dry_run=dry_run, overwrite=overwrite, prune=prune, at_once=at_once)
        if approve and not dry_run:
            preview = preview_batch(batch, options)
            if ended := not_approved([plan_page(preview.rows, preview.summary)]):
                return ended
        return run_batch(batch, options)
    except BlueskyError as unusable:
        return final_state(unusable)  # without a traceback in the log: a person corrects the calendar


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    description = "Publish a calendar: publish due posts now, and bring the planned posts in line."
    made = argparse.ArgumentParser(description=description)
    made.add_argument("calendar", help="a YAML, JSON, CSV or Markdown file")
    made.add_argument("--timezone", default="UTC", help="time zone of times without an offset, such as Europe/Berlin")
    made.add_argument("--name", default="", help="the calendar's name; without it the file's name")
    slots = 'slots of posts without a time, such as "mon-fri 09:00, 13:00", or a Posting Schedule block'
    made.add_argument("--schedule", default="", metavar="SLOTS", help=slots)
    made.add_argument("--account", default="", help="the account of posts that name none")
    orders = ("day-first", "month-first")
    made.add_argument("--dates", default="", choices=orders, help="order of day and month, if the dates do not tell")
    made.add_argument("--dry-run", action="store_true", help="change nothing, and print what would be done")
    made.add_argument("--overwrite", action="store_true", help="let what a person has edited follow the calendar")
    made.add_argument("--prune", action="store_true", help="remove planned posts that the calendar no longer has")
    return made


def _print(lines: list[PlanLine], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("when", no_wrap=True)
    for column in ("account", "post", "place"):
        table.add_column(column, overflow="fold")
    for line in lines:
        colour = _COLOURS[line.sign]
        post = f"{escape(line.text)}\n[dim]{escape(line.note)}[/]" if line.note else escape(line.text)
        table.add_row(f"[bold {colour}]{line.sign}[/]", line.when, escape(line.account), post, escape(line.place))
    if lines:
        console.print(table)


@as_script()
def main() -> None:
    """Publish a calendar, or print what would be done."""
    arguments = parser().parse_args()
    zone_of(arguments.timezone)  # before a server is asked, or started
    options = Options(dry_run=arguments.dry_run, overwrite=arguments.overwrite, prune=arguments.prune)
    given = {name: getattr(arguments, name) for name in ("timezone", "name", "schedule", "account", "dates")}
    batch = read_entries((), arguments.calendar, "", **given)
    if arguments.dry_run:
        preview = preview_batch(batch, options)
        _print(list(plan_lines(preview.rows, "--{}")), Console(highlight=False))
        print("\n".join([*problem_lines(preview.problems), preview.summary]))
        if any(problem["state"] == "failed" for problem in preview.problems):
            sys.exit(1)
        return
    require_server_for_later(batch)
    switches = {"overwrite": arguments.overwrite, "prune": arguments.prune}
    state = publish_batch(calendar=arguments.calendar, **given, **switches, return_state=True)
    print(state.message)
    sys.exit(not state.is_completed())


if __name__ == "__main__":
    main()
