"""The page of a held run, an artifact: why its post is held, what a person does, and when the post goes out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate

from prefect_bluesky.alerts import block_page
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import AuthError, BlueskyError
from prefect_bluesky.prefect_api import api_client, ignoring_api_trouble, literal_markdown
from prefect_bluesky.settings import current_settings

_DESCRIPTION = "Why the post is held, and what to do."
_NOTHING_TO_DO = "Nothing, unless this goes on."


def show_held(
    run: UUID, why: BlueskyError | str, credentials: BlueskyCredentials | None, *, starts_again: bool = False
) -> None:
    """Create the page of a held run among the run's artifacts.

    Args:
        run: the run.
        why: the error that stops the post, or a reason that a person has to remove.
        credentials: the account, unless its block cannot be used.
        starts_again: whether `publish-held` starts the whole run again, which is of another team's flow.
    """
    page = held_page(run, why, credentials, starts_again=starts_again)
    artifact = ArtifactCreate(type="markdown", data=page, description=_DESCRIPTION, flow_run_id=run)
    with ignoring_api_trouble("The artifact of the held run could not be made"), api_client() as client:
        client.create_artifact(artifact)


def held_page(run: UUID, why: BlueskyError | str, credentials: BlueskyCredentials | None, *, starts_again: bool) -> str:
    """Return the text of a held run's page; see `show_held`."""
    settings = current_settings()
    until = datetime.now(UTC) + settings.hold_for
    cause, remedy = (why, _NOTHING_TO_DO) if isinstance(why, str) and credentials else _cause_and_remedy(why)
    block = credentials._block_document_id if credentials else None  # noqa: SLF001 - Prefect has no other name for it
    link = f" [Open the account's block]({block_page(block)})." if block else ""
    first, at_once = "Every 15 minutes", "publish-held"
    if isinstance(why, BlueskyError) and why.stops_account:
        first, at_once = "Once this is fixed, `refresh-sessions` signs in within 10 minutes. Then", "refresh-sessions"
    what = "starts this run again" if starts_again else "sends the account's held posts"
    facts = {
        "Why": literal_markdown(cause),
        "What to do": f"{literal_markdown(remedy)}{link}",
        "When it goes out": f"{first} `publish-held` {what}, the oldest first, {_spaced(settings.held_spacing)}."
        f" Nothing has to be started. To send it at once, run `{at_once}`. The run's state says what became of it.",
        "Until when": f"{until:%Y-%m-%d %H:%M} UTC (the setting `HOLD_FOR`), or the post's own `expires` if that is"
        " earlier. After that the post is not sent.",
        "To discard it": f"`prefect-bluesky held drop {run}`",
    }
    return "## This post is held\n\n" + "\n\n".join(f"**{name}:** {fact}" for name, fact in facts.items())


def _cause_and_remedy(why: BlueskyError | str) -> tuple[str, str]:
    if isinstance(why, str):
        return why, "Correct the account's block."
    if isinstance(why, AuthError):
        return f"{why.account}: {why.explanation}", why.problem.remedy
    return str(why), why.problem.remedy if why.problem else _NOTHING_TO_DO


def _spaced(spacing: timedelta) -> str:
    seconds = spacing.total_seconds()
    if seconds < 1:
        return "one after the other"
    return f"{seconds / 60:g} min apart" if seconds >= 60 else f"{seconds:g} s apart"
