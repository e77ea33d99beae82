"""A person's look at what was composed, before it goes out: Prefect's form for a paused run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count as counting
from typing import Any, Literal
from uuid import uuid4

from prefect import pause_flow_run
from prefect.input import RunInput
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from prefect_bluesky.attachments import as_form
from prefect_bluesky.channels import Channel
from prefect_bluesky.composing import COMPOSED, Composed, Timing
from prefect_bluesky.drafts import Draft
from prefect_bluesky.errors import DoesNotFit
from prefect_bluesky.inputs import explained
from prefect_bluesky.preview import literal_markdown
from prefect_bluesky.run_notes import note, noted, pause_answer
from prefect_bluesky.runtime import logger


class Answer(BaseModel):
    """What a person decides about a variant."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=as_form)

    publish: bool = Field(default=True, title="Publish", description="Switch it off to drop this one.")
    posts: list[str] = Field(
        title="Posts", description="The texts as they go out; those of a thread in order.", min_length=1
    )
    at: datetime | None = Field(default=None, title="Time", description="Left out: as planned.")


Decision = Literal["approve", "drop everything"]


def form(composed: Sequence[Composed], channels: Mapping[str, Channel], times: Sequence[datetime], note: str) -> Any:
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


def heading(composed: Composed, channel: Channel) -> str:
    """What a variant is, in a line."""
    name = composed.channel.rpartition("/")[2]
    return f"{channel.rules.channel} ({name}), {composed.variant.kind}"


def counts(composed: Composed, channel: Channel) -> list[str]:
    """How long each of its posts is, as its channel counts."""
    rules = channel.rules
    return [f"{rules.length(text):,} of {rules.max_length:,} characters" for text in composed.variant.posts]


def remarks(composed: Composed, channel: Channel) -> list[str]:
    """What is to be said of a variant besides its texts: their counts, its card, its images."""
    variant = composed.variant
    said = counts(composed, channel)
    said += [f"With a card of {variant.link}"] if variant.link else []
    said += [f"With {len(variant.images)} images"] if variant.images else []
    return said


def shown(composed: Composed, channel: Channel, at: datetime) -> str:
    """A variant as it will look, in Markdown."""
    quoted = ["\n".join(f"> {line}" for line in literal_markdown(text).splitlines()) for text in composed.variant.posts]
    said = [literal_markdown(remark) for remark in remarks(composed, channel)]
    return "\n\n".join([f"#### {heading(composed, channel)}, {_when(at)}", *quoted, ". ".join(said)])


def _when(at: datetime) -> str:
    return f"{at:%a %Y-%m-%d %H:%M %Z}"


def answered(
    answer: Any, composed: Sequence[Composed], channels: Mapping[str, Channel]
) -> tuple[list[Composed], list[str]]:
    """What was composed as a person has edited it; and what of that cannot go out, with the reason.

    Args:
        answer: the filled form.
        composed: what it was made of.
        channels: as for `form`.
    """
    if answer.decision != "approve":
        return [each.model_copy(update={"is_wanted": False}) for each in composed], []
    decided: list[Composed] = []
    problems: list[str] = []
    for number, each in enumerate(composed):
        given: Answer = getattr(answer, _name(number))
        variant = each.variant.model_copy(update={"posts": tuple(given.posts)})
        if given.publish:
            try:
                variant = channels[each.channel].fit(Draft.model_validate(variant.model_dump()))
            except DoesNotFit as refused:
                # What somebody has written is not lost: the next form begins with it.
                problems.append(f"{number + 1}. {refused}")
        decided.append(each.model_copy(update={"variant": variant, "is_wanted": given.publish, "at": given.at}))
    return decided, problems


def review(
    composed: Sequence[Composed], channels: Mapping[str, Channel], timing: Timing, patience: timedelta
) -> list[Composed]:
    """Pause the run until a person has looked at what was composed, and ask again until what they want fits.

    What they are asked is kept with the run. Where its worker dies meanwhile, another attempt takes the answer that was
    given since, and otherwise asks the same.

    Args:
        composed: the variants.
        channels: their channels, by the names of their blocks.
        timing: when they go out.
        patience: how long to wait for an answer.

    Raises:
        FlowPauseTimeout: nobody has answered.
    """
    said, composed = "", list(composed)
    for number in counting(1):
        asked = noted(f"asked-{number}")
        if asked is None:
            key = f"review-{uuid4().hex[:12]}"
            note(f"asked-{number}", {"key": key, "said": said, "composed": COMPOSED.dump_python(composed, mode="json")})
            answer = _asked(form(composed, channels, timing.times(composed), said), key, patience)
        else:
            composed, said = COMPOSED.validate_python(asked["composed"]), asked["said"]
            given = pause_answer(asked["key"])
            if given is None:
                continue
            answer = _filled(form(composed, channels, timing.times(composed), said), given)
        if isinstance(answer, str):
            problems = [answer]
        else:
            composed, problems = answered(answer, composed, channels)
        if not problems:
            return composed
        said = "\n\n".join(["**Not published yet.** What you wrote is below.", *problems])
        logger().warning("The answer cannot go out as it is: %s", " ".join(problems))
    raise AssertionError


def _asked(wanted: Any, key: str, patience: timedelta) -> Any:
    try:
        return pause_flow_run(
            wait_for_input=wanted, timeout=max(1, int(patience.total_seconds())), poll_interval=_POLL, key=key
        )
    except ValidationError as unusable:
        return explained(unusable)


def _filled(wanted: Any, given: Any) -> Any:
    try:
        return wanted.model_validate(given)
    except ValidationError as unusable:
        return explained(unusable)


_POLL = 2
"""Seconds between two looks whether somebody has answered."""


def _name(number: int) -> str:
    return f"variant_{number + 1}"
