"""Report how posts did: `prefect-bluesky report --days 28 --csv posts.csv`.

The accounts are the saved blocks of the Prefect server at PREFECT_API_URL, or the named ones. No account signs in.
"""

# No `from __future__ import annotations`: see publish.py.

import argparse
import csv
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefect_bluesky import BlueskyCredentials, BlueskyError
from prefect_bluesky.planning import final_state, load_many, saved_names, zone_of
from prefect_bluesky.prefect_api import as_script, failed, ignoring_api_trouble, shorten
from prefect_bluesky.reports import PostCounts, by_hour, by_kind, read_counts, report_page, report_rows

REPORT = "bluesky-report"

_SHOWN, _BEST = 20, 3
"""Posts, and best hours and kinds, in a terminal."""

_MOST_DAYS = 366


@flow(
    name="report",
    flow_run_name="report of {days} days",
    description="Report how posts did: likes, reposts, replies and quotes, best hours and best kinds.",
)
def report(
    accounts: tuple[str, ...] = (), days: Annotated[int, Field(ge=1, le=_MOST_DAYS)] = 28, timezone: str = "UTC"
) -> State[Any]:
    """Count what readers did with the posts of some days, and show it as an artifact.

    Args:
        accounts: The names of the accounts' blocks. Leave empty for all saved accounts.
        days: The number of days to look back.
        timezone: The time zone of hours and times, such as Europe/Berlin.
    """
    try:
        zone = zone_of(timezone)
    except BlueskyError as unusable:
        return final_state(unusable)
    posts, problems = _read(accounts, days)
    page = report_page(posts, f"{days} days", zone, problems)
    with ignoring_api_trouble("The artifact could not be made"):
        create_markdown_artifact(page, key=REPORT, description=f"How the posts of {days} days did.")
    if problems and not posts:
        return failed("; ".join(problems))
    missing = f" Not counted: {'; '.join(problems)}" if problems else ""
    return Completed(message=f"{len(posts)} posts are counted.{missing}")


def _read(accounts: tuple[str, ...], days: int) -> tuple[list[PostCounts], list[str]]:
    """Return the posts, the newest first, and why some accounts have no figures."""
    now = datetime.now(UTC)
    posts: list[PostCounts] = []
    problems: list[str] = []
    for name, credentials in load_many(accounts or saved_names()).items():
        if not isinstance(credentials, BlueskyCredentials):
            problems.append(f"{name}: {credentials}")
            continue
        try:
            posts += read_counts(credentials, now - timedelta(days=days), now)
        except BlueskyError as trouble:
            problems.append(f"{name}: {trouble}")
    return sorted(posts, key=lambda post: post.at, reverse=True), problems


def _print(posts: list[PostCounts], zone: ZoneInfo, console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("when", no_wrap=True)
    for column in ("account", "post", "kind"):
        table.add_column(column, overflow="fold")
    for column in ("likes", "reposts", "replies", "quotes"):
        table.add_column(column, justify="right")
    for post in posts[:_SHOWN]:
        counts = [str(count) for count in (post.likes, post.reposts, post.replies, post.quotes)]
        when = f"{post.at.astimezone(zone):%Y-%m-%d %H:%M}"
        table.add_row(when, escape(post.account), escape(shorten(post.text)), post.kind, *counts)
    console.print(table)
    if len(posts) > _SHOWN:
        console.print(f"And {len(posts) - _SHOWN} more: use --csv.")
    for title, groups in (("Best hours", by_hour(posts, zone)), ("Best kinds", by_kind(posts))):
        best = ", ".join(f"{group.name} ({group.median:g} a post, of {group.count})" for group in groups[:_BEST])
        console.print(f"[bold]{title}:[/] {best}")


def _days(written: str) -> int:
    if not written.isdecimal() or not 1 <= int(written) <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{written!r} is no number from 1 to {_MOST_DAYS}")
    return int(written)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(description="Report how posts did.")
    made.add_argument("account", nargs="*", help="the name of an account's block; without it all saved accounts")
    made.add_argument("--days", type=_days, default=28, metavar="DAYS", help="the number of days to look back (28)")
    made.add_argument("--timezone", default="UTC", help="time zone of hours and times, such as Europe/Berlin")
    made.add_argument("--csv", type=Path, metavar="FILE", help="write all posts to a file")
    return made


@as_script()
def main() -> None:
    """Print the report, and write its CSV. Exit with the accounts that could not be read."""
    arguments = parser().parse_args()
    zone = zone_of(arguments.timezone)
    posts, problems = _read(tuple(arguments.account), arguments.days)
    if posts:
        _print(posts, zone, Console(highlight=False))
    if arguments.csv:
        try:
            with arguments.csv.open("w", newline="", encoding="utf-8-sig") as file:
                csv.writer(file).writerows(report_rows(posts, zone))
        except OSError as trouble:
            sys.exit(f"--csv: {arguments.csv}: {trouble.strerror}. Name a file that can be written.")
    if not posts and not problems:
        print(f"No post is out in these {arguments.days} days.")
    sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main()
