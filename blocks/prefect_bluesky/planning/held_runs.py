"""Posts that wait: a deployment's run whose account cannot sign in is held, and its post goes out when it can.

Only what a deployment was to publish is held. A script has a person in front of it, who sees the error and decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.events import emit_event

from prefect_bluesky.alerts import events
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.prefect_api import API_TROUBLE, api_client, logger
from prefect_bluesky.settings import current_settings

HELD = "Held"
"""The name of the state of a held run."""

DROPPED, EXPIRED = "Dropped", "Expired"
"""The names of the states of a run that is held no more, and whose post was not sent: by a person's will, or by age."""

STARTED_AGAIN = "bluesky.started-again."
"""The tag of a run that was held and started again, and how often."""

_ACCOUNT, _SERVICE, _DID = "bluesky.account.", "bluesky.service.", "bluesky.did."
_PAGE = 200


def tag(account: str) -> str:
    """Return the tag by which an account's held runs are found.

    Args:
        account: the handle or DID that the account's block names.
    """
    return f"{_ACCOUNT}{account}"


def tags_of(credentials: BlueskyCredentials) -> list[str]:
    """Return the tags that say for which account, at which service, a run is held."""
    tags = [tag(credentials.handle), f"{_SERVICE}{credentials.service_url}"]
    return [*tags, f"{_DID}{credentials.did}"] if credentials.did else tags


def account_of(run: FlowRun) -> str | None:
    """Return the handle or DID of the account that a held run waits for, or None if its tags do not say."""
    return _tagged(run, _ACCOUNT)


def service_of(run: FlowRun) -> str | None:
    """Return the URL of the service at which a held run's account signs in, or None if its tags do not say."""
    return _tagged(run, _SERVICE)


def _tagged(run: FlowRun, prefix: str) -> str | None:
    return next((each.removeprefix(prefix) for each in run.tags if each.startswith(prefix)), None)


def is_for(run: FlowRun, credentials: BlueskyCredentials) -> bool:
    """Return whether a run was held for this account at this service.

    An account whose handle or service has changed since is known by its DID. A run without tags, as one whose worker
    died, is for whatever block it names.

    Args:
        run: the held run.
        credentials: the block that the run names, as it is saved now.

    Raises:
        BlueskyError: the handle or the service differs, and the DID cannot be had now.
    """
    account, service = account_of(run), service_of(run)
    if account in {None, credentials.handle} and service in {None, credentials.service_url}:
        return True
    did = _tagged(run, _DID)
    return did is not None and credentials.ensure_session().did == did


def started_again(run: FlowRun) -> int:
    """Return how often a held run was started again."""
    return sum(tag.startswith(STARTED_AGAIN) for tag in run.tags)


def is_expired(run: FlowRun, now: datetime) -> bool:
    """Return whether a run has been held for longer than `HOLD_FOR` (a setting): its post is news no more."""
    return run.state is not None and now - run.state.timestamp > current_settings().hold_for


def expired() -> State[Any]:
    """Return the state of a run that was held for too long."""
    days = current_settings().hold_for.total_seconds() / 86_400
    return State(
        type=StateType.CANCELLED,
        name=EXPIRED,
        message=f"The post was held for more than {days:g} days and is not sent any more. Start a new run to send it.",
    )


def hold(error: BlueskyError, credentials: BlueskyCredentials) -> State[Any]:
    """Hold the post of a flow run that cannot publish now: return this state from the flow.

    Only a run of a deployment is held: `publish-held` sends its post once the account or its server is well again. The
    state is of type FAILED, as nothing was published, and has a name of its own, so that automations on failed runs do
    not take it for one. Every other run, such as a script's or a subflow's, fails with the error.

    Args:
        error: what stops the post (`error.is_temporary`).
        credentials: the account.

    Returns:
        the state `Held`, or `Failed` for a run that no deployment has started.

    Example:
        >>> @flow
        ... def my_flow(credentials: BlueskyCredentials) -> Any:
        ...     try:
        ...         return publish_post(credentials, "Hello")
        ...     except AuthError as error:
        ...         return hold(error, credentials)
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return State(type=StateType.FAILED, message=str(error), data=error)
    # Without its tags the run is still found, though not by its account.
    with suppress(*API_TROUBLE), api_client() as client:
        client.update_flow_run(run.id, tags={*run.tags, *tags_of(credentials)})
    tell_held(error, credentials)
    logger().error("Held until the account is fixed: %s", error)
    return held_state(error)


def held_state(error: BlueskyError) -> State[Any]:
    """Return the state of a held run.

    Args:
        error: what stops its post.
    """
    return State(type=StateType.FAILED, name=HELD, message=str(error), data=error)


def tell_held(error: BlueskyError, credentials: BlueskyCredentials) -> None:
    """Emit the event that a post is held.

    Args:
        error: what stops it.
        credentials: its account.
    """
    account = credentials.handle
    about = events.resource(account, did=credentials.did, handle=account, pds_url=credentials.service_url)
    problem = error.problem.value if error.problem else None
    emit_event(events.POST_HELD, resource=about, payload={"account": account, "problem": problem})


def read_held_runs(account: str | None = None) -> Iterator[FlowRun]:
    """Yield the held runs, in the order in which they were to start.

    Args:
        account: the handle or DID of an account, as its block names it, to have this account's runs only.
    """
    with api_client() as client:
        wanted = FlowRunFilter(
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[HELD])),
            tags=FlowRunFilterTags(all_=[tag(account)]) if account else None,
        )
        found: list[FlowRun] = []
        # All before the first is sent, which is held no more and would move the pages.
        while page := client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=_PAGE, offset=len(found)
        ):
            found += page
    yield from found


def find_held_run(reference: str) -> FlowRun:
    """Return a held run.

    Args:
        reference: the run's id, or the beginning of it.

    Raises:
        InvalidInput: no run, or more than one, is held under it.
    """
    found = [run for run in read_held_runs() if str(run.id).startswith(reference.strip().lower())]
    if len(found) != 1:
        what = f"{len(found)} held runs begin with it." if found else "no held run begins with it."
        raise InvalidInput("run", f"{reference!r}: {what}", "List the held runs: uv run flows/held.py list.")
    return found[0]


def settle(run: UUID, state: State[Any]) -> bool:
    """End a run that is held.

    Args:
        run: the run's id.
        state: the state in which it ends.

    Returns:
        whether it was held still. A person may have started it again or dropped it meanwhile, and has the last word,
        unless its post is out.
    """
    with api_client() as client:
        current = client.read_flow_run(run).state
        name = current.name if current else None
        if name != HELD and not (name == DROPPED and state.is_completed()):
            return False
        client.set_flow_run_state(run, state, force=True)
    return True


def drop(run: UUID) -> bool:
    """Discard a held post: it is never sent, and no calendar that has it publishes it again.

    Args:
        run: the id of its run.

    Returns:
        whether it was held still.
    """
    return settle(run, State(type=StateType.CANCELLED, name=DROPPED, message="A person dropped the post."))
