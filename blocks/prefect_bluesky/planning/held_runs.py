"""Held runs: runs of deployments whose account cannot sign in, or whose worker died. `publish-held` sends their posts.

Only a deployment's run is held. A script fails with the error, as a person is there to see the error and decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import emit_event
from prefect.utilities.urls import url_for

from prefect_bluesky.alerts import events
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError, Expired, InvalidInput
from prefect_bluesky.planning.held_page import show_held
from prefect_bluesky.prefect_api import (
    API_TROUBLE,
    api_client,
    current_flow_run,
    ended,
    failed,
    read_runs,
    standard_time,
)

HELD = "Held"
"""The name of the state of a held run."""

EXPIRED = "Expired"
"""The name of the final state of a run whose post was not sent in time: by its own `expires`, or held for too long."""

DROPPED = "Dropped"
"""The name of the final state of a held run that a person discarded."""

_ACCOUNT, _SERVICE, _DID = "bluesky.account.", "bluesky.service.", "bluesky.did."


def tag(account: str) -> str:
    """Return the tag of an account's held runs, for the handle or DID in the account's block."""
    return f"{_ACCOUNT}{account}"


def tags_of(credentials: BlueskyCredentials) -> list[str]:
    """Return the tags of a held run: its account, its service and, if known, its DID."""
    tags = [tag(credentials.handle), f"{_SERVICE}{credentials.service_url}"]
    return [*tags, f"{_DID}{credentials.did}"] if credentials.did else tags


def account_of(run: FlowRun) -> str | None:
    """Return the handle or DID of a held run's account, or None if the run has no such tag."""
    return _tagged(run, _ACCOUNT)


def service_of(run: FlowRun) -> str | None:
    """Return the service URL of a held run's account, or None if the run has no such tag."""
    return _tagged(run, _SERVICE)


def _tagged(run: FlowRun, prefix: str) -> str | None:
    return next((each.removeprefix(prefix) for each in run.tags if each.startswith(prefix)), None)


def is_for(run: FlowRun, credentials: BlueskyCredentials) -> bool:
    """Return whether a run was held for the account of a block, which the run names.

    If the handle or the service has changed since, the DID decides. A run without tags, such as one whose worker died,
    is for any block.

    Raises:
        BlueskyError: the handle or the service differs, and the DID cannot be read now.
    """
    account, service = account_of(run), service_of(run)
    if account in {None, credentials.handle} and service in {None, credentials.service_url}:
        return True
    did = _tagged(run, _DID)
    return did is not None and credentials.ensure_session().did == did


def hold(error: BlueskyError, credentials: BlueskyCredentials) -> State[Any]:
    """Return the state of a flow run that cannot publish now. Return this state from the flow.

    Only a deployment's run is held: `publish-held` sends its post once the account or its server works again. The
    state's type is FAILED, as nothing was published. Its name is `Held`, so that automations on failed runs ignore it.
    Every other run, such as a script's or a subflow's, fails with the error.

    Args:
        error: the error that stops the post (`error.is_temporary`).
        credentials: the account.

    Returns:
        the state `Held`, or `Failed` for a run without a deployment.

    Example:
        >>> @flow
        ... def my_flow(credentials: BlueskyCredentials) -> Any:
        ...     try:
        ...         return publish_post(credentials, "Hello")
        ...     except AuthError as error:
        ...         return hold(error, credentials)
    """
    run = current_flow_run()
    if run is None or run.deployment_id is None:
        return failed(str(error), error)
    # Without the tags the run is still found, but not by its account.
    with suppress(*API_TROUBLE), api_client() as client:
        client.update_flow_run(run.id, tags={*run.tags, *tags_of(credentials)})
    tell_held(error, credentials)
    show_held(run.id, error, credentials, starts_again=not {"credentials", "post"} <= run.parameters.keys())
    return ended(held_state(error))


def held_state(error: BlueskyError) -> State[Any]:
    """Return the state of a run that is held because of an error. Its message ends with the problem's name."""
    said, problem = str(error), error.problem
    if problem and not said.endswith(f"({problem.value})"):
        said = f"{said} ({problem.value})"
    return State(type=StateType.FAILED, name=HELD, message=said, data=error)


def expire(error: Expired, credentials: BlueskyCredentials) -> State[Any]:
    """Return the state of a flow run whose post has expired. Return this state from the flow.

    A deployment's run ends in the state `Expired`, and people are told. Every other run fails with the error.

    Args:
        error: the error, which says until when the post made sense.
        credentials: the account.
    """
    run = current_flow_run()
    if run is None or run.deployment_id is None:
        return failed(str(error), error)
    tell_expired(error, credentials, run)
    return final_state(error)


def final_state(error: BlueskyError) -> State[Any]:
    """Return the state of a run that cannot go on: `Expired`, or `Failed`. Return this state from a flow.

    The error is the state's message. A worker's run logs no traceback, and a Python caller gets the error.
    """
    if isinstance(error, Expired):
        return ended(expired_because(str(error)))
    return failed(str(error), error)


def expired_because(reason: str) -> State[Any]:
    """Return the state of a run whose post was not sent in time."""
    return State(type=StateType.CANCELLED, name=EXPIRED, message=reason)


def held_because(reason: str) -> State[Any]:
    """Return the state of a run that is held for a reason that a person has to remove."""
    return State(type=StateType.FAILED, name=HELD, message=reason)


def without_account(tags: Iterable[str]) -> list[str]:
    """Return a run's tags without those of its account."""
    return [each for each in tags if not each.startswith((_ACCOUNT, _SERVICE, _DID))]


def tell_held(error: BlueskyError, credentials: BlueskyCredentials) -> None:
    """Emit the event that a post is held because of an error."""
    account = credentials.handle
    about = events.resource(account, did=credentials.did, handle=account, pds_url=credentials.service_url)
    problem = error.problem.value if error.problem else None
    emit_event(events.POST_HELD, resource=about, payload={"account": account, "problem": problem})


def tell_expired(reason: object, credentials: BlueskyCredentials | None, run: FlowRun) -> None:
    """Emit the event that a run's post was not sent in time."""
    account = (credentials.handle if credentials else account_of(run)) or run.name
    did, service = (credentials.did, credentials.service_url) if credentials else (None, service_of(run))
    about = events.resource(account, did=did, handle=account, pds_url=service)
    payload = {"account": account, "run": run.name, "reason": str(reason), "link": url_for("flow-run", obj_id=run.id)}
    emit_event(events.POST_EXPIRED, resource=about, payload=payload)


def read_held_runs(account: str | None = None) -> Iterator[FlowRun]:
    """Yield the held runs of all accounts or of one (handle or DID as in its block), by expected start time."""
    wanted = FlowRunFilter(
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[HELD])),
        tags=FlowRunFilterTags(all_=[tag(account)]) if account else None,
    )
    # All pages are read before the first post is sent: a sent run is no longer held, which would shift the pages.
    yield from read_runs(wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC)


def last_sent(account: str) -> datetime | None:
    """Return when a post of an account (handle or DID as in its block) went out last, by Prefect's runs, or None."""
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])),
        tags=FlowRunFilterTags(all_=[tag(account)]),
    )
    with api_client() as client:
        runs = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.END_TIME_DESC, limit=1)
    return next((standard_time(run.state.timestamp) for run in runs if run.state), None)


def find_held_run(reference: str) -> FlowRun:
    """Return the held run whose id is the reference or starts with it.

    Raises:
        InvalidInput: no held run, or more than one, has such an id.
    """
    found = [run for run in read_held_runs() if str(run.id).startswith(reference.strip().lower())]
    if len(found) != 1:
        what = f"{len(found)} held runs have such an id." if found else "no held run has such an id."
        raise InvalidInput("run", f"{reference!r}: {what}", "List the held runs: prefect-bluesky held list.")
    return found[0]


def settle(run: UUID, state: State[Any]) -> bool:
    """End a held run in a state. Return False and change nothing if the run is no longer held.

    A person may have started the run again or dropped it meanwhile. That decision stands unless the post is published.
    """
    with api_client() as client:
        current = client.read_flow_run(run).state
        name = current.name if current else None
        if name != HELD and not (name == DROPPED and state.is_completed()):
            return False
        client.set_flow_run_state(run, state, force=True)
    return True


def drop(run: UUID) -> bool:
    """Discard a held run's post for good, from calendars too. Return False if the run is no longer held."""
    return settle(run, State(type=StateType.CANCELLED, name=DROPPED, message="A person dropped the post."))
