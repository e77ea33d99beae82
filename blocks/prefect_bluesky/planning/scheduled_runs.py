"""Planned posts as runs of the deployment `publish/planned`, which people see and cancel in Prefect until they are due.

No worker takes these runs: the deployment has no work pool. `publish-due` publishes their posts, many in one process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar
from uuid import UUID, uuid4

from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType
from prefect.settings import PREFECT_API_URL
from prefect.states import Scheduled

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.planning.calendar_tags import calendar_tag
from prefect_bluesky.planning.dispatchers import Dispatchers
from prefect_bluesky.planning.held_page import show_held
from prefect_bluesky.planning.held_runs import HELD, held_state, tag, tags_of, tell_held
from prefect_bluesky.planning.keyed_runs import NewRun, deployment_id, schedule_runs
from prefect_bluesky.planning.later_posts import LaterPosts, rewrite
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.saved_accounts import as_parameter, find_saved
from prefect_bluesky.posts import Post
from prefect_bluesky.prefect_api import API_TROUBLE, api_client, shorten, standard_time

T = TypeVar("T")

DEPLOYMENT = "publish/planned"

MOVED = "Moved"
"""The name of the final state of a run whose post has got another run, at another time."""

REMOVED = "Removed"
"""The name of the final state of a run whose post its calendar no longer has."""

APPLIED = "bluesky.planned"
"""The label of a run with the fingerprint of what its calendar said when it was last applied."""


def run_key(planned: PlannedPost) -> str:
    """Return the idempotency key of the run of a post with a key. Prefect creates one run per idempotency key."""
    return f"bluesky-{sha256(f'{planned.account} {planned.key}'.encode()).hexdigest()[:40]}"


def successor_key(run: UUID) -> str:
    """Return the idempotency key of the run that follows a run whose post is planned anew."""
    return f"bluesky-after-{run}"


def fingerprint(post: Any, at: datetime | None) -> str:
    """Return what tells a planned post from another one: a hash of the post as JSON, and its time in UTC.

    Example:
        >>> fingerprint({"text": "Hello"}, datetime(2026, 12, 1, 8, tzinfo=UTC))
        '77283e86178dc1ff@2026-12-01T08:00:00+00:00'
    """
    content = sha256(json.dumps(post, sort_keys=True).encode()).hexdigest()[:16]
    return f"{content}@{at.astimezone(UTC).isoformat() if at else ''}"


def planned_time(run: FlowRun) -> datetime | None:
    """Return when a run's post is to go out, or was to go out. A person may have moved the run."""
    at = run.next_scheduled_start_time or run.expected_start_time
    return at and standard_time(at)


def planned_name(account: str, text: str, at: datetime | None) -> str:
    """Return the name of a planned post's run: the account, the time as the calendar has it, the text's beginning.

    Example:
        >>> from datetime import UTC, datetime
        >>> planned_name("bob.test", "Good morning", datetime(2026, 12, 1, 8, tzinfo=UTC))
        'bob.test · 1 Dec 08:00 · Good morning'
    """
    return run_name_of(account, f"{at.day} {at:%b %H:%M}" if at else None, text)


def run_name_of(account: str, when: str | None, text: str) -> str:
    """Return the name of a planned post's run, for a time as people are to read it (None: now)."""
    return f"{account} · {when or 'now'} · {shorten(text) or 'without text'}"


def text_of(run: FlowRun) -> str:
    """Return the text of a run's post, or "" if a person has left none."""
    return text_in(run.parameters.get("post"))


def text_in(post: Any) -> str:
    """Return the text of a run's parameter `post`: an object, or a text alone."""
    return str((post.get("text") if isinstance(post, dict) else post) or "")


def post_parameter(planned: PlannedPost) -> dict[str, Any]:
    """Return a planned post's content, as its run has it."""
    return planned.post.model_dump(mode="json", exclude_defaults=True)


def has_failed(state: State[Any]) -> bool:
    """Return whether a run in this state has ended, but did not complete, is not held and was not cancelled."""
    return state.is_final() and not (state.is_completed() or state.is_cancelled() or state.name == HELD)


@dataclass(frozen=True)
class Plan:
    """A post that is to be planned for a saved account.

    Attributes:
        planned: the post, whose time and key are fixed.
        credentials: the account.
        follows: the run that the post had before, and which has ended; None if this is its first one.
        has_failed: whether its first run has failed, and is now to be tried again.
    """

    planned: PlannedPost
    credentials: BlueskyCredentials
    follows: UUID | None = None
    has_failed: bool = False


class PlannedRuns:
    """The runs of planned posts.

    Args:
        calendar: the path or URL of the calendar that the posts come from, or "".

    Raises:
        InvalidInput: a deployment does not exist.
    """

    def __init__(self, calendar: str = "") -> None:
        self._deployment = deployment_id(DEPLOYMENT, ", whose runs are the posts that are due later or are held")
        self._dispatchers = Dispatchers()
        self._later = LaterPosts()
        self._tags = [calendar_tag(calendar)] if calendar else []

    def schedule(self, plans: Sequence[Plan], present: int = 0) -> list[str]:
        """Make the runs of posts. Runs that exist stay as they are. Return why each could not be planned, or "".

        Args:
            plans: the posts.
            present: how many runs the calendar has already. What is due later than its first thousand is kept in
                bundles.
        """
        runs = [self._scheduled(plan) for plan in plans]
        again = {run.key for run, plan in zip(runs, plans, strict=True) if plan.has_failed}
        new = [run for run in runs if run.key not in again]
        new, later = self._later.split(new, present) if self._tags else (new, [])
        troubles = schedule_runs(self._deployment, new) | self._later.keep(later)
        troubles |= {run.key: _trouble_of(self._schedule, run) for run in runs if run.key in again}
        kept = {run.key for run in later}
        try:
            due = self._dispatchers.plan_all(run.at for run in runs if run.key not in kept)
        except API_TROUBLE as trouble:
            due = str(trouble)
        return [troubles.get(run.key) or due for run in runs]

    def record(self, published: Iterable[tuple[Plan, str]]) -> None:
        """Make the runs of posts that are out, each with its address, so that the calendar knows them from then on."""
        # The API may not answer, but the posts are out all the same.
        schedule_runs(self._deployment, [self._new(plan, _out(plan.planned.at, url)) for plan, url in published])

    def rewrite_later(self, bundle: UUID, changes: Mapping[str, Plan | None]) -> None:
        """Change posts of a bundle, or take them out (None), by their idempotency keys.

        Raises:
            InvalidInput: the posts are no longer in the bundle.
        """
        rewrite(
            bundle, {key: replace(self._scheduled(plan), key=key) if plan else None for key, plan in changes.items()}
        )

    def _scheduled(self, plan: Plan) -> NewRun:
        now = datetime.now(UTC)
        return self._new(plan, Scheduled(scheduled_time=max(plan.planned.at or now, now)))

    def _new(self, plan: Plan, state: State[Any]) -> NewRun:
        run = self._run(plan.planned, plan.credentials, state, [tag(plan.credentials.handle)])
        return replace(run, key=successor_key(plan.follows)) if plan.follows else run

    def hold(self, planned: PlannedPost, credentials: BlueskyCredentials, error: BlueskyError) -> FlowRun:
        """Return a held run for a post, whose key is fixed. The post is sent once the cause of the error is fixed."""
        run = self._schedule(self._run(planned, credentials, held_state(error), tags_of(credentials)))
        tell_held(error, credentials)
        show_held(run.id, error, credentials)
        return run

    def _run(
        self, planned: PlannedPost, credentials: BlueskyCredentials, state: State[Any], tags: Sequence[str]
    ) -> NewRun:
        post, key = post_parameter(planned), planned.key
        return NewRun(
            key=run_key(planned),
            name=planned_name(credentials.handle, planned.post.text, planned.at),
            parameters={"credentials": as_parameter(credentials), "post": post, "key": key},
            state=state,
            tags=[*self._tags, *tags],
            labels={APPLIED: fingerprint(post, planned.at)},
        )

    def _schedule(self, new: NewRun) -> FlowRun:
        run = new.schedule(self._deployment)
        if run.state is not None and has_failed(run.state):
            # Prefect returns the failed run of an earlier attempt unchanged.
            with api_client() as client:
                tags = {*run.tags, *new.tags}
                client.update_flow_run(run.id, parameters=new.parameters, tags=tags, name=new.name)
                client.update_flow_run_labels(run.id, dict(new.labels))
                client.set_flow_run_state(run.id, new.state, force=True)
        return run


def _out(at: datetime | None, url: str) -> State[Any]:
    return State(type=StateType.COMPLETED, message=f"Published {url}", state_details=StateDetails(scheduled_time=at))


def _trouble_of(call: Callable[[T], object], argument: T) -> str:
    """Call Prefect's API, and return why that failed, or ""."""
    try:
        call(argument)
    except (InvalidInput, *API_TROUBLE) as trouble:
        return str(trouble)
    return ""


def end_plan(run: UUID, name: str, state: State[Any]) -> None:
    """End the run of a post that is still planned.

    Raises:
        InvalidInput: the post has gone out meanwhile.
    """
    check_still_planned(run, name)
    with api_client() as client:
        client.set_flow_run_state(run, state, force=True)


def check_still_planned(run: UUID, name: str) -> None:
    """Raise InvalidInput if a post is no longer planned."""
    with api_client() as client:
        state = client.read_flow_run(run).state
    if state is None or not state.is_scheduled():
        what = f"{name} is {state.name if state else 'gone'} by now."
        raise InvalidInput("run", what, "Look at its page in Prefect.")


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
            f" To discard it: prefect-bluesky held drop {run.id}"
        )
