"""Posts that wait: a run whose account cannot sign in is held, and what it was to publish goes out when it can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

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

from prefect_bluesky import events
from prefect_bluesky.api import API_TROUBLE, api_client
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError
from prefect_bluesky.runtime import logger

STATE = "Held"
"""The name of the state in which such a run is."""

_PAGE = 200


def tag(account: str) -> str:
    """The tag of an account's held runs, to find them by.

    Args:
        account: what its block names: a handle or a DID.
    """
    return f"bluesky.account.{account}"


def account_of(run: FlowRun) -> str | None:
    """The account that a held run waits for, if it says so."""
    prefix = tag("")
    return next((each.removeprefix(prefix) for each in run.tags if each.startswith(prefix)), None)


STARTED_AGAIN = "bluesky.started-again."
"""The tag of a run that was held and started again, and how often."""


def started_again(run: FlowRun) -> int:
    """How often a held run was started again."""
    return sum(tag.startswith(STARTED_AGAIN) for tag in run.tags)


def hold(error: BlueskyError, credentials: BlueskyCredentials) -> State[Any]:
    """The state of a flow run that cannot publish until a person has mended its account: return it from the flow.

    It is of type FAILED, as nothing was published, and by its name no automation on failed runs takes it for one.

    Args:
        error: what stops the account (`error.stops_account`).
        credentials: the account.

    Example:
        >>> @flow
        ... def my_flow(credentials: BlueskyCredentials) -> Any:
        ...     try:
        ...         return publish_post(credentials, "Hello")
        ...     except AuthError as error:
        ...         return hold(error, credentials)
    """
    context, account = FlowRunContext.get(), credentials.handle
    if context is not None and context.flow_run is not None:
        run = context.flow_run
        # Without its tag it is found all the same, though not by its account.
        with suppress(*API_TROUBLE), api_client() as client:
            client.update_flow_run(run.id, tags={*run.tags, tag(account)})
        tell(error, credentials)
    logger().error("Held until it is mended: %s", error)
    return state(error)


def state(error: BlueskyError) -> State[Any]:
    """The state of a run that is held.

    Args:
        error: what stops it.
    """
    return State(type=StateType.FAILED, name=STATE, message=str(error), data=error)


def tell(error: BlueskyError, credentials: BlueskyCredentials) -> None:
    """Emit the event that a post is held.

    Args:
        error: what stops it.
        credentials: its account.
    """
    account = credentials.handle
    about = events.resource(account, did=credentials.did, handle=account, pds_url=credentials.service_url)
    problem = error.problem.value if error.problem else None
    emit_event(events.POST_HELD, resource=about, payload={"account": account, "problem": problem})


def held_runs(account: str | None = None) -> Iterator[FlowRun]:
    """The runs that are held, those that were to start first at the beginning.

    Args:
        account: those of this account only, as its block names it.
    """
    with api_client() as client:
        wanted = FlowRunFilter(
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[STATE])),
            tags=FlowRunFilterTags(all_=[tag(account)]) if account else None,
        )
        found: list[FlowRun] = []
        # All before the first is sent, which is held no more and would move the pages.
        while page := client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=_PAGE, offset=len(found)
        ):
            found += page
    yield from found
