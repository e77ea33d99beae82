"""Make runs of a deployment at their times under keys: Prefect makes one run for each key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.actions import DeploymentFlowRunCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Scheduled, to_state_create

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.prefect_api import API_TROUBLE, api_client

_AT_ONCE = 100
"""Prefect's server takes no more runs in one request (3.8.8 to 3.9.1)."""


def deployment_id(name: str, what_for: str = "") -> UUID:
    """Return the id of a deployment such as `publish/publish`. `what_for` ends the error's first sentence.

    Raises:
        InvalidInput: there is no such deployment.
    """
    with api_client() as client:
        try:
            return client.read_deployment_by_name(name).id
        except ObjectNotFound:
            what = f"there is no {name}{what_for}."
            raise InvalidInput("deployment", what, "Run: prefect-bluesky setup") from None


def schedule_run(
    deployment: UUID,
    parameters: dict[str, Any],
    *,
    key: str,
    name: str,
    at: datetime | None = None,
    state: State[Any] | None = None,
    tags: Iterable[str] = (),
    labels: Mapping[str, str] | None = None,
) -> FlowRun:
    """Create a run of a deployment, once per idempotency key.

    An earlier run under the key is returned unchanged. The first state is `state`, or scheduled for `at` (None: now).
    """
    with api_client() as client:
        return client.create_flow_run_from_deployment(
            deployment,
            parameters=parameters,
            state=state or Scheduled(scheduled_time=at),
            name=name,
            tags=tags,
            idempotency_key=key,
            labels=dict(labels or {}),
        )


@dataclass(frozen=True)
class NewRun:
    """A run that is to be created, once per idempotency key."""

    key: str
    name: str
    parameters: dict[str, Any]
    state: State[Any]
    tags: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def at(self) -> datetime:
        """When the run is to begin."""
        return self.state.state_details.scheduled_time or datetime.now(UTC)

    def schedule(self, deployment: UUID) -> FlowRun:
        """Create the run by itself, as `schedule_run` does."""
        about: Any = {"name": self.name, "state": self.state, "tags": self.tags, "labels": self.labels}
        return schedule_run(deployment, self.parameters, key=self.key, **about)


def schedule_runs(deployment: UUID, runs: Iterable[NewRun]) -> dict[str, str]:
    """Create many runs of a deployment, whose parameters are valid, and return why some could not be created, by key.

    Runs are created in their order, which is the order in which posts of one time go out. An earlier run under a key is
    left unchanged. A run costs Prefect's server 25 ms of CPU, where `schedule_run` costs 150 to 190 ms, as the
    parameters of each single run are compared with the deployment's schema (Prefect 3.9.1).
    """
    pending = list(runs)
    troubles: dict[str, str] = {}
    for start in range(0, len(pending), _AT_ONCE):
        some = pending[start : start + _AT_ONCE]
        try:
            refused = any(each["error"] for each in _create(deployment, some))
        except PrefectHTTPStatusError:
            refused = True
        except httpx.TransportError as trouble:
            troubles |= dict.fromkeys((run.key for run in some), str(trouble))
            continue
        # One run that PostgreSQL refuses undoes the others of its request, although Prefect calls them created. So does
        # another batch that has the same posts in another order, as each would wait for the other's rows.
        for run in some if refused else []:
            try:
                run.schedule(deployment)
            except API_TROUBLE as trouble:
                troubles[run.key] = str(trouble)
    return troubles


def _create(deployment: UUID, runs: Iterable[NewRun]) -> list[dict[str, Any]]:
    asked = [
        DeploymentFlowRunCreate(
            parameters=run.parameters,
            enforce_parameter_schema=False,
            state=to_state_create(run.state),
            name=run.name,
            tags=list(run.tags),
            labels=dict(run.labels),
            idempotency_key=run.key,
        ).model_dump(mode="json", exclude_unset=True)
        for run in runs
    ]
    with api_client() as client:
        # The client has no method for this route, nor has its list of routes.
        route: Any = "/deployments/{id}/create_flow_run/bulk"
        answer = client.request("POST", route, path_params={"id": deployment}, json=asked)
    results: list[dict[str, Any]] = answer.json()["results"]
    return results
