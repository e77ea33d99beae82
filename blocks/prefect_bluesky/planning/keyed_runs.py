"""Make a run of a deployment at a time under a key: Prefect makes one run for each key."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.prefect_api import api_client


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
            raise InvalidInput("deployment", what, "Create the deployment with deployments/setup.py.") from None


def schedule_run(
    deployment: UUID,
    parameters: dict[str, Any],
    *,
    key: str,
    name: str,
    at: datetime | None = None,
    state: State[Any] | None = None,
    tags: Iterable[str] = (),
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
        )
