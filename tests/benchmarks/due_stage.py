"""The stage of posts that are planned: set up by `deployments/setup.py`, with workers as a user starts them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import libipld
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType

from prefect_bluesky.planning.dispatchers import DEPLOYMENT as DUE
from prefect_bluesky.planning.dispatchers import LEAD
from prefect_bluesky.planning.scheduled_runs import DEPLOYMENT as PLANNED
from tests import warm
from tests.benchmarks.stage import Stage
from tests.pds.server import RealPds
from tests.process_table import below, processes
from tests.world import ROOT, PrefectWorker, wait_for

_A_MINUTE = timedelta(minutes=1)
_SPARE = timedelta(seconds=5)
_PATIENCE = 900.0
"""Seconds for the states of a thousand runs."""


class UsersWorker(PrefectWorker):
    """A worker as its user starts it: with Prefect's own intervals.

    Args:
        home: a directory of its own.
        api_url: the server.
        limit: how many runs it does at the same time; None for any number.
        python: the Python that starts it, and by that its runs.
        settings: what it has in its environment besides.
    """

    def __init__(
        self, home: Path, api_url: str, *, limit: int | None = None, python: str = sys.executable, **settings: str
    ) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PREFECT_HOME": str(home), "PREFECT_API_URL": api_url}
        environment |= {"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"} | settings
        command = [python, "-m", "prefect", "worker", "start", "--pool", "bluesky"]
        self._output = (home / f"worker-{time.monotonic_ns()}.log").open("wb")
        self._process = subprocess.Popen(
            command + ["--limit", f"{limit}"] * (limit is not None),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said, and its runs."""
        return Path(self._output.name).read_text(errors="replace")


@dataclass(frozen=True)
class Write:
    """A record that the PDS has committed, and when: the time in its own log of commits, to the millisecond."""

    did: str
    path: str
    at: float


def last_write(pds: RealPds) -> int:
    """Return the number of the PDS's last commit."""
    with _commits(pds) as commits:
        number: int = commits.execute("SELECT coalesce(max(seq), 0) FROM repo_seq").fetchone()[0]
        return number


def writes(pds: RealPds, after: int = 0) -> list[Write]:
    """Return what the PDS has committed after a commit.

    Read from the file of its log once all is over, so that nothing is asked of the PDS while it is measured.
    """
    query = "SELECT did, event, sequencedAt FROM repo_seq WHERE seq > ? AND eventType = 'append' ORDER BY seq"
    with _commits(pds) as commits:
        found = commits.execute(query, [after]).fetchall()
    return [
        Write(did, op["path"], datetime.fromisoformat(at).timestamp())
        for did, event, at in found
        for op in libipld.decode_dag_cbor(event)["ops"]
        if op["action"] == "create"
    ]


@contextmanager
def _commits(pds: RealPds) -> Iterator[sqlite3.Connection]:
    file = Path(pds._server._ready["dataDirectory"]) / "sequencer.sqlite"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as commits:
        yield commits


@dataclass(frozen=True)
class Cpu:
    """CPU seconds so far: of the workers with all their processes, of Prefect's server, and of its PostgreSQL."""

    worker: float
    server: float
    database: float
    at: float

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(
            self.worker - earlier.worker,
            self.server - earlier.server,
            self.database - earlier.database,
            self.at - earlier.at,
        )


class DueStage(Stage):
    """The servers, set up; workers; and what they take.

    Schedules and what would refresh sessions when a worker starts are off: they are no part of what is measured.
    """

    def __init__(self, stack: ExitStack, *, apart: bool = False, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(stack, apart=apart, settings=settings)
        self.workers: list[UsersWorker] = []
        environment = os.environ | {"PREFECT_API_URL": self.api_url, "PREFECT_HOME": str(self.home)}
        command = [warm.python(), "deployments/setup.py"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if "Set up." not in done.stdout:
            raise RuntimeError(done.stdout + done.stderr)
        with get_client(sync_client=True) as client:
            self.planned = client.read_deployment_by_name(PLANNED).id
            self.due = client.read_deployment_by_name(DUE).id
            for name in ("publish-held", "refresh-sessions"):
                client.pause_deployment(client.read_deployment_by_name(f"{name}/{name}").id)
            for automation in client.read_automations_by_name("bluesky: refresh sessions when a worker starts"):
                client.pause_automation(automation.id)

    @contextmanager
    def working(self, count: int = 1, *, limit: int | None = None, **settings: str) -> Iterator[None]:
        """Have workers until the context ends; it begins once they are idle."""
        before = len(self.runs(self.due, StateType.COMPLETED))
        self.workers = [UsersWorker(self.home, self.api_url, limit=limit, **settings) for _ in range(count)]
        try:
            # A worker's start has a run of its own started: for what is overdue.
            wait_for(lambda: len(self.runs(self.due, StateType.COMPLETED)) > before, "the run of a worker's start")
            time.sleep(5)
            self.wait_until_idle()
            yield
        finally:
            for worker in self.workers:
                worker.kill()
            self.workers = []

    def runs(self, deployment: UUID, *states: StateType, limit: int = 200) -> list[FlowRun]:
        """Return runs of a deployment that are in such a state."""
        wanted = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
        )
        with get_client(sync_client=True) as client:
            return client.read_flow_runs(flow_run_filter=wanted, limit=limit)

    def wait_until_idle(self) -> None:
        """Wait until no run is left to do, all states are set, and the processes of the runs have ended."""

        def is_idle() -> bool:
            # Asking the server again and again would be what it is measured at.
            time.sleep(1)
            table = processes()
            # A worker and the process that forks its runs.
            return (
                not any(len(below([worker.pid], table)) > 2 for worker in self.workers)
                and not self.runs(self.planned, StateType.SCHEDULED, limit=1)
                and not self.runs(self.due, StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, limit=1)
            )

        wait_for(is_idle, "the end of all runs", _PATIENCE)

    def plan(
        self, names: Sequence[str], text: str, planning: timedelta, lead: timedelta = LEAD
    ) -> tuple[datetime, timedelta]:
        """Plan a post of each account for one minute, as a person does: by a calendar.

        Args:
            names: the accounts.
            text: the beginning of each text.
            planning: how long that will take at the most. The run for the minute begins after that.
            lead: how long before the minute its run begins at the least.

        Returns:
            the minute, and how long the planning took.
        """
        began = datetime.now(UTC)
        at = (began + planning + lead + _SPARE + _A_MINUTE).replace(second=0, microsecond=0)
        said = self.flow("publish_batch", [{"account": name, "text": text, "at": at.isoformat()} for name in names])
        if said["message"] != f"{len(names)} scheduled":
            raise RuntimeError(f"the posts could not be planned: {said['message']}")
        took = datetime.now(UTC) - began
        if took > planning:
            raise RuntimeError(f"planning took {took}, not {planning}: the minute's run has begun meanwhile")
        return at, took

    def cpu(self) -> Cpu:
        """Return what has been taken so far, out of /proc."""
        table = processes()
        ours = below([os.getpid()], table)
        # PostgreSQL's first process counts those of its connections that have ended.
        database = [pid for pid in ours if table[pid].name == "postgres"]
        server = self.server._process
        assert server is not None
        return Cpu(
            sum(table[pid].cpu for pid in below([worker.pid for worker in self.workers], table)),
            sum(table[pid].cpu for pid in below([server.pid], table)),
            sum(table[pid].cpu for pid in database),
            time.monotonic(),
        )
