"""From one idea to posts on several channels: draft, fit, review, publish or schedule.

uv run flows/compose.py "Release 2.0 is out. It is twice as fast. https://example.com/2.0" --dry-run
"""

# No `from __future__ import annotations`: see publish.py.

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from prefect import allow_failure, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.exceptions import FlowPauseTimeout
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed, Running, Scheduled
from publish_batch import publish_batch
from publish_variant import publish_once
from pydantic import Field, ValidationError
from rich.console import Console, Group
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from prefect_bluesky import BlueskyError, PlannedPost
from prefect_bluesky.channels import BlueskyChannel, Channel, NoAccount, as_post, load_channel
from prefect_bluesky.compose import (
    ComposePlan,
    Generator,
    Idea,
    PlannedVariant,
    TemplateGenerator,
    Timing,
    ask_for_review,
    compose_idea,
    counts,
    keep_approved,
    keep_drafts,
    kept_approved,
    kept_drafts,
    read_idea,
    read_idea_file,
    remarks,
    shown,
)
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media import File
from prefect_bluesky.planning import deployment_id, zone_of
from prefect_bluesky.prefect_api import API_TROUBLE, api_client, ignoring_api_trouble, load_block, run_id, run_name
from prefect_bluesky.publishing import current_attempt
from prefect_bluesky.validation import explain_validation_error

PREVIEW, RESULT = "bluesky-compose-preview", "bluesky-compose"
DEPLOYMENT = "publish-variant/publish-variant"

_WITHOUT_ACCOUNT = ("bluesky", "mastodon")
_BLUESKY = "bluesky-credentials/"


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
    loaded, problems = _loaded(channels or _WITHOUT_ACCOUNT if dry_run else channels, dry_run=dry_run)
    timing = Timing(start, timedelta(hours=every_hours), zone_of(timezone))
    report = _Report(problems)
    approved = [] if dry_run else kept_approved()
    # What was decided before waits for nothing that is still to be decided.
    _publish(approved, loaded, report)
    decided = {each.channel for each in approved}
    undecided = {name: channel for name, channel in loaded.items() if name not in decided}
    if undecided:
        try:
            made = _drafted(lambda: _idea(idea, file, storage), undecided, lambda: _generator(generator), count)
            report.problems += made.problems
            if dry_run:
                return _previewed(made, loaded, report.problems, timing)
            wanted = made.composed
            if review and wanted:
                wanted = ask_for_review(wanted, loaded, timing, timedelta(hours=review_hours))
            _publish(_approve(wanted, timing), loaded, report)
        except FlowPauseTimeout:
            return _unreviewed(review_hours, report)
        except BlueskyError as trouble:
            report.problems.append(str(trouble))
    return report.close()


@dataclass
class _Report:
    """What is out or scheduled, and what is not."""

    problems: list[str]
    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, channel: str, what: str, state: str, where: str = "") -> None:
        """Say what is out, or when it will be."""
        self.rows.append({"channel": channel, "what": what, "state": state, "where": where})

    def close(self) -> State[Any]:
        """Say it in the UI; the state in which the run ends."""
        with ignoring_api_trouble("The artifact with the table could not be made"):
            create_table_artifact(self.rows, key=RESULT, description="What is out or scheduled.")
        if self.problems:
            return Failed(message=f"Not all is out or scheduled. {'; '.join(self.problems)}")
        return Completed(message="All is out or scheduled." if self.rows else "There was nothing to publish.")


def _loaded(names: Sequence[str], *, dry_run: bool) -> tuple[dict[str, Channel], list[str]]:
    """The channels; and of those that cannot be used, why."""
    if not names:
        raise _no_channels()
    loaded: dict[str, Channel] = {}
    problems: list[str] = []
    for name in names:
        try:
            channel = load_channel(name)
            if isinstance(channel, NoAccount) and not dry_run:
                raise InvalidInput(
                    "channels", "it has no account.", f"Name a saved block, such as {name}-credentials/alice."
                )
            if isinstance(channel, BlueskyChannel) and not name.startswith(_BLUESKY):
                # It would go out by `publish_batch`, which knows accounts by the names of these.
                raise InvalidInput("channels", "its type is one of your own.", f"Name one such as {_BLUESKY}alice.")
            loaded[name] = channel
        except BlueskyError as unusable:
            problems.append(f"{name}: {unusable}")
    return loaded, problems


def _no_channels() -> InvalidInput:
    return InvalidInput("channels", "there are none.", "Name saved blocks, such as bluesky-credentials/alice.")


def _generator(name: str) -> Generator:
    if not name:
        return TemplateGenerator()
    block = load_block(name, "generator")
    if not hasattr(block, "generate"):
        raise InvalidInput("generator", f"{name} makes no drafts.", "Name an AI Generator block, or leave it out.")
    return block  # type: ignore[no-any-return]


def _idea(idea: str, file: str, storage: str) -> Idea:
    if bool(idea.strip()) == bool(file):
        raise InvalidInput("idea", "either it or a file is needed.", "Give the one or the other.")
    return read_idea_file(File(source=file, storage=storage)) if file else read_idea(idea)


def _drafted(
    idea: Callable[[], Idea], channels: dict[str, Channel], generator: Callable[[], Generator], count: int
) -> ComposePlan:
    """The variants of each channel: those that an earlier attempt of this run has made, if it has come as far."""
    made = ComposePlan()
    missing: list[tuple[str, Channel]] = []
    for name, channel in channels.items():
        kept = kept_drafts(name)
        try:
            # An instance that is away now stops no other channel later.
            channel.rules  # noqa: B018
        except BlueskyError as trouble:
            made.problems.append(f"{name}: {trouble}")
            continue
        made.composed += kept or []
        missing += [(name, channel)] if kept is None else []
    if missing:
        new = compose_idea(idea(), missing, generator(), count, occasion=current_attempt().key)
        for name, _ in missing:
            drafted = [each for each in new.composed if each.channel == name]
            if drafted:
                made.composed += keep_drafts(name, drafted)
        made.problems += new.problems
        for remark in new.left_out:
            get_run_logger().warning("%s", remark)
    return made


def _approve(composed: list[PlannedVariant], timing: Timing) -> list[PlannedVariant]:
    """Keep what is approved, with its times: another attempt of this run asks nobody again."""
    times = timing.times(composed)
    now = datetime.now(UTC)
    timed = [each.model_copy(update={"at": at, "is_later": at > now}) for each, at in zip(composed, times, strict=True)]
    return keep_approved(timed)


def _unreviewed(hours: float, report: _Report) -> State[Any]:
    with api_client() as client:
        state = client.read_flow_run(run_id()).state
        if state is not None and state.is_paused():
            # Of a pause whose time is up Prefect takes no other end than one of its own (3.8.8).
            client.set_flow_run_state(run_id(), Running(), force=True)
    if report.rows or report.problems:
        report.problems.append(f"Nobody has reviewed the rest for {hours:g} hours; it was not published.")
        return report.close()
    return Cancelled(message=f"Nobody has reviewed it for {hours:g} hours. Nothing was published.")


def _previewed(made: ComposePlan, loaded: dict[str, Channel], problems: list[str], timing: Timing) -> State[Any]:
    times = timing.times(made.composed)
    shows = [shown(each, loaded[each.channel], at) for each, at in zip(made.composed, times, strict=True)]
    with ignoring_api_trouble("The artifact with the preview could not be made"):
        create_markdown_artifact("\n\n".join([*shows, *problems]), key=PREVIEW, description="Nothing was sent.")
    told = f"Nothing was sent: {len(shows)} posts would be."
    return Failed(message=f"{told} {' '.join(problems)}") if problems else Completed(message=told)


def _publish(composed: list[PlannedVariant], loaded: dict[str, Channel], report: _Report) -> None:
    """Publish what is due, and schedule the rest; each channel for itself."""
    futures: list[tuple[PlannedVariant, PrefectFuture[Any]]] = []
    last: dict[str, PrefectFuture[Any]] = {}
    planned: list[PlannedPost] = []
    for each in composed:
        channel = loaded.get(each.channel)
        what = f"{each.channel}, {each.variant.kind}"
        if channel is None or not each.is_wanted:
            continue
        if isinstance(channel, BlueskyChannel):
            account = each.channel.partition("/")[2]
            try:
                planned.append(PlannedPost(account=account, post=as_post(each.variant), at=each.at, key=each.key))
            except ValidationError as unusable:
                report.problems.append(f"{what}: {explain_validation_error(unusable)}")
        elif each.is_later and each.at:
            try:
                _schedule(each)
                report.add(each.channel, each.variant.kind, f"scheduled for {each.at:%Y-%m-%d %H:%M %Z}")
            except (InvalidInput, *API_TROUBLE) as trouble:
                report.problems.append(f"{what}: it could not be scheduled. {trouble}")
        else:
            # One after the other within a channel, whatever becomes of the one before.
            before = [allow_failure(last[each.channel])] if each.channel in last else []
            last[each.channel] = publish_once.submit(
                each.channel, each.variant, each.key, wait_for=before, return_state=False
            )
            futures.append((each, last[each.channel]))
    _publish_on_bluesky(planned, report)
    for each, future in futures:
        future.wait()
        if future.state.is_completed():
            report.add(each.channel, each.variant.kind, "published", ", ".join(future.result().urls))
        else:
            report.problems.append(f"{each.channel}, {each.variant.kind}: {future.state.message}")


def _publish_on_bluesky(planned: list[PlannedPost], report: _Report) -> None:
    if not planned:
        return
    # Each attempt anew: what is out already is found.
    batch = publish_batch.with_options(persist_result=False)
    try:
        done: State[Any] = batch(items=tuple(planned), return_state=True)
    except API_TROUBLE as trouble:
        report.problems.append(f"Bluesky: its posts could not be handed on. {trouble}")
        return
    if done.is_completed():
        report.add("Bluesky", f"{len(planned)} posts", done.message or "")
    else:
        report.problems.append(f"Bluesky: {done.message}")


def _schedule(composed: PlannedVariant) -> None:
    """Have a variant published when it is due, by a run of its own."""
    deployment = deployment_id(DEPLOYMENT)
    with api_client() as client:
        client.create_flow_run_from_deployment(
            deployment,
            parameters={
                "channel": composed.channel,
                "variant": composed.variant.model_dump(mode="json", exclude_defaults=True),
                "key": composed.key,
            },
            state=Scheduled(scheduled_time=composed.at),
            name=f"publish on {composed.channel}",
            idempotency_key=composed.key,
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
    channels = tuple(arguments.channel or (_WITHOUT_ACCOUNT if arguments.dry_run else ()))
    try:
        if arguments.dry_run:
            _print(arguments, channels)
            return
        if not channels:
            raise _no_channels()
        if not arguments.no_review and not PREFECT_API_URL.value():
            raise InvalidInput(
                "PREFECT_API_URL", "it is not set, so nobody could review.", "Set it, or give --no-review or --dry-run."
            )
        state = compose(
            idea=arguments.idea,
            file=arguments.file,
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
    loaded, problems = _loaded(channels, dry_run=True)
    idea = _idea(arguments.idea, arguments.file, "")
    made = compose_idea(idea, list(loaded.items()), _generator(arguments.generator), arguments.count, occasion="")
    for each in made.composed:
        channel, variant = loaded[each.channel], each.variant
        texts = zip(variant.posts, counts(each, channel), strict=True)
        parts = [Group(Text(text), Text(count, style="dim", justify="right")) for text, count in texts]
        parts += [Group(Text(remark, style="cyan")) for remark in remarks(each, channel)[len(variant.posts) :]]
        ruled = [row for part in parts for row in (Rule(style="dim"), part)][1:]
        console.print(
            Panel(Group(*ruled), title=f"[bold]{channel.rules.channel}[/] {variant.kind}", title_align="left")
        )
    for problem in (*problems, *made.problems, *made.left_out):
        console.print(problem, style="red", markup=False)
    sys.exit(bool(problems or made.problems))


if __name__ == "__main__":
    _main()
