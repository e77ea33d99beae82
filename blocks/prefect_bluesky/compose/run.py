"""A run of `compose`: draft for each channel, have a person decide, publish what is due and schedule the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import allow_failure
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.exceptions import FlowPauseTimeout
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed, Failed, Running
from pydantic import ValidationError

from prefect_bluesky.channels import BlueskyChannel, Channel, NoAccount, as_post, load_channel, publish_once
from prefect_bluesky.compose.idea import Idea, read_idea, read_idea_file
from prefect_bluesky.compose.kept import keep_approved, keep_drafts, kept_approved, kept_drafts
from prefect_bluesky.compose.plan import ComposePlan, Generator, PlannedVariant, Timing, compose_idea
from prefect_bluesky.compose.review import ask_for_review, shown
from prefect_bluesky.compose.templates import TemplateGenerator
from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.media import File
from prefect_bluesky.planning import Batch, PlannedPost, deployment_id, read_entries, schedule_run
from prefect_bluesky.prefect_api import API_TROUBLE, api_client, ignoring_api_trouble, load_block, logger, run_id
from prefect_bluesky.publishing import current_attempt
from prefect_bluesky.validation import explain_validation_error

PREVIEW, RESULT = "bluesky-compose-preview", "bluesky-compose"
DEPLOYMENT = "publish-variant/publish-variant"

WITHOUT_ACCOUNT = ("bluesky", "mastodon")
"""The channels that a dry run can do without a saved block."""

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
) -> State[Any]:
    """Make posts of an idea, and publish them; the state in which the run ends.

    If the run is tried again, what was drafted and decided is kept, and only what is missing is published.

    Args:
        read: reads the idea, if an earlier attempt has not made drafts of it.
        channels: the saved blocks of the channels.
        generator: loads what makes drafts, if drafts are still to be made.
        count: how many posts a channel gets at most.
        review_for: how long to wait for a person's decision; None to publish without a review.
        timing: when what goes out.
        dry_run: whether nothing is published, and what would be is shown.
    """
    loaded, problems = load_channels(channels, dry_run=dry_run)
    report = _Report(problems)
    approved = [] if dry_run else kept_approved()
    # What was decided before waits for nothing that is still to be decided.
    _publish(approved, loaded, report)
    decided = {each.channel for each in approved}
    undecided = {name: channel for name, channel in loaded.items() if name not in decided}
    if undecided:
        try:
            made = _drafted(read, undecided, generator, count)
            report.problems += made.problems
            if dry_run:
                return _previewed(made, loaded, report.problems, timing)
            wanted = made.composed
            if review_for and wanted:
                wanted = ask_for_review(wanted, loaded, timing, review_for)
            _publish(_approve(wanted, timing), loaded, report)
        except FlowPauseTimeout:
            return _unreviewed(review_for or timedelta(), report)
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


def load_channels(names: Sequence[str], *, dry_run: bool) -> tuple[dict[str, Channel], list[str]]:
    """Return the channels, and why others cannot be used.

    Args:
        names: their saved blocks.
        dry_run: whether a channel without an account will do; without names, all of these.

    Raises:
        InvalidInput: no channel is named.
    """
    names = names or (WITHOUT_ACCOUNT if dry_run else ())
    if not names:
        raise InvalidInput("channels", "there are none.", "Name saved blocks, such as bluesky-credentials/alice.")
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


def load_generator(name: str) -> Generator:
    """Return what makes drafts: a saved block, or without a name the templates.

    Raises:
        InvalidInput: there is no such block, or it makes no drafts.
    """
    if not name:
        return TemplateGenerator()
    block = load_block(name, "generator")
    if not hasattr(block, "generate"):
        raise InvalidInput("generator", f"{name} makes no drafts.", "Name an AI Generator block, or leave it out.")
    return block  # type: ignore[no-any-return]


def load_idea(idea: str, file: str, storage: str) -> Idea:
    """Return the idea in a text or in a file.

    Raises:
        InvalidInput, SourceUnavailable: as `read_idea` and `read_idea_file`; or both are given, or neither.
    """
    if bool(idea.strip()) == bool(file):
        raise InvalidInput("idea", "give either an idea or a file.", "Leave the other one out.")
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
            logger().warning("%s", remark)
    return made


def _approve(composed: list[PlannedVariant], timing: Timing) -> list[PlannedVariant]:
    """Keep what is approved, with its times: another attempt of this run asks nobody again."""
    times = timing.times(composed)
    now = datetime.now(UTC)
    timed = [each.model_copy(update={"at": at, "is_later": at > now}) for each, at in zip(composed, times, strict=True)]
    return keep_approved(timed)


def _unreviewed(patience: timedelta, report: _Report) -> State[Any]:
    hours = patience.total_seconds() / 3600
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
    try:
        batch = Batch(read_entries(planned, "", "", "UTC"), dry_run=False)
        batch.work(at_once=1)
        done = batch.close()
    except API_TROUBLE as trouble:
        report.problems.append(f"Bluesky: its posts could not be handed on. {trouble}")
        return
    if done.is_completed():
        report.add("Bluesky", f"{len(planned)} posts", done.message or "")
    else:
        report.problems.append(f"Bluesky: {done.message}")


def _schedule(planned: PlannedVariant) -> None:
    """Have a variant published when it is due, by a run of its own."""
    schedule_run(
        deployment_id(DEPLOYMENT),
        {
            "channel": planned.channel,
            "variant": planned.variant.model_dump(mode="json", exclude_defaults=True),
            "key": planned.key,
        },
        key=planned.key,
        name=f"publish on {planned.channel}",
        at=planned.at,
    )
