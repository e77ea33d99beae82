"""Have a person approve what a run is about to publish, with Prefect's form for a paused run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count as counting
from typing import Any, Literal
from uuid import UUID, uuid4

from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.states import Cancelled
from prefect.utilities.urls import url_for
from pydantic import Field

from prefect_bluesky.alerts import events
from prefect_bluesky.posts import Post
from prefect_bluesky.prefect_api import (
    current_flow_run,
    ignoring_api_trouble,
    literal_markdown,
    load_note,
    pause_answer,
    pause_for,
    run_id,
    save_note,
)

PATIENCE = timedelta(days=7)
"""How long a run waits for a person, as long as a post is held by default."""

_NOTE = "approval"

Decision = Literal["approve", "drop everything"]


class _Approval(RunInput):
    """The form of the paused run. It has no default: a run that somebody resumes without reading publishes nothing."""

    decision: Decision = Field(title="Decision", description="Nothing is published before you approve it.")


def not_approved(pages: Sequence[str], patience: timedelta = PATIENCE) -> State[Any] | None:
    """Pause the run until a person has decided. Return None if the person approves, else the run's final state.

    A retry of the run, or the run that sends a held post, does not ask again.

    Args:
        pages: what is about to be published, as Markdown.
        patience: how long to wait.
    """
    for number in counting(1):
        asked = load_note(f"{_NOTE}-{number}")
        if asked is None:
            try:
                asked = ask_person(f"{_NOTE}-{number}", pages, _Approval, patience)
            except FlowPauseTimeout:
                return Cancelled(message=f"Nobody has approved this within {patience}. Run it again to ask once more.")
        # None if the worker died before a person answered, or the run was resumed without an answer: ask again.
        answer = pause_answer(UUID(asked["run"]), asked["key"])
        if answer is not None:
            is_approved = answer.get("decision") == "approve"
            return None if is_approved else Cancelled(message="A person has dropped it. Nothing was published.")
    return None


def ask_person(
    note: str, pages: Sequence[str], form: type[RunInput], patience: timedelta, **about: Any
) -> dict[str, Any]:
    """Pause the run until a person answers a form, and return the note about the question, which a retry finds.

    `pause_answer` reads the answer by the note's `run` and `key`.

    Args:
        note: the note's name.
        pages: what the person reads, as Markdown.
        form: the form.
        patience: how long to wait.
        about: what the note has beside.

    Raises:
        FlowPauseTimeout: nobody has answered.
    """
    _tell(pages, patience)
    asked = {"run": str(run_id()), "key": f"{note}-{uuid4().hex[:12]}", **about}
    save_note(note, asked)
    pause_for(form, asked["key"], patience)
    return asked


def as_page(post: Post, account: str) -> str:
    """Return a post as Markdown, for the person who is to approve it.

    Args:
        post: the post, or a thread.
        account: the handle of the account that publishes.
    """
    texts = ["\n".join(f"> {line}" for line in literal_markdown(each.text).splitlines()) for each in post.posts()]
    return "\n\n".join([f"#### {account}", *texts])


def _tell(pages: Sequence[str], patience: timedelta) -> None:
    """Show what waits for a person among the run's artifacts, and send the event of which people are told."""
    what = "Waits for a person: resume the run to answer."
    with ignoring_api_trouble("The drafts could not be shown"):
        create_markdown_artifact("\n\n".join(pages), key="bluesky-review", description=what)
    if (run := current_flow_run()) is not None:
        until = datetime.now(UTC) + patience
        emit_event(
            events.REVIEW_WAITS,
            resource={"prefect.resource.id": f"bluesky.review.{run.id}", "prefect.resource.name": run.name},
            payload={
                "run": run.name,
                "drafts": len(pages),
                "until": f"{until:%Y-%m-%d %H:%M} UTC",
                "link": url_for("flow-run", obj_id=run.id),
            },
        )
