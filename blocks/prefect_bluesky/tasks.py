"""The Prefect tasks: a gate that ensures a session, and a publish behind the same gate; each also for async flows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.tasks import Task

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError
from prefect_bluesky.prefect_api import block_name, given_block, in_run, logger
from prefect_bluesky.publishing import Publishable, PublishedPost, actions
from prefect_bluesky.sessions import SessionStatus

P = ParamSpec("P")
R = TypeVar("R")

Account = BlueskyCredentials | str
"""An account: its block, or the name under which the block is saved."""

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


def _named(what: str) -> Callable[..., str]:
    """Return a maker of run names, such as *post as alice.test*; of a saved block's name if the task is given that."""

    def name(parameters: dict[str, Any]) -> str:
        given = parameters["credentials"]
        account = getattr(given, "handle", None) or (block_name(given) if isinstance(given, str) else None)
        return f"{what} {account or 'no account'}"

    return name


_SESSION: dict[str, Any] = {
    "task_run_name": _named("session of"),
    "description": "Ensure a valid Bluesky session: reuse it, else refresh it, else sign in.",
    **RETRIES,
}
_POST: dict[str, Any] = {
    "task_run_name": _named("post as"),
    "description": "Publish a post to Bluesky exactly once.",
    **RETRIES,
}


class _Task(Task[P, R]):
    """A task that says what to write if it is called wrongly.

    Prefect would answer an unknown argument in four lines. Where nothing can await a task, Prefect would return a
    coroutine, and the flow would complete although nothing was done.
    """

    if not TYPE_CHECKING:  # the types are those of a task

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            self._check(kwargs)
            if self.isasync and in_run() and not _is_in_event_loop():
                name = self.fn.__name__
                raise TypeError(f"{name} is awaited, in an async flow. In other flows, call {name.removeprefix('a')}.")
            return super().__call__(*args, **kwargs)

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            self._check(kwargs)
            return super().submit(*args, **kwargs)

    def _check(self, given: Iterable[str]) -> None:
        known = list(signature(self.fn).parameters)
        unknown = [name for name in given if name not in {*known, *_OF_PREFECT}]
        actions.refuse_arguments(unknown, known, self.fn.__name__)


_OF_PREFECT = {"return_state", "wait_for"}
"""The arguments of every task."""


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _task(name: str, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task of a function, as Prefect's decorator `task` does."""
    return lambda function: _Task(function, name=name, **options)


@_task("ensure-bluesky-session", **_SESSION)
def ensure_session(credentials: Account) -> SessionStatus:
    """Ensure a valid session before anything is published.

    Args:
        credentials: the account: its block, or the name of its saved block, such as `alice`.

    Raises: as `BlueskyCredentials.ensure_session`; a retryable error is retried three times first.
        InvalidInput: this is no account, or no block of that name is saved.

    Example:
        >>> @flow
        ... def my_flow() -> None:
        ...     ensure_session("alice")
        >>> my_flow()
    """
    try:
        status = _account(credentials).ensure_session()
    except BlueskyError as error:
        return _ended(error)  # type: ignore[no-any-return]
    logger().info("%s", status)
    return status


@_task("aensure-bluesky-session", **_SESSION)
async def aensure_session(credentials: Account) -> SessionStatus:
    """Ensure a valid session, in an async flow; see `ensure_session`.

    Example:
        >>> @flow
        ... async def my_flow() -> None:
        ...     await aensure_session("alice")
        >>> asyncio.run(my_flow())
    """
    account = await asyncio.to_thread(_account, credentials)
    status = await account.aensure_session()
    logger().info("%s", status)
    return status


@_task("publish-bluesky-post", **_POST)
def publish_post(credentials: Account, post: Publishable, key: str | None = None) -> PublishedPost:
    """Publish a post or a thread exactly once, gated by the same check as `ensure_session`.

    With `.map`, a list is one value for each call, and all else is the same for each call. To publish a thread for each
    account, give a `Post` with its `thread`, or wrap the list in `prefect.unmapped`.

    Args:
        credentials: the account: its block, or the name of its saved block, such as `alice`.
        post: the post. A string is a post with that text, a list is a thread.
        key: see `BlueskyCredentials.publish`.

    Raises: as `BlueskyCredentials.publish`; a retryable error is retried three times first.
        InvalidInput: this is no account, or no block of that name is saved.

    Example:
        >>> @flow
        ... def my_flow() -> None:
        ...     publish_post("alice", "Hello from Prefect")
        >>> my_flow()
    """
    try:
        account = _account(credentials)
        published = account.publish(post, key)
    except BlueskyError as error:
        return _ended(error)  # type: ignore[no-any-return]
    _log(published, account)
    return published


@_task("apublish-bluesky-post", **_POST)
async def apublish_post(credentials: Account, post: Publishable, key: str | None = None) -> PublishedPost:
    """Publish a post or a thread exactly once, in an async flow; see `publish_post`.

    Example:
        >>> @flow
        ... async def my_flow() -> None:
        ...     await apublish_post("alice", "Hello from an async flow")
        >>> asyncio.run(my_flow())
    """
    account = await asyncio.to_thread(_account, credentials)
    published = await account.apublish(post, key)
    _log(published, account)
    return published


def _account(given: object) -> BlueskyCredentials:
    return given_block(given, BlueskyCredentials, "credentials")


def _log(published: PublishedPost, account: BlueskyCredentials) -> None:
    done = "Published" if published.is_new else "Already out:"
    logger().info("%s %s as %s", done, published.url, account.handle)


def run_in_flow(task: Callable[..., R], *given: object) -> R:
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
