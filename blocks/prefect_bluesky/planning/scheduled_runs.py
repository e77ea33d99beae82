"""Planned posts as runs of the deployment `publish`, which people can see and cancel in Prefect until they are due."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Scheduled

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.planning.held_runs import HELD, held_state, tags_of, tell_held
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.saved_accounts import as_parameter, find_saved
from prefect_bluesky.posts import Post
from prefect_bluesky.prefect_api import api_client

DEPLOYMENT = "publish/publish"

_PAGE = 200


def run_key(planned: PlannedPost) -> str:
    """Return the idempotency key of the run of a post with a key. Prefect creates one run per idempotency key."""
    return f"bluesky-{sha256(f'{planned.account} {planned.key}'.encode()).hexdigest()[:40]}"


def known_runs(planned: Iterable[PlannedPost]) -> Mapping[str, FlowRun]:
    """Return the existing runs of planned posts by their idempotency keys."""
    keys = list(map(run_key, planned))
    found: dict[str, FlowRun] = {}
    with api_client() as client:
        for start in range(0, len(keys), _PAGE):
            some = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys[start : start + _PAGE]))
            runs = client.read_flow_runs(flow_run_filter=some, limit=_PAGE)
            found |= {run.idempotency_key: run for run in runs if run.idempotency_key}
    return found


def run_matches(run: FlowRun, planned: PlannedPost) -> bool:
    """Return whether a pending run publishes this post at its time. A person may have changed the run."""
    at = run.expected_start_time
    return run.parameters.get("post") == _post_parameter(planned) and at is not None and at == planned.at


def _post_parameter(planned: PlannedPost) -> dict[str, Any]:
    return planned.post.model_dump(mode="json", exclude_defaults=True)


def has_failed(state: State[Any]) -> bool:
    """Return whether a run in this state has ended, but did not complete, is not held and was not cancelled."""
    return state.is_final() and not (state.is_completed() or state.is_cancelled() or state.name == HELD)


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


class PlannedRuns:
    """The runs of `publish` for planned posts.

    Raises:
        InvalidInput: the deployment does not exist.
    """

    def __init__(self) -> None:
        self._deployment = deployment_id(DEPLOYMENT, ", whose runs publish what is due later or is held")

    def schedule(self, planned: PlannedPost, credentials: BlueskyCredentials) -> FlowRun:
        """Return the new or existing run that publishes a post, whose time and key are fixed, as a saved account."""
        return self._create(planned, credentials, Scheduled(scheduled_time=planned.at), [])

    def hold(self, planned: PlannedPost, credentials: BlueskyCredentials, error: BlueskyError) -> FlowRun:
        """Return a held run for a post, whose key is fixed. The post is sent once the cause of the error is fixed."""
        run = self._create(planned, credentials, held_state(error), tags_of(credentials))
        tell_held(error, credentials)
        return run

    def _create(
        self, planned: PlannedPost, credentials: BlueskyCredentials, state: State[Any], tags: list[str]
    ) -> FlowRun:
        post, key = _post_parameter(planned), planned.key
        parameters = {"credentials": as_parameter(credentials), "post": post, "key": key}
        name = f"publish as {credentials.handle}"
        run = schedule_run(self._deployment, parameters, key=run_key(planned), name=name, state=state, tags=tags)
        if run.state is not None and has_failed(run.state):
            # Prefect returns the failed run of an earlier attempt unchanged.
            with api_client() as client:
                client.update_flow_run(run.id, parameters=parameters, tags={*run.tags, *tags})
                client.set_flow_run_state(run.id, state, force=True)
        return run


class ScriptHolder:
    """The hand-over of a script's post to the deployment `publish`, which holds the post.

    Raises:
        InvalidInput: there is no Prefect server, no deployment or no saved block to send the post later.
    """

    def __init__(self, credentials: BlueskyCredentials, key: str | None) -> None:
        if not PREFECT_API_URL.value():
            raise InvalidInput("--hold", "PREFECT_API_URL is not set, so nothing can send the post later.", "Set it.")
        self._runs = PlannedRuns()
        saved = find_saved(credentials.handle, credentials.service_url)
        if saved is None:
            what = f"no block is saved for {credentials.handle} at {credentials.service_url}."
            raise InvalidInput("--hold", what, "Save a Bluesky Credentials block for the account first.")
        self._saved = saved
        # If an answer was lost, the post may be published. The later run finds it by the same key.
        self.key = key or f"script-{uuid4().hex}"

    def hold(self, post: Post, error: BlueskyError) -> str:
        """Hold the post, and return the message for the person."""
        planned = PlannedPost(account=str(self._saved._block_document_name), post=post, key=self.key)  # noqa: SLF001
        run = self._runs.hold(planned, self._saved, error)
        return (
            f"{error}\nThe post is held. publish-held sends it once this is fixed."
            f" To discard it: uv run flows/held.py drop {run.id}"
        )
