"""The built wheel in an environment that knows no clone, with a Prefect server and a worker of that environment."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT, CompletedProcess, Popen, run

import httpx

from tests import OUTSIDE
from tests.support import ROOT

_PATIENCE = 300.0
"""Seconds until the server answers: the first start makes the database."""


def build_wheel(folder: Path) -> Path:
    """Build the wheel into a folder; its file."""
    _checked(_run("uv", "build", "--wheel", "--out-dir", str(folder), cwd=ROOT))
    (built,) = folder.glob("*.whl")
    return built


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and the settings of the Prefect server that runs in it."""

    folder: Path
    environment: dict[str, str]

    def program(self, name: str) -> str:
        return str(self.folder / "env" / "bin" / name)

    def run(self, name: str, *arguments: str) -> str:
        """Run a program of the environment, in a folder without a clone; its output."""
        return _checked(self.attempt(name, *arguments))

    def attempt(self, name: str, *arguments: str) -> CompletedProcess[str]:
        """Run a program as `run` does, also one that is to fail."""
        return _run(self.program(name), *arguments, cwd=self.folder, **self.environment)

    @property
    def address(self) -> str:
        """The address of the server's UI."""
        return self.environment["PREFECT_API_URL"].removesuffix("/api")

    @contextmanager
    def server(self, *, ui: bool = False) -> Iterator[None]:
        """Run `prefect server start`. The environment's programs know its API."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = ["--port", str(port)] + ["--no-ui"] * (not ui)
        url = f"http://127.0.0.1:{port}/api"
        # Else the UI looks for the API at port 4200 (Prefect 3.8.8 to 3.9.1).
        self.environment["PREFECT_SERVER_UI_API_URL"] = url
        # It would be in the pictures.
        self.environment["PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT"] = "false"
        with self._running("server", "prefect", "server", "start", *options) as server:
            deadline = time.monotonic() + _PATIENCE
            while not _answers(f"{url}/health"):
                has_failed = server.poll() is not None or time.monotonic() > deadline
                assert not has_failed, self.log("server")
                time.sleep(0.2)
            self.environment["PREFECT_API_URL"] = url
            yield

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run a worker, as `prefect-bluesky setup` says."""
        with self._running("worker", "prefect", "worker", "start", "--pool", "bluesky"):
            yield

    def log(self, name: str) -> str:
        """Return what the server or the worker has printed."""
        return (self.folder / f"{name}.log").read_text()

    @contextmanager
    def _running(self, name: str, program: str, *arguments: str) -> Iterator[Popen[bytes]]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = Popen(
                [self.program(program), *arguments],
                cwd=self.folder,
                env=_outside() | self.environment,
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            # The server is a child of its command. A worker passes the signal on to the runs it has started.
            os.killpg(process.pid, signal.SIGKILL if name == "server" else signal.SIGTERM)
            process.wait()


def install(wheel: Path, folder: Path, *, prefect: str) -> Installed:
    """Install the wheel beside a Prefect that was there before."""
    _checked(_run("uv", "venv", "--quiet", "--python", sys.executable, str(folder / "env")))
    made = Installed(folder, {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"})
    # One after the other, as for somebody who has that Prefect already.
    for wanted in (prefect, str(wheel)):
        _checked(_run("uv", "pip", "install", "--quiet", "--python", made.program("python"), wanted))
    return made


def install_with_pip(wheel: Path, folder: Path) -> Installed:
    """Install the wheel with plain pip on a fresh machine: pip chooses the Prefect."""
    _checked(_run(sys.executable, "-m", "venv", str(folder / "env")))
    made = Installed(folder, {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"})
    made.run("pip", "install", "--quiet", str(wheel))
    return made


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _outside() -> dict[str, str]:
    """The environment without what is set for this one."""
    return {
        name: value for name, value in OUTSIDE.items() if not name.startswith(("PREFECT_", "VIRTUAL_ENV", "PYTHONDONT"))
    }


def _run(*command: str, cwd: Path | None = None, **environment: str) -> CompletedProcess[str]:
    return run(command, cwd=cwd, env=_outside() | environment, capture_output=True, text=True, check=False)


def _checked(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
