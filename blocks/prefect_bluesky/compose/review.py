"""Have a person review the variants before publication, with Prefect's form for a paused run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count as counting
from typing import Any
from uuid import UUID

from prefect.input import RunInput
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from rich.console import Group
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from prefect_bluesky.channels import Channel, Draft
from prefect_bluesky.compose.plan import PLANNED_VARIANTS, PlannedVariant, Timing
from prefect_bluesky.errors import DoesNotFit
from prefect_bluesky.planning import Decision, ask_person
from prefect_bluesky.posts import Time
from prefect_bluesky.prefect_api import as_form, literal_markdown, load_note, logger, pause_answer
from prefect_bluesky.validation import explain_validation_error


class Answer(BaseModel):
    """A reviewer's decision about one variant."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=as_form)

    publish: bool = Field(default=True, title="Publish", description="Switch off to drop this post.")
    posts: list[str] = Field(title="Posts", description="The texts to publish; for a thread, in order.", min_length=1)
    at: Time = Field(default=None, title="Time", description="If empty, as planned.")


def form(
    planned: Sequence[PlannedVariant], channels: Mapping[str, Channel], times: Sequence[datetime], note: str
) -> Any:
    """Return a form with a field for each variant, below a note such as the faults of the last answer."""
    description = note or "Nothing is published before you approve it."
    fields: dict[str, Any] = {
        # No default: a run that somebody resumes without reading the form publishes nothing.
        "decision": (Decision, Field(title="Decision", description=description, json_schema_extra={"position": 0}))
    }
    for number, (each, at) in enumerate(zip(planned, times, strict=True)):
        channel = channels[each.channel]
        field = Field(
            default=Answer(publish=each.is_wanted, posts=list(each.variant.posts), at=each.at),
            title=f"{number + 1}. {heading(each, channel)}",
            description=". ".join([_when(at), *counts(each, channel), *attachments(each)]),
            json_schema_extra={"position": number + 1},
        )
        fields[_name(number)] = (Answer, field)
    review: Any = create_model("Review", __base__=RunInput, **fields)
    return review


def heading(planned: PlannedVariant, channel: Channel) -> str:
    """Return a variant's channel, account and kind."""
    return f"{channel.rules.channel} ({planned.channel.rpartition('/')[2]}), {planned.variant.kind}"


def counts(planned: PlannedVariant, channel: Channel) -> list[str]:
    """Return the length of each post, as the channel counts."""
    rules = channel.rules
    return [f"{rules.length(text):,} of {rules.max_length:,} characters" for text in planned.variant.posts]


def attachments(planned: PlannedVariant) -> list[str]:
    """Return a line for a variant's link card and a line for its images, if there are any."""
    variant = planned.variant
    lines = [f"With a card of {variant.link}"] if variant.link else []
    return lines + ([f"With {len(variant.images)} images"] if variant.images else [])


def shown(planned: PlannedVariant, channel: Channel, at: datetime) -> str:
    """Return a preview of a variant in Markdown."""
    quoted = ["\n".join(f"> {line}" for line in literal_markdown(text).splitlines()) for text in planned.variant.posts]
    remarks = map(literal_markdown, [*counts(planned, channel), *attachments(planned)])
    return "\n\n".join([f"#### {heading(planned, channel)}, {_when(at)}", *quoted, ". ".join(remarks)])


def panel(planned: PlannedVariant, channel: Channel) -> Panel:
    """Return a preview of a variant for a terminal."""
    variant = planned.variant
    texts = zip(variant.posts, counts(planned, channel), strict=True)
    parts = [Group(Text(text), Text(count, style="dim", justify="right")) for text, count in texts]
    parts += [Group(Text(line, style="cyan")) for line in attachments(planned)]
    ruled = [row for part in parts for row in (Rule(style="dim"), part)][1:]
    return Panel(Group(*ruled), title=f"[bold]{channel.rules.channel}[/] {variant.kind}", title_align="left")


def _when(at: datetime) -> str:
    return f"{at:%a %Y-%m-%d %H:%M %Z}"


def answered(
    given: Mapping[str, Any], planned: Sequence[PlannedVariant], channels: Mapping[str, Channel]
) -> tuple[list[PlannedVariant], dict[str, str]]:
    """Return the variants with the reviewer's edits, and by key the reason for each that cannot be published.

    Variants for a channel that is not among `channels`, because it is unusable just now, are left out.
    """
    edited: list[PlannedVariant] = []
    problems: dict[str, str] = {}
    for number, each in enumerate(planned):
        channel = channels.get(each.channel)
        if channel is None:
            continue
        if given.get("decision") != "approve":
            edited.append(each.model_copy(update={"is_wanted": False}))
            continue
        try:
            edited.append(_edited(given.get(_name(number)), each, channel))
        except (DoesNotFit, ValidationError) as refused:
            reason = explain_validation_error(refused) if isinstance(refused, ValidationError) else str(refused)
            problems[each.key] = f"{heading(each, channel)}: {reason}"
            edited.append(_with_texts(given.get(_name(number)), each))
    return edited, problems


def _edited(given: Any, planned: PlannedVariant, channel: Channel) -> PlannedVariant:
    if given is None:
        return planned
    answer = Answer.model_validate(given)
    if not answer.publish:
        return planned.model_copy(update={"is_wanted": False})
    draft = Draft.model_validate(planned.variant.model_dump() | {"posts": answer.posts})
    return planned.model_copy(update={"variant": channel.fit(draft), "is_wanted": True, "at": answer.at})


def _with_texts(given: Any, planned: PlannedVariant) -> PlannedVariant:
    """Put the reviewer's texts into a variant that does not fit, so that the next form can show them."""
    posts = given.get("posts") if isinstance(given, dict) else None
    if not isinstance(posts, list) or not posts or not all(isinstance(text, str) for text in posts):
        return planned
    return planned.model_copy(update={"variant": planned.variant.model_copy(update={"posts": tuple(posts)})})


def ask_for_review(
    planned: Sequence[PlannedVariant], channels: Mapping[str, Channel], timing: Timing, patience: timedelta
) -> list[PlannedVariant]:
    """Pause the run until a person has decided on every variant, and return all variants with the decisions.

    The run asks again about an edited variant that does not fit. The questions are kept with the run. If the worker
    dies meanwhile, the next attempt reads the answers given since, and asks about the rest.

    Raises:
        FlowPauseTimeout: nobody has answered within `patience`.
    """
    undecided = {each.key: each for each in planned}
    decided: dict[str, PlannedVariant] = {}
    note = ""
    for number in counting(1):
        asked = load_note(f"asked-{number}")
        if asked is None and not undecided:
            break
        if asked is None:
            variants = list(undecided.values())
            times = timing.times(variants)
            drafts = [shown(each, channels[each.channel], at) for each, at in zip(variants, times, strict=True)]
            composed = PLANNED_VARIANTS.dump_python(variants, mode="json")
            questions = form(variants, channels, times, note)
            asked = ask_person(f"asked-{number}", drafts, questions, patience, composed=composed)
        given = pause_answer(UUID(asked["run"]), asked["key"])
        if given is None:
            continue
        edited, problems = answered(given, PLANNED_VARIANTS.validate_python(asked["composed"]), channels)
        for each in edited:
            if each.key in undecided and each.key in problems:
                undecided[each.key] = each
            elif each.key in undecided:
                decided[each.key] = each
                del undecided[each.key]
        if problems:
            reasons = " ".join(problems.values())
            note = f"Not published yet. Your texts are below. {reasons}"
            logger().warning("The reviewed posts cannot be published yet: %s", reasons)
    return [decided[each.key] for each in planned]


def _name(number: int) -> str:
    return f"variant_{number + 1}"
