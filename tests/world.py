"""A Prefect server, workers of Prefect and a receiver of messages: processes that can be killed and started again."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from tests import warm
from tests.prefect_server import PrefectServer, postgresql
from tests.process_table import below, processes
from tests.support import QuietHandler

ROOT = Path(__file__).parents[1]

_log = logging.getLogger("prefect.bluesky.tests")

_PATIENCE = 600.0
"""Seconds until what a test waits for is taken for lost: a worker starts processes for each run, 10 s of CPU.

Less than the time limit of a test in pyproject.toml, which would not say what did not come.
"""


class PrefectWorker:
    """A process worker of the pool `bluesky`, with the processes of the runs that it has started."""

    def __init__(self, home: Path, api_url: str, *, runs_at_once: int) -> None:
        settings = {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": api_url,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        }
        self._output = (home / f"worker-{time.monotonic_ns()}.log").open("wb")
        self._process = subprocess.Popen(
            [warm.python(), "-m", "prefect", "worker", "start", "--pool", "bluesky", "--limit", f"{runs_at_once}"],
            cwd=ROOT,
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def freeze(self) -> None:
        """Let it and all of its runs stand still, as on a machine that hangs, until they are killed."""
        self._signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it and all of its runs as `kill -9` does, or a machine that loses its power."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._output.close()

    def _signal(self, number: signal.Signals) -> None:
        # Prefect gives each run a group of its own.
        table = processes()
        for group in {self._process.pid, *(table[pid].group for pid in below([self._process.pid], table))}:
            with suppress(ProcessLookupError):
                os.killpg(group, number)


@dataclass(frozen=True)
class Message:
    """A received message."""

    subject: str
    body: str
    received_at: float = field(default_factory=time.time)


class Receiver:
    """The receiver of notifications: a webhook on loopback."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """The receiver's URL, the same after a restart."""
        return f"http://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Receive."""
        messages = self.messages

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802
                content = json.loads(self.body())
                messages.append(Message(content["subject"], content["body"]))
                self.answer(200)

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Be gone: whoever calls is refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class World:
    """All of it, set up by `prefect-bluesky setup`."""

    def __init__(self, home: Path, database: Path | str) -> None:
        self._home = home
        self.server = PrefectServer(home, database)
        self.receiver = Receiver()
        self.workers: list[PrefectWorker] = []

    def set_up(self, *options: str) -> str:
        """Run `prefect-bluesky setup`; what it said."""
        done = subprocess.run(
            [warm.python(), "-m", "prefect_bluesky", "setup", *options],
            cwd=ROOT,
            env=os.environ | {"PREFECT_API_URL": self.server.url, "PREFECT_HOME": str(self._home)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    def start_worker(self, *, runs_at_once: int = 3) -> PrefectWorker:
        """Start another worker."""
        self.workers.append(PrefectWorker(self._home, self.server.url, runs_at_once=runs_at_once))
        return self.workers[-1]

    def kill_workers(self) -> None:
        """None is left, and none of their runs."""
        while self.workers:
            self.workers.pop().kill()

    def schedule(self, block_id: UUID, texts: Sequence[str], *, minutes_ago: int) -> list[UUID]:
        """Have an account publish what was planned a while ago, a post a minute; the runs."""
        first = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("publish/publish").id
            return [
                client.create_flow_run_from_deployment(
                    deployment,
                    parameters={"credentials": {"$ref": {"block_document_id": str(block_id)}}, "post": {"text": text}},
                    state=Scheduled(scheduled_time=first + timedelta(minutes=number)),
                    # A server that is busy for a minute is asked again, and would make two runs.
                    idempotency_key=uuid4().hex,
                ).id
                for number, text in enumerate(texts)
            ]

    def start_run(self, deployment: str, **parameters: Any) -> UUID:
        """Start a deployment; the run."""
        with get_client(sync_client=True) as client:
            found = client.read_deployment_by_name(deployment)
            key = uuid4().hex
            return client.create_flow_run_from_deployment(found.id, parameters=parameters, idempotency_key=key).id

    def runs(self, ids: Sequence[UUID]) -> list[FlowRun]:
        """Runs, as they are now."""
        with get_client(sync_client=True) as client:
            return [client.read_flow_run(run) for run in ids]

    def states(self, ids: Sequence[UUID]) -> list[str | None]:
        """The names of the states in which runs are."""
        return [run.state_name for run in self.runs(ids)]

    def ended(self, ids: Sequence[UUID]) -> list[str | None]:
        """Wait until runs have ended; the names of their states."""
        wait_for(lambda: all(run.state and run.state.is_final() for run in self.runs(ids)), "the end of the runs")
        ended = self.runs(ids)
        for run in ended:
            # Seen where a test fails.
            _log.info("%s has ended: %s, %s", run.name, run.state_name, run.state and run.state.message)
        return [run.state_name for run in ended]


@contextmanager
def world(home: Path, database: Path | str | None = None) -> Iterator[World]:
    """A world with a Prefect server and a receiver, set up, with no worker yet.

    Args:
        home: a directory of its own.
        database: the URL of the server's database; left out, an SQLite file in that directory.
    """
    with ExitStack() as stack:
        made = World(home, database or home / "prefect.db")
        stack.enter_context(made.server.running())
        stack.callback(made.receiver.stop)
        stack.callback(made.kill_workers)
        made.receiver.start()
        stack.enter_context(temporary_settings({PREFECT_API_URL: made.server.url}))
        CustomWebhookNotificationBlock(
            name="alerts",
            url=made.receiver.url,
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
            allow_private_urls=True,
        ).save("alerts")
        said = made.set_up("--notify", "custom-webhook/alerts")
        assert "Set up." in said, said
        yield made


@contextmanager
def world_with_ui(home: Path) -> Iterator[World]:
    """A world with a Prefect server that has its UI, set up, with a worker.

    On PostgreSQL: with SQLite the server says now and then that it is busy, and no browser asks again by itself.
    """
    with postgresql() as database:
        made = World(home, database)
        made.server = PrefectServer(home, database, ui=True)
        with made.server.running():
            try:
                said = made.set_up()
                assert "Set up." in said, said
                made.start_worker()
                yield made
            finally:
                made.kill_workers()


def wait_for(condition: Callable[[], Any], what: str, patience: float = _PATIENCE) -> None:
    """Look again and again until a condition holds.

    Args:
        condition: the condition.
        what: what comes when it holds, for the message of the error.
        patience: seconds.

    Raises:
        TimeoutError: it does not hold in time.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come in {patience:.0f} s")
        time.sleep(0.1)
