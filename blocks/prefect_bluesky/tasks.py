"""The Prefect tasks: a gate that ensures a session, and a publish behind the same gate."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.tasks import Task

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError
from prefect_bluesky.prefect_api import logger
from prefect_bluesky.publishing import Publishable, PublishedPost
from prefect_bluesky.sessions import SessionStatus

Result = TypeVar("Result")

_RETRIES = 3

_flow_tells: ContextVar[bool] = ContextVar("prefect_bluesky_flow_tells", default=False)
"""Whether the flow that runs a task says itself why the task failed."""


def is_retryable(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Return whether a failed task may be retried: if its error says so, or if it timed out."""
    if task.retries == RETRIES["retries"] and task_run.run_count > _RETRIES:
        return False
    return state.name == "TimedOut" or (isinstance(state.data, BlueskyError) and state.data.retryable)


RETRIES: dict[str, Any] = {
    # A credential must not become part of a cache key, and a cached gate is no gate.
    "cache_policy": NO_CACHE,
    # One more than there are: when a task has none left, Prefect logs a traceback. `is_retryable` ends it before.
    "retries": _RETRIES + 1,
    "retry_delay_seconds": [2, 10, 30],
    "retry_condition_fn": is_retryable,
}
"""How each task of this package is retried: three times, after 2, 10 and 30 seconds, if its error says so."""


@task(
    name="ensure-bluesky-session",
    task_run_name="session of {credentials.handle}",
    description="Ensure a valid Bluesky session: reuse it, else refresh it, else sign in.",
    **RETRIES,
)
def ensure_session(credentials: BlueskyCredentials) -> SessionStatus:
    """Ensure a valid session before anything is published.

    Args:
        credentials: the account.

    Raises: as `BlueskyCredentials.ensure_session`; a retryable error is retried three times first.

    Example:
        >>> @flow
        ... def my_flow(credentials: BlueskyCredentials) -> None:
        ...     ensure_session(credentials)
        >>> my_flow(credentials)
    """
    try:
        status = credentials.ensure_session()
    except BlueskyError as error:
        return _ended(error)  # type: ignore[no-any-return]
    logger().info("%s", status)
    return status


@task(
    name="publish-bluesky-post",
    task_run_name="post as {credentials.handle}",
    description="Publish a post to Bluesky exactly once.",
    **RETRIES,
)
def publish_post(credentials: BlueskyCredentials, post: Publishable, key: str | None = None) -> PublishedPost:
    """Publish a post or a thread exactly once, gated by the same check as `ensure_session`.

    Args:
        credentials: the account. To `.map` over posts, wrap it in `prefect.unmapped`.
        post: the post. A string is a post with that text, a list is a thread.
        key: see `BlueskyCredentials.publish`.

    Raises: as `BlueskyCredentials.publish`; a retryable error is retried three times first.

    Example:
        >>> @flow
        ... def my_flow(credentials: BlueskyCredentials) -> None:
        ...     publish_post(credentials, "Hello from Prefect")
        >>> my_flow(credentials)
    """
    try:
        published = credentials.publish(post, key)
    except BlueskyError as error:
        return _ended(error)  # type: ignore[no-any-return]
    logger().info("Published %s as %s", published.url, credentials.handle)
    return published


def run_in_flow(task: Callable[..., Result], *given: object) -> Result:
    """Run a task of this module in a flow that says itself why it failed, so that its log has the cause once.

    Raises: as the task.
    """
    token = _flow_tells.set(True)
    try:
        outcome = task(*given)
    finally:
        _flow_tells.reset(token)
    if isinstance(outcome, State):
        outcome.result()
    return outcome


def _ended(error: BlueskyError) -> Any:
    """Return the state of a task that failed with an error. Raise the error unless the flow says what it is."""
    if not _flow_tells.get():
        raise error
    return State(type=StateType.FAILED, message="The flow run's state says why.", data=error)
