"""A person's look at what was composed, before it goes out: Prefect's form for a paused run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count as counting
from typing import Any, Literal
from uuid import UUID, uuid4

from prefect import pause_flow_run
from prefect.input import RunInput
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from rich.console import Group
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from prefect_bluesky.channels import Channel, Draft
from prefect_bluesky.compose.plan import PLANNED_VARIANTS, PlannedVariant, Timing
from prefect_bluesky.errors import DoesNotFit
from prefect_bluesky.planning import Time
from prefect_bluesky.prefect_api import as_form, literal_markdown, load_note, logger, pause_answer, run_id, save_note
from prefect_bluesky.validation import explain_validation_error


class Answer(BaseModel):
    """What a person decides about a variant."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=as_form)

    publish: bool = Field(default=True, title="Publish", description="Switch it off to drop this one.")
    posts: list[str] = Field(
        title="Posts", description="The texts as they go out; those of a thread in order.", min_length=1
    )
    at: Time = Field(default=None, title="Time", description="Left out: as planned.")


Decision = Literal["approve", "drop everything"]


def form(
    composed: Sequence[PlannedVariant], channels: Mapping[str, Channel], times: Sequence[datetime], note: str
) -> Any:
    """A form for what was composed, with a field for each variant.

    Args:
        composed: the variants.
        channels: their channels, by the names of their blocks.
        times: when each is to go out.
        note: what to say above it, such as what was wrong with the last answer.
    """
    told = note or "Nothing goes out before you approve it."
    fields: dict[str, Any] = {
        # Without a default: a run that somebody resumes without a look publishes nothing.
        "decision": (Decision, Field(title="Decision", description=told, json_schema_extra={"position": 0}))
    }
    for number, (each, at) in enumerate(zip(composed, times, strict=True)):
        channel = channels[each.channel]
        fields[_name(number)] = (
            Answer,
            Field(
                default=Answer(publish=each.is_wanted, posts=list(each.variant.posts), at=each.at),
                title=f"{number + 1}. {heading(each, channel)}",
                description=". ".join([_when(at), *remarks(each, channel)]),
                json_schema_extra={"position": number + 1},
            ),
        )
    made: Any = create_model("Review", __base__=RunInput, **fields)
    return made


def heading(composed: PlannedVariant, channel: Channel) -> str:
    """What a variant is, in a line."""
    name = composed.channel.rpartition("/")[2]
    return f"{channel.rules.channel} ({name}), {composed.variant.kind}"


def counts(composed: PlannedVariant, channel: Channel) -> list[str]:
    """How long each of its posts is, as its channel counts."""
    rules = channel.rules
    return [f"{rules.length(text):,} of {rules.max_length:,} characters" for text in composed.variant.posts]


def remarks(composed: PlannedVariant, channel: Channel) -> list[str]:
    """What is to be said of a variant besides its texts: their counts, its card, its images."""
    variant = composed.variant
    said = counts(composed, channel)
    said += [f"With a card of {variant.link}"] if variant.link else []
    said += [f"With {len(variant.images)} images"] if variant.images else []
    return said


def shown(composed: PlannedVariant, channel: Channel, at: datetime) -> str:
    """A variant as it will look, in Markdown."""
    quoted = ["\n".join(f"> {line}" for line in literal_markdown(text).splitlines()) for text in composed.variant.posts]
    said = [literal_markdown(remark) for remark in remarks(composed, channel)]
    return "\n\n".join([f"#### {heading(composed, channel)}, {_when(at)}", *quoted, ". ".join(said)])


def panel(composed: PlannedVariant, channel: Channel) -> Panel:
    """Return a variant as a terminal shows it."""
    variant = composed.variant
    texts = zip(variant.posts, counts(composed, channel), strict=True)
    parts = [Group(Text(text), Text(count, style="dim", justify="right")) for text, count in texts]
    parts += [Group(Text(remark, style="cyan")) for remark in remarks(composed, channel)[len(variant.posts) :]]
    ruled = [row for part in parts for row in (Rule(style="dim"), part)][1:]
    return Panel(Group(*ruled), title=f"[bold]{channel.rules.channel}[/] {variant.kind}", title_align="left")


def _when(at: datetime) -> str:
    return f"{at:%a %Y-%m-%d %H:%M %Z}"


def answered(
    given: Mapping[str, Any], composed: Sequence[PlannedVariant], channels: Mapping[str, Channel]
) -> tuple[list[PlannedVariant], dict[str, str]]:
    """What was composed, as a person has edited it; and what of that cannot go out: by its key, the reason.

    Args:
        given: the filled form.
        composed: what it was made of.
        channels: as for `form`; what is meant for another is left out.
    """
    edited: list[PlannedVariant] = []
    problems: dict[str, str] = {}
    for number, each in enumerate(composed):
        channel = channels.get(each.channel)
        if channel is None:
            continue  # it cannot be used just now
        if given.get("decision") != "approve":
            edited.append(each.model_copy(update={"is_wanted": False}))
            continue
        try:
            edited.append(_edited(given.get(_name(number)), each, channel))
        except (DoesNotFit, ValidationError) as refused:
            why = explain_validation_error(refused) if isinstance(refused, ValidationError) else str(refused)
            problems[each.key] = f"{heading(each, channel)}: {why}"
            edited.append(_kept(given.get(_name(number)), each))
    return edited, problems


def _edited(given: Any, composed: PlannedVariant, channel: Channel) -> PlannedVariant:
    """A variant with what a person has written.

    Raises:
        DoesNotFit, pydantic.ValidationError: it cannot go out like that.
    """
    if given is None:
        return composed
    answer = Answer.model_validate(given)
    if not answer.publish:
        return composed.model_copy(update={"is_wanted": False})
    draft = Draft.model_validate(composed.variant.model_dump() | {"posts": answer.posts})
    return composed.model_copy(update={"variant": channel.fit(draft), "is_wanted": True, "at": answer.at})


def _kept(given: Any, composed: PlannedVariant) -> PlannedVariant:
    """A variant with as much of what a person has written as can be shown to them again."""
    posts = given.get("posts") if isinstance(given, dict) else None
    if not isinstance(posts, list) or not posts or not all(isinstance(text, str) for text in posts):
        return composed
    return composed.model_copy(update={"variant": composed.variant.model_copy(update={"posts": tuple(posts)})})


def ask_for_review(
    composed: Sequence[PlannedVariant], channels: Mapping[str, Channel], timing: Timing, patience: timedelta
) -> list[PlannedVariant]:
    """Pause the run until a person has decided on all that was composed; what does not fit is asked about again.

    What they are asked is kept with the run. Where its worker dies meanwhile, another attempt takes the answers that
    were given since, and asks about the rest.

    Args:
        composed: the variants.
        channels: their channels, by the names of their blocks.
        timing: when they go out.
        patience: how long to wait for an answer.

    Returns:
        all of them, as a person wants them, or not.

    Raises:
        FlowPauseTimeout: nobody has answered.
    """
    undecided = {each.key: each for each in composed}
    decided: dict[str, PlannedVariant] = {}
    said = ""
    for number in counting(1):
        asked = load_note(f"asked-{number}")
        if asked is None and not undecided:
            break
        if asked is None:
            asked = _ask(number, list(undecided.values()), channels, timing, patience, said)
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
            said = " ".join(["Not published yet, and below as you wrote it.", *problems.values()])
            logger().warning("The answer cannot go out as it is: %s", " ".join(problems.values()))
    return [decided[each.key] for each in composed]


def _ask(
    number: int,
    composed: Sequence[PlannedVariant],
    channels: Mapping[str, Channel],
    timing: Timing,
    patience: timedelta,
    said: str,
) -> Any:
    """Ask, and wait for an answer; what was asked."""
    key = f"review-{uuid4().hex[:12]}"
    wanted = form(composed, channels, timing.times(composed), said)
    save_note(
        f"asked-{number}",
        {"run": str(run_id()), "key": key, "composed": PLANNED_VARIANTS.dump_python(list(composed), mode="json")},
    )
    # What is wrong with an answer is found below, field by field.
    with suppress(ValidationError):
        pause_flow_run(
            wait_for_input=wanted, timeout=max(1, int(patience.total_seconds())), poll_interval=_POLL, key=key
        )
    return load_note(f"asked-{number}")


_POLL = 2
"""Seconds between two looks whether somebody has answered."""


def _name(number: int) -> str:
    return f"variant_{number + 1}"
