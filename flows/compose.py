"""Make posts for several channels from one idea: draft, fit, review, publish or schedule.

prefect-bluesky compose "Release 2.0 is out. It is twice as fast. https://example.com/2.0" --dry-run
"""

# No `from __future__ import annotations`: see publish.py.

import argparse
import sys
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from pydantic import Field
from rich.console import Console

from prefect_bluesky import BlueskyError
from prefect_bluesky.compose import (
    Timing,
    compose_idea,
    load_channels,
    load_generator,
    load_idea,
    no_channels,
    panel,
    run_compose,
)
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning import final_state, next_slots, zone_of
from prefect_bluesky.posts import Time
from prefect_bluesky.prefect_api import as_script, run_name


def _run_name() -> str:
    return f"compose {run_name(flow_run.parameters.get('file') or flow_run.parameters.get('idea') or '')}"


@flow(
    name="compose",
    flow_run_name=_run_name,
    description="Make posts for several channels from an idea, have a person review them, and publish them when due.",
)
def compose(
    idea: str = "",
    link: str = "",
    file: str = "",
    storage: str = "",
    channels: tuple[str, ...] = (),
    count: Annotated[int, Field(ge=1, le=50)] = 7,
    generator: str = "",
    review: bool = True,
    review_hours: Annotated[float, Field(gt=0)] = 72,
    start: Time = None,
    every_hours: Annotated[float, Field(gt=0)] = 24,
    timezone: str = "UTC",
    key: str = "",
    dry_run: bool = False,
    schedule: str = "",
) -> State[Any]:
    """Make posts from an idea, and publish them. A retry keeps drafts and decisions, and publishes what is missing.

    Args:
        idea: A sentence or notes, with a link below, or a link alone, whose page is read. Leave empty to read a file.
        link: The page to lead to, if it is not in the idea. Without an idea, the page is read.
        file: A Markdown or text file: its path or URL.
        storage: The Prefect block that stores the file, such as s3-bucket/ideas. Leave empty for no block.
        channels: The saved blocks of the channels, such as bluesky-credentials/alice and mastodon-credentials/alice.
            For a dry run, bluesky and mastodon are enough.
        count: The maximum number of posts for each channel.
        generator: The AI Generator block that makes the drafts, such as ai-generator/drafts. Leave empty to make
            drafts by rules from the idea's own words.
        review: Wait for a person. Resuming the run opens a form to edit, drop, reschedule and approve the posts.
        review_hours: The hours to wait for an answer. After that, nothing is published.
        start: The time of the first post of each channel. Leave empty to start at once.
        every_hours: The hours between two posts of a channel.
        timezone: The time zone of times without an offset, such as Europe/Berlin.
        key: A name of the idea. The posts of an idea with a name go out once, also by another run.
        dry_run: Publish and schedule nothing. Show a preview.
        schedule: Slots such as mon-fri 09:00, 13:00, or a Posting Schedule block. Each post takes the next free slot
            of its channel, in place of start and every_hours.
    """
    try:
        slots = next_slots(schedule, timezone) if schedule else None
        return run_compose(
            partial(load_idea, idea, link, file, storage),
            channels,
            partial(load_generator, generator),
            count=count,
            review_for=timedelta(hours=review_hours) if review else None,
            timing=Timing(start, timedelta(hours=every_hours), zone_of(timezone), slots),
            dry_run=dry_run,
            key=key,
        )
    except BlueskyError as unusable:
        return final_state(unusable)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    epilog = "Without --dry-run, the Prefect server of PREFECT_API_URL publishes or schedules the posts."
    description = "Make posts for several channels from an idea."
    made = argparse.ArgumentParser(description=description, epilog=epilog)
    made.add_argument("idea", nargs="?", default="", help="a sentence or notes, with a link below, or a link alone")
    made.add_argument("--link", default="", help="the page to lead to, if it is not in the idea")
    made.add_argument("--file", default="", help="a Markdown or text file with the idea")
    channel = "a saved block, such as mastodon-credentials/alice; with --dry-run also bluesky or mastodon, the default"
    made.add_argument("--channel", action="append", default=[], metavar="BLOCK", help=channel)
    made.add_argument("--count", type=int, default=7, help="the maximum number of posts for each channel (7)")
    made.add_argument("--generator", default="", metavar="BLOCK", help="such as ai-generator/drafts (else: rules)")
    made.add_argument("--no-review", action="store_true", help="publish without a review")
    made.add_argument("--dry-run", action="store_true", help="publish nothing, and print a preview")
    return made


@as_script()
def main() -> None:
    """Compose posts of an idea, or print a preview."""
    arguments = parser().parse_args()
    if arguments.dry_run:
        _print(arguments)
        return
    if not arguments.channel:
        raise no_channels()
    if not arguments.no_review and not PREFECT_API_URL.value():
        remedy = "Set PREFECT_API_URL, or pass --no-review or --dry-run."
        raise InvalidInput("PREFECT_API_URL", "the URL is not set, so nobody can review.", remedy)
    state = compose(
        arguments.idea,
        arguments.link,
        arguments.file,
        channels=tuple(arguments.channel),
        count=arguments.count,
        generator=arguments.generator,
        review=not arguments.no_review,
        return_state=True,
    )
    print(state.message)
    sys.exit(not state.is_completed())


def _print(arguments: argparse.Namespace) -> None:
    """Print a preview. No run of the flow starts, so no server is needed."""
    console = Console(width=min(Console().width, 84))
    loaded, problems = load_channels(arguments.channel, dry_run=True)
    idea = load_idea(arguments.idea, arguments.link, arguments.file, "")
    made = compose_idea(idea, list(loaded.items()), load_generator(arguments.generator), arguments.count, occasion="")
    for each in made.composed:
        console.print(panel(each, loaded[each.channel]))
    for problem in (*problems, *made.problems, *made.left_out):
        console.print(problem, style="red", markup=False)
    sys.exit(bool(problems or made.problems))


if __name__ == "__main__":
    main()
