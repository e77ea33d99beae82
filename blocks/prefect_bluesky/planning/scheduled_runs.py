"""Planned posts as runs of the deployment `publish`, to be seen, edited and cancelled in Prefect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.planning.held_runs import HELD, held_state, tags_of, tell_held
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.saved_accounts import as_parameter
from prefect_bluesky.prefect_api import api_client

DEPLOYMENT = "publish/publish"

_PAGE = 200


def run_key(planned: PlannedPost) -> str:
    """The idempotency key of a planned post's run: Prefect makes no second run under it.

    Args:
        planned: the post; its key is fixed.
    """
    return f"bluesky-{sha256(f'{planned.account} {planned.key}'.encode()).hexdigest()[:40]}"


def known_runs(planned: Iterable[PlannedPost]) -> Mapping[str, FlowRun]:
    """The runs that planned posts have already, by their idempotency keys."""
    keys = list(map(run_key, planned))
    found: dict[str, FlowRun] = {}
    with api_client() as client:
        for start in range(0, len(keys), _PAGE):
            some = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys[start : start + _PAGE]))
            runs = client.read_flow_runs(flow_run_filter=some, limit=_PAGE)
            found |= {run.idempotency_key: run for run in runs if run.idempotency_key}
    return found


def run_matches(run: FlowRun, planned: PlannedPost) -> bool:
    """Whether a run that is still to come publishes this post, and then: a person may have edited it."""
    at = run.expected_start_time
    return run.parameters.get("post") == _as_parameter(planned) and at is not None and at == planned.at


def _as_parameter(planned: PlannedPost) -> dict[str, Any]:
    return planned.post.model_dump(mode="json", exclude_defaults=True)


def has_failed(state: State[Any]) -> bool:
    """Whether a run in this state has ended, and neither published its post, nor holds it, nor was cancelled."""
    return state.is_final() and not (state.is_completed() or state.is_cancelled() or state.name == HELD)


def deployment_id(name: str, what_for: str = "") -> UUID:
    """A deployment, to make runs of.

    Args:
        name: its flow's name and its own.
        what_for: what to say of it where it is missing.

    Raises:
        InvalidInput: there is none.
    """
    with api_client() as client:
        try:
            return client.read_deployment_by_name(name).id
        except ObjectNotFound:
            raise InvalidInput(
                "deployment", f"there is no {name}{what_for}.", "Make it with deployments/setup.py."
            ) from None


class PlannedRuns:
    """Makes runs of `publish`.

    Raises:
        InvalidInput: there is no such deployment.
    """

    def __init__(self) -> None:
        self._deployment = deployment_id(DEPLOYMENT, ", whose runs publish what is due later or is held")

    def schedule(self, planned: PlannedPost, credentials: BlueskyCredentials) -> FlowRun:
        """Have a post published when it is due; the run, which may have been there already.

        Args:
            planned: the post; its time and its key are fixed.
            credentials: its account, as it is saved.
        """
        return self._create(planned, credentials, Scheduled(scheduled_time=planned.at), [])

    def hold(self, planned: PlannedPost, credentials: BlueskyCredentials, error: BlueskyError) -> FlowRun:
        """Have a post sent as soon as what stops it is mended.

        Args:
            planned: the post; its key is fixed.
            credentials: its account, as it is saved.
            error: what stops it.
        """
        run = self._create(planned, credentials, held_state(error), tags_of(credentials))
        tell_held(error, credentials)
        return run

    def _create(
        self, planned: PlannedPost, credentials: BlueskyCredentials, state: State[Any], tags: list[str]
    ) -> FlowRun:
        parameters = {
            "credentials": as_parameter(credentials),
            "post": _as_parameter(planned),
            "key": planned.key,
        }
        with api_client() as client:
            run = client.create_flow_run_from_deployment(
                self._deployment,
                parameters=parameters,
                state=state,
                name=f"publish as {credentials.handle}",
                tags=tags,
                idempotency_key=run_key(planned),
            )
            if run.state is not None and has_failed(run.state):
                # One of an earlier attempt, which Prefect leaves as it is.
                client.update_flow_run(run.id, parameters=parameters, tags={*run.tags, *tags})
                client.set_flow_run_state(run.id, state, force=True)
        return run
