"""Run `compose`: draft for each channel, have a person review, publish the due posts and schedule the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import allow_failure
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.exceptions import FlowPauseTimeout
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed, Running
from pydantic import ValidationError

from prefect_bluesky.channels import BlueskyChannel, Channel, NoAccount, as_post, load_channel, publish_once
from prefect_bluesky.compose.idea import Idea, read_idea, read_idea_file
from prefect_bluesky.compose.kept import keep_approved, keep_drafts, kept_approved, kept_drafts
from prefect_bluesky.compose.plan import ComposePlan, Generator, PlannedVariant, Timing, compose_idea
from prefect_bluesky.compose.review import ask_for_review, shown
from prefect_bluesky.compose.templates import TemplateGenerator
from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.media import File
from prefect_bluesky.planning import (
    Options,
    PlannedPost,
    channel_tag,
    deployment_id,
    queue_lock,
    read_entries,
    run_batch,
    schedule_run,
)
from prefect_bluesky.prefect_api import (
    API_TROUBLE,
    api_client,
    ended,
    failed,
    ignoring_api_trouble,
    load_block,
    logger,
    run_id,
)
from prefect_bluesky.publishing import current_attempt
from prefect_bluesky.validation import explain_validation_error

PREVIEW, RESULT = "bluesky-compose-preview", "bluesky-compose"
DEPLOYMENT = "publish-variant/publish-variant"

WITHOUT_ACCOUNT = ("bluesky", "mastodon")
"""The channels that a dry run can show without a saved block."""

_BLUESKY = "bluesky-credentials/"


def run_compose(
    read: Callable[[], Idea],
    channels: Sequence[str],
    generator: Callable[[], Generator],
    *,
    count: int,
    review_for: timedelta | None,
    timing: Timing,
    dry_run: bool,
    key: str = "",
) -> State[Any]:
    """Make posts from an idea, publish them, and return the final state of the run.

    A retry keeps the drafts and decisions, and publishes only the missing posts. `read` and `generator` are called only
    if drafts are missing. `review_for` limits the wait for a reviewer; None publishes without a review. With a key, the
    posts of the idea go out once, whatever has become of an earlier run.
    """
    loaded, problems = load_channels(channels, dry_run=dry_run)
    report = _Report(problems)
    approved = [] if dry_run else kept_approved()
    # Publish the posts that were approved before, without waiting for open decisions.
    _publish(approved, loaded, report)
    decided = {each.channel for each in approved}
    undecided = {name: channel for name, channel in loaded.items() if name not in decided}
    if undecided:
        try:
            plan = _plan(read, undecided, generator, count, key or current_attempt().key)
            report.problems += plan.problems
            if dry_run:
                return _preview(plan.composed, loaded, report.problems, timing)
            planned = plan.composed
            if review_for and planned:
                planned = ask_for_review(planned, loaded, timing, review_for)
            with queue_lock() if timing.slots else nullcontext():
                _publish(_approve(planned, timing), loaded, report)
        except FlowPauseTimeout:
            return _close_unreviewed(review_for or timedelta(), report)
        except BlueskyError as trouble:
            report.problems.append(str(trouble))
    return report.close()


@dataclass
class _Report:
    """The published and scheduled posts, and the problems of the others."""

    problems: list[str]
    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, channel: str, what: str, state: str, where: str = "") -> None:
        self.rows.append({"channel": channel, "what": what, "state": state, "where": where})

    def close(self) -> State[Any]:
        """Show the report in the UI, and return the final state of the run."""
        with ignoring_api_trouble("The artifact with the table could not be created"):
            create_table_artifact(self.rows, key=RESULT, description="The published and scheduled posts.")
        if self.problems:
            return failed(f"Some posts are not out or scheduled. {'; '.join(self.problems)}")
        return Completed(message="All posts are out or scheduled." if self.rows else "There was nothing to publish.")


def no_channels() -> InvalidInput:
    """Return the error of a run without channels."""
    return InvalidInput("channels", "no channel is given.", "Name saved blocks, such as bluesky-credentials/alice.")


def load_channels(names: Sequence[str], *, dry_run: bool) -> tuple[dict[str, Channel], list[str]]:
    """Return the channels by the names of their blocks, and the problems of unusable ones.

    A dry run accepts `bluesky` and `mastodon`, which have no account, and uses both if no channel is named.

    Raises:
        InvalidInput: no channel is named.
    """
    if not (names := names or (WITHOUT_ACCOUNT if dry_run else ())):
        raise no_channels()
    loaded: dict[str, Channel] = {}
    problems: list[str] = []
    for name in names:
        try:
            channel = load_channel(name)
            if isinstance(channel, NoAccount) and not dry_run:
                remedy = f"Name a saved block, such as {name}-credentials/alice."
                raise InvalidInput("channels", "it has no account.", remedy)
            if isinstance(channel, BlueskyChannel) and not name.startswith(_BLUESKY):
                # `publish_batch` publishes Bluesky posts, and finds accounts only by the names of these blocks.
                raise InvalidInput("channels", "its block type is a custom one.", f"Name one such as {_BLUESKY}alice.")
            loaded[name] = channel
        except BlueskyError as unusable:
            problems.append(f"{name}: {unusable}")
    return loaded, problems


def load_generator(name: str) -> Generator:
    """Return the generator of a saved block, or without a name the template generator.

    Raises:
        InvalidInput: the block does not exist, or makes no drafts.
    """
    if not name:
        return TemplateGenerator()
    block = load_block(name, "generator")
    if not hasattr(block, "generate"):
        raise InvalidInput("generator", f"{name} makes no drafts.", "Name an AI Generator block, or leave it out.")
    return block  # type: ignore[no-any-return]


def load_idea(idea: str, link: str, file: str, storage: str) -> Idea:
    """Read the idea from a text, a link, or a file that may be in a storage block.

    Raises:
        InvalidInput: a file is given beside a text or a link, or nothing is; or as `read_idea` and `read_idea_file`.
        SourceUnavailable: as `read_idea` and `read_idea_file`.
    """
    if bool(idea.strip() or link) == bool(file):
        if file:
            raise InvalidInput("idea", "an idea and a file are given.", "Leave one of them out.")
        raise InvalidInput("idea", "nothing is given.", "Write an idea, or name a file with one.")
    return read_idea_file(File(source=file, storage=storage)) if file else read_idea(idea, link)


def _plan(
    read: Callable[[], Idea],
    channels: dict[str, Channel],
    generator: Callable[[], Generator],
    count: int,
    occasion: str,
) -> ComposePlan:
    """Return the variants of each channel, made now or by an earlier attempt of this run."""
    plan = ComposePlan()
    missing: list[tuple[str, Channel]] = []
    for name, channel in channels.items():
        kept = kept_drafts(name)
        try:
            # Read the rules now, so that an instance that is down does not stop the other channels later.
            channel.rules  # noqa: B018
        except BlueskyError as trouble:
            plan.problems.append(f"{name}: {trouble}")
            continue
        plan.composed += kept or []
        missing += [(name, channel)] if kept is None else []
    if missing:
        new = compose_idea(read(), missing, generator(), count, occasion=occasion)
        for name, _ in missing:
            drafts = [each for each in new.composed if each.channel == name]
            plan.composed += keep_drafts(name, drafts) if drafts else []
        plan.problems += new.problems
        for remark in new.left_out:
            logger().warning("%s", remark)
    return plan


def _approve(planned: list[PlannedVariant], timing: Timing) -> list[PlannedVariant]:
    """Keep the approved variants with their times, so that a retry of this run asks nobody again."""
    times = timing.times(planned)
    now = datetime.now(UTC)
    timed = [each.model_copy(update={"at": at, "is_later": at > now}) for each, at in zip(planned, times, strict=True)]
    return keep_approved(timed)


def _close_unreviewed(patience: timedelta, report: _Report) -> State[Any]:
    hours = patience.total_seconds() / 3600
    with api_client() as client:
        state = client.read_flow_run(run_id()).state
        if state is not None and state.is_paused():
            # After a pause has timed out, Prefect accepts no other final state than its own (3.8.8 to 3.9.1).
            client.set_flow_run_state(run_id(), Running(), force=True)
    if report.rows or report.problems:
        report.problems.append(f"Nobody reviewed the rest within {hours:g} hours. The rest was not published.")
        return report.close()
    return ended(Cancelled(message=f"Nobody reviewed the posts within {hours:g} hours. Nothing was published."))


def _preview(
    variants: list[PlannedVariant], loaded: dict[str, Channel], problems: list[str], timing: Timing
) -> State[Any]:
    times = timing.times(variants)
    previews = [shown(each, loaded[each.channel], at) for each, at in zip(variants, times, strict=True)]
    with ignoring_api_trouble("The artifact with the preview could not be created"):
        create_markdown_artifact("\n\n".join([*previews, *problems]), key=PREVIEW, description="Nothing was sent.")
    message = f"Nothing was sent. Without a dry run, {len(previews)} posts would be."
    return failed(f"{message} {' '.join(problems)}") if problems else Completed(message=message)


def _publish(variants: list[PlannedVariant], loaded: dict[str, Channel], report: _Report) -> None:
    """Publish the due variants and schedule the rest; a channel that fails does not stop the others."""
    futures: list[tuple[PlannedVariant, PrefectFuture[Any]]] = []
    last: dict[str, PrefectFuture[Any]] = {}
    planned: list[PlannedPost] = []
    for each in variants:
        channel = loaded.get(each.channel)
        if channel is None or not each.is_wanted:
            continue
        name = f"{each.channel}, {each.variant.kind}"
        if isinstance(channel, BlueskyChannel):
            account = each.channel.partition("/")[2]
            try:
                planned.append(PlannedPost(account=account, post=as_post(each.variant), at=each.at, key=each.key))
            except ValidationError as unusable:
                report.problems.append(f"{name}: {explain_validation_error(unusable)}")
        elif each.is_later and each.at:
            try:
                _schedule(each)
                report.add(each.channel, each.variant.kind, f"scheduled for {each.at:%Y-%m-%d %H:%M %Z}")
            except (InvalidInput, *API_TROUBLE) as trouble:
                report.problems.append(f"{name}: the post could not be scheduled. {trouble}")
        else:
            # Publish the posts of a channel one after the other, even if an earlier post fails.
            before = [allow_failure(last[each.channel])] if each.channel in last else []
            future = publish_once.submit(each.channel, each.variant, each.key, wait_for=before, return_state=False)
            last[each.channel] = future
            futures.append((each, future))
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
    try:
        done = run_batch(read_entries(planned, "", "", "UTC"), Options())
    except API_TROUBLE as trouble:
        report.problems.append(f"Bluesky: the posts could not be scheduled or published. {trouble}")
    else:
        if done.is_completed():
            report.add("Bluesky", f"{len(planned)} posts", done.message or "")
        else:
            report.problems.append(f"Bluesky: {done.message}")


def _schedule(planned: PlannedVariant) -> None:
    """Schedule a separate run that publishes a variant."""
    variant = planned.variant.model_dump(mode="json", exclude_defaults=True)
    parameters = {"channel": planned.channel, "variant": variant, "key": planned.key}
    name = f"publish on {planned.channel}"
    tags = [channel_tag(planned.channel)]
    schedule_run(deployment_id(DEPLOYMENT), parameters, key=planned.key, name=name, at=planned.at, tags=tags)
