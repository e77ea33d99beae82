"""Planned posts as runs of the deployment `publish`, to be seen and cancelled in Prefect until they are due."""

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
    """Return the idempotency key of a planned post's run: Prefect makes no second run under it.

    Args:
        planned: the post; its key is fixed.
    """
    return f"bluesky-{sha256(f'{planned.account} {planned.key}'.encode()).hexdigest()[:40]}"


def known_runs(planned: Iterable[PlannedPost]) -> Mapping[str, FlowRun]:
    """Return the runs that planned posts have already, by their idempotency keys."""
    keys = list(map(run_key, planned))
    found: dict[str, FlowRun] = {}
    with api_client() as client:
        for start in range(0, len(keys), _PAGE):
            some = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys[start : start + _PAGE]))
            runs = client.read_flow_runs(flow_run_filter=some, limit=_PAGE)
            found |= {run.idempotency_key: run for run in runs if run.idempotency_key}
    return found


def run_matches(run: FlowRun, planned: PlannedPost) -> bool:
    """Return whether a run that is still to come publishes this post at this time: a person may have changed it."""
    at = run.expected_start_time
    return run.parameters.get("post") == _post_parameter(planned) and at is not None and at == planned.at


def _post_parameter(planned: PlannedPost) -> dict[str, Any]:
    return planned.post.model_dump(mode="json", exclude_defaults=True)


def has_failed(state: State[Any]) -> bool:
    """Return whether a run in this state has ended, and neither published its post, nor holds it, nor was cancelled."""
    return state.is_final() and not (state.is_completed() or state.is_cancelled() or state.name == HELD)


def deployment_id(name: str, what_for: str = "") -> UUID:
    """Return a deployment's id.

    Args:
        name: the flow's name and the deployment's own, such as `publish/publish`.
        what_for: what to say of it if it is missing.

    Raises:
        InvalidInput: there is no such deployment.
    """
    with api_client() as client:
        try:
            return client.read_deployment_by_name(name).id
        except ObjectNotFound:
            raise InvalidInput(
                "deployment", f"there is no {name}{what_for}.", "Make it with deployments/setup.py."
            ) from None


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
    """Make a run of a deployment, once under a key.

    Args:
        deployment: the deployment's id.
        parameters: the parameters of its flow.
        key: the idempotency key. The earlier run is returned if there is one under the key, and stays as it is.
        name: the run's name.
        at: when the run starts.
        state: the run's first state, if it is another than scheduled for `at`.
        tags: tags to find the run by.
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
        """Have a post sent as soon as what stops it is fixed.

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
            "post": _post_parameter(planned),
            "key": planned.key,
        }
        name = f"publish as {credentials.handle}"
        run = schedule_run(self._deployment, parameters, key=run_key(planned), name=name, state=state, tags=tags)
        if run.state is not None and has_failed(run.state):
            # A run of an earlier attempt, which Prefect leaves as it is.
            with api_client() as client:
                client.update_flow_run(run.id, parameters=parameters, tags={*run.tags, *tags})
                client.set_flow_run_state(run.id, state, force=True)
        return run


class ScriptHolder:
    """Hands a script's post that cannot go out now to the deployment `publish`, to be held there.

    Args:
        credentials: the account, as the script has it.
        key: the post's key, if the script has one.

    Raises:
        InvalidInput: no Prefect server, no deployment or no saved block could send the post later.
    """

    def __init__(self, credentials: BlueskyCredentials, key: str | None) -> None:
        if not PREFECT_API_URL.value():
            raise InvalidInput("--hold", "PREFECT_API_URL is not set, so nothing could send the post later.", "Set it.")
        self._runs = PlannedRuns()
        saved = find_saved(credentials.handle, credentials.service_url)
        if saved is None:
            what = f"no saved block is for {credentials.handle} at {credentials.service_url}."
            raise InvalidInput("--hold", what, "Save a Bluesky Credentials block for the account first.")
        self._saved = saved
        # A post whose answer was lost may be out: whoever sends it later must find it under the same key.
        self.key = key or f"script-{uuid4().hex}"

    def hold(self, post: Post, error: BlueskyError) -> str:
        """Hold the post; what to tell the person."""
        planned = PlannedPost(account=str(self._saved._block_document_name), post=post, key=self.key)  # noqa: SLF001
        run = self._runs.hold(planned, self._saved, error)
        return (
            f"{error}\nThe post is held. publish-held sends it once this is fixed."
            f" To discard it: uv run flows/held.py drop {run.id}"
        )
