"""From one idea to posts on several channels: draft, fit, review, publish or schedule.

uv run flows/compose.py "Release 2.0 is out. It is twice as fast. https://example.com/2.0" --dry-run
"""

# No `from __future__ import annotations`: see publish.py.

import argparse
import sys
from datetime import datetime, timedelta
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
    panel,
    run_compose,
)
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning import zone_of
from prefect_bluesky.prefect_api import run_name


def _run_name() -> str:
    given = flow_run.parameters
    return f"compose {run_name(given.get('file') or given.get('idea') or '')}"


@flow(
    name="compose",
    flow_run_name=_run_name,
    description="Make posts of an idea for several channels, have them reviewed, and publish them when they are due.",
)
def compose(
    idea: str = "",
    file: str = "",
    storage: str = "",
    channels: tuple[str, ...] = (),
    count: Annotated[int, Field(ge=1, le=50)] = 7,
    generator: str = "",
    review: bool = True,
    review_hours: Annotated[float, Field(gt=0)] = 72,
    start: datetime | None = None,
    every_hours: Annotated[float, Field(gt=0)] = 24,
    timezone: str = "UTC",
    dry_run: bool = False,
) -> State[Any]:
    """Make posts of an idea, and publish them.

    Where the run is tried again, what was drafted and decided is kept, and only what is missing is published.

    Args:
        idea: A sentence or notes, with a link below; or a link alone, whose page is read. Or give a file.
        file: A Markdown or text file: its path or URL.
        storage: The Prefect block that the file lies in, such as s3-bucket/ideas. Left out, no block.
        channels: The saved blocks of the channels, such as bluesky-credentials/alice and mastodon-credentials/alice.
            For a dry run, bluesky and mastodon do.
        count: How many posts a channel gets at most.
        generator: The AI Generator block that makes the drafts, such as ai-generator/drafts. Left out, they are made
            by rule, of the idea's own words.
        review: Wait for a person, who edits, drops, reschedules and approves the posts in the form that opens at the
            button Resume.
        review_hours: After how many hours without an answer nothing is published.
        start: When the first post of each channel goes out. Left out, at once.
        every_hours: How many hours after one the next goes out.
        timezone: Where times hold that name no offset, such as Europe/Berlin.
        dry_run: Publish and schedule nothing, and show what would be.
    """
    return run_compose(
        partial(load_idea, idea, file, storage),
        channels,
        partial(load_generator, generator),
        count=count,
        review_for=timedelta(hours=review_hours) if review else None,
        timing=Timing(start, timedelta(hours=every_hours), zone_of(timezone)),
        dry_run=dry_run,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compose.py",
        description="Make posts of an idea for several channels.",
        epilog="Without --dry-run they are published, or scheduled, by the Prefect server of PREFECT_API_URL.",
    )
    parser.add_argument("idea", nargs="?", default="", help="a sentence or notes, with a link below; or a link alone")
    parser.add_argument("--file", default="", help="a Markdown or text file with the idea")
    parser.add_argument(
        "--channel",
        action="append",
        metavar="BLOCK",
        help="a saved block, such as mastodon-credentials/alice; with --dry-run also bluesky or mastodon, the default",
    )
    parser.add_argument("--count", type=int, default=7, help="how many posts a channel gets at most (7)")
    parser.add_argument("--generator", default="", metavar="BLOCK", help="such as ai-generator/drafts; else by rule")
    parser.add_argument("--no-review", action="store_true", help="publish without asking anybody")
    parser.add_argument("--dry-run", action="store_true", help="publish nothing, and print what would be")
    return parser.parse_args()


def _main() -> None:
    arguments = _arguments()
    channels = tuple(arguments.channel or ())
    try:
        if arguments.dry_run:
            _print(arguments, channels)
            return
        if not arguments.no_review and not PREFECT_API_URL.value():
            raise InvalidInput(
                "PREFECT_API_URL", "it is not set, so nobody could review.", "Set it, or give --no-review or --dry-run."
            )
        state = compose(
            arguments.idea,
            arguments.file,
            channels=channels,
            count=arguments.count,
            generator=arguments.generator,
            review=not arguments.no_review,
            return_state=True,
        )
    except BlueskyError as problem:
        sys.exit(str(problem))
    print(state.message)
    sys.exit(not state.is_completed())


def _print(arguments: argparse.Namespace, channels: tuple[str, ...]) -> None:
    """Show what would go out. It takes no run of the flow, and so no server."""
    console = Console(width=min(Console().width, 84))
    loaded, problems = load_channels(channels, dry_run=True)
    idea = load_idea(arguments.idea, arguments.file, "")
    made = compose_idea(idea, list(loaded.items()), load_generator(arguments.generator), arguments.count, occasion="")
    for each in made.composed:
        console.print(panel(each, loaded[each.channel]))
    for problem in (*problems, *made.problems, *made.left_out):
        console.print(problem, style="red", markup=False)
    sys.exit(bool(problems or made.problems))


if __name__ == "__main__":
    _main()
