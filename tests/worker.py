"""Worker processes: each has a memory of its own and may be killed, as a worker on another machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import UUID

import PIL.Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.flow_engine import run_flow
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

from prefect_bluesky import BlueskyCredentials, BlueskyError, Post, PublishedPost
from prefect_bluesky.protocol import oauth, xrpc
from prefect_bluesky.protocol.oauth.grant import AskedGrant
from prefect_bluesky.sessions import Authenticator
from prefect_bluesky.sessions.account_state import AccountState
from prefect_bluesky.sessions.stores.aws_secret import AwsSecret
from tests.pds.consent import consent
from tests.pds.server import Account
from tests.support import REFRESH, forget_processes_memory
from tests.world import wait_for

# Importing Prefect and the SDK takes seconds, and Pillow's formats a while: one process does it, and each worker is
# forked from that one, which runs nothing.
_PROCESSES = get_context("forkserver")
_PROCESSES.set_forkserver_preload(["prefect_bluesky", "atproto", __name__])
PIL.Image.preinit()

_PATIENCE = 120.0
"""Seconds until a worker that says nothing is taken for stuck: longer than a dead worker's lock is waited for."""

Deed = Callable[..., Any]


class Worker:
    """A process that does one deed after another, in the Prefect API that is at hand where it is told to.

    What it is told, app passwords too, goes through a pipe, and nobody else sees it.
    """

    def __init__(self) -> None:
        self._pipe, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def prepare(self, deed: Deed, *arguments: Any) -> None:
        """Tell it what to do, and wait until it has understood."""
        self._pipe.send((PREFECT_API_URL.value(), deed, arguments))
        assert self._hear() == "ready"

    def go(self) -> None:
        """Let it do what it was told."""
        self._pipe.send("go")

    def outcome(self) -> Any:
        """What the deed returned; a `BlueskyError` that it raised is returned by the name of its class."""
        return self._hear()

    def do(self, deed: Deed, *arguments: Any) -> Any:
        """Do a deed, and return its outcome."""
        return together([self], deed, [arguments])[0]

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        self._process.kill()
        self._process.join()

    def shoot(self) -> None:
        """Kill it, and do not wait for its end: from another thread than the one that waits for its outcome."""
        self._process.kill()

    def exit_code(self) -> int | None:
        """Wait until it has ended."""
        self._process.join(_PATIENCE)
        return self._process.exitcode

    def close(self) -> None:
        """Have no more of it."""
        self.kill()
        self._process.close()
        self._pipe.close()

    def _hear(self) -> Any:
        assert self._pipe.poll(_PATIENCE), "a worker is stuck"
        return self._pipe.recv()


StartWorkers = Callable[[int], list[Worker]]
"""Starts so many workers."""


def together(workers: Sequence[Worker], deed: Deed, arguments: Sequence[Sequence[Any]]) -> list[Any]:
    """Let workers do the same at the same moment, each with arguments of its own; what they returned."""
    for worker, own in zip(workers, arguments, strict=True):
        worker.prepare(deed, *own)
    for worker in workers:
        worker.go()
    return [worker.outcome() for worker in workers]


def _work(pipe: Connection) -> None:
    while True:
        api_url, deed, arguments = pipe.recv()
        pipe.send("ready")
        pipe.recv()
        api = {PREFECT_API_URL: api_url} if api_url else {}
        with temporary_settings(
            {PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False, **api}, restore_defaults={PREFECT_API_URL}
        ):
            try:
                outcome = deed(*arguments)
            except BlueskyError as error:
                outcome = type(error).__name__
        pipe.send(outcome)


def gate(credentials: BlueskyCredentials) -> str:
    """Pass the gate; what it took."""
    return credentials.ensure_session().action


def gates(credentials: BlueskyCredentials, count: int) -> list[str]:
    """Pass the gate in many threads at once; what each took."""
    with ThreadPoolExecutor(count) as threads:
        passing = [threads.submit(copy_context().run, gate, credentials) for _ in range(count)]
        return [each.result() for each in passing]


def let_session_end(credentials: BlueskyCredentials) -> None:
    """Make the stored session so old that the next gate must refresh it."""
    store = credentials.session_store()
    saved = store.load()
    assert saved is not None
    session = saved.document.session
    assert session is not None
    aged = replace(session, received_at=session.received_at - session.lifetime)
    store.save(replace(saved.document, session=aged), saved)
    forget_processes_memory()


def publish(credentials: BlueskyCredentials, text: str) -> str:
    """Publish a post; its URI."""
    return credentials.publish(text).uri


def publish_under(credentials: BlueskyCredentials, post: Post, key: str, patience: float) -> PublishedPost:
    """Publish a post under a key, with `patience` seconds for each answer."""
    os.environ["PREFECT_INTEGRATIONS_BLUESKY_REQUEST_TIMEOUT"] = str(patience)
    return credentials.publish(post, key)


def publish_flow() -> Flow[Any, Any]:
    """The flow as a deployment loads it."""
    return load_flow_from_entrypoint(f"{Path(__file__).parents[1] / 'flows' / 'publish.py'}:publish")


def publish_in(flow_run_id: UUID, credentials: BlueskyCredentials, post: Post) -> PublishedPost:
    """Do the flow run of a post, as a worker of Prefect does one that it was given; what it returns."""
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(flow_run_id)
    published = run_flow(publish_flow(), flow_run, {"credentials": credentials, "post": post})
    assert isinstance(published, PublishedPost)
    return published


def run_in(entrypoint: str, flow_run_id: UUID) -> str | None:
    """Do a flow run, as a worker of Prefect does one that it was given; the name of the state in which it ends."""
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(flow_run_id)
    flow: Flow[Any, Any] = load_flow_from_entrypoint(entrypoint)
    state: Any = run_flow(flow, flow_run, flow_run.parameters, return_type="state")
    return str(state.name)


def attempt(entrypoint: str, flow_run: UUID, *answers: dict[str, Any]) -> FlowRun:
    """Do a run in a worker, with what a person answers each time that it asks; the run as it ended."""
    worker = Worker()
    worker.prepare(run_in, entrypoint, flow_run)
    worker.go()
    with get_client(sync_client=True) as client:
        for answer in answers:
            wait_for(lambda: asks(flow_run), "the form")
            assert client.resume_flow_run(flow_run, run_input=answer).status == SetStateStatus.ACCEPT
        worker.outcome()
        worker.kill()
        return client.read_flow_run(flow_run)


def asks(flow_run: UUID) -> bool:
    """Return whether a run waits for an answer, with its form stored."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run).state
        if state is None or not state.is_paused() or not state.state_details.run_input_keyset:
            return False
        key = state.state_details.run_input_keyset["schema"]
        return any(each.key == key for each in client.filter_flow_run_input(flow_run, "paused-", 200, set()))


def publish_until(credentials: BlueskyCredentials, text: str) -> float:
    """Publish a post; the moment when it was out, by the clock that all processes share."""
    publish(credentials, text)
    return time.monotonic()


def publish_later(credentials: BlueskyCredentials, ahead: timedelta, text: str) -> str:
    """Publish a post by a clock that is ahead; its URI."""
    credentials._authenticator()._now = lambda: datetime.now(UTC) + ahead
    return publish(credentials, text)


DEATHS: dict[str, tuple[Any, str, str, bool]] = {
    "before the refresh is sent": (xrpc, "procedure", REFRESH, False),
    "before PutSecretValue": (AwsSecret, "call", "put_secret_value", False),
    "before UpdateSecretVersionStage": (AwsSecret, "call", "update_secret_version_stage", False),
    "after UpdateSecretVersionStage": (AwsSecret, "call", "update_secret_version_stage", True),
}
"""Where a worker may die: the function, the call of it, and whether it is done by then."""


DEATHS_IN_A_REFRESH: dict[str, tuple[Any, str, int, bool]] = {
    "before it is noted": (AccountState, "begin_refresh", 1, False),
    "after it is noted": (AccountState, "begin_refresh", 1, True),
    "after it is answered": (oauth, "refresh", 1, True),
    "before it is saved": (AccountState, "save_session", 1, False),
    "after it is saved": (AccountState, "save_session", 1, True),
}
"""Where a worker may die that refreshes a grant: the function, which call of it, and whether that is done by then."""

DEATHS_IN_A_VISIT: dict[str, tuple[Any, str, int, bool]] = {
    "after the link is asked for": (oauth, "ask_for_grant", 1, True),
    "before the address is traded for tokens": (AskedGrant, "take", 1, False),
    "before the session is saved": (Authenticator, "adopt", 1, False),
    "after the session is saved": (Authenticator, "adopt", 1, True),
    "after the link for the spare session is asked for": (oauth, "ask_for_grant", 2, True),
    "before the spare session is saved": (Authenticator, "adopt", 2, False),
    "after the spare session is saved": (Authenticator, "adopt", 2, True),
}
"""Where a worker may die that takes an owner's grants."""


def visit(credentials: BlueskyCredentials, account: Account) -> None:
    """Let the owner grant a session and a spare one."""
    begun = credentials.visit()
    for is_spare in (False, True):
        begun.take(consent(begun.link(), account), is_spare=is_spare)


def die_in(death: str, deed: Deed, *arguments: Any) -> None:
    """Do a deed, and get killed on the way."""
    place, name, number, is_done = (DEATHS_IN_A_REFRESH | DEATHS_IN_A_VISIT)[death]
    function, left = getattr(place, name), number

    def deadly(*given: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not is_done:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = function(*given, **options)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(place, name, deadly)
    deed(*arguments)


def publish_and_die(credentials: BlueskyCredentials, text: str, death: str) -> str:
    """Publish a post, and get killed on the way."""
    place, name, call, is_done = DEATHS[death]
    function = getattr(place, name)

    def deadly(*arguments: Any, **options: Any) -> Any:
        answer = function(*arguments, **options) if is_done or call not in arguments else None
        if call in arguments:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(place, name, deadly)
    return publish(credentials, text)
