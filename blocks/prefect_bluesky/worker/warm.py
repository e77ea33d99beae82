"""A Python that has imported Prefect already: it forks, where another would import for seconds.

    with running(["prefect.engine"]) as python:
        subprocess.run([python, "-m", "prefect.engine"])

`python` is a program that takes `-m MODULE`, `-c CODE` or a file, with arguments, as Python does. The program hands
all that it was given (arguments, environment, directory, open files) to a process that has done the imports, and that
forks. The program passes signals on, and ends as the forked process ends. If it is killed, the forked process is too.

This needs Linux: `pidfd_open`, `/proc` and the credentials of a Unix socket.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType

_PROGRAM = """#!{python} -IS
import json, os, signal, socket, sys
files = [int(name) for name in os.listdir("/proc/self/fd")]
files = [file for file in files if os.path.exists(f"/proc/self/fd/{{file}}")]
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda number, frame: line.send(bytes([number])))
given = {{"files": files, "arguments": sys.argv[1:], "cwd": os.getcwd(), "environment": dict(os.environ)}}
message = json.dumps(given).encode()
socket.send_fds(line, [len(message).to_bytes(4, "big")], files)
line.sendall(message)
# Nothing is said if the other end is gone.
status = int.from_bytes(line.recv(4) or b"\\1", "big", signed=True)
if status < 0:
    # Nobody can handle SIGKILL, which a process gets that takes too much memory.
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""

_ABOVE = 512
"""Open files of a forked process are numbered from here, until each has the number that the program had."""

NAME = "warm "
"""With what the names of forked processes begin; the number of the program follows."""


@contextmanager
def running(
    imports: Sequence[str], environment: Mapping[str, str] = MappingProxyType({}), *, for_tests: bool = False
) -> Iterator[Path]:
    """Keep such a Python until the context ends; its program.

    Args:
        imports: the modules to import.
        environment: what modules read when they are imported.
        for_tests: import only when the program first runs, and kill what still runs at the end. Else the imports are
            done at once, and what still runs at the end runs on.
    """
    with tempfile.TemporaryDirectory(prefix="prefect-bluesky-warm-") as temporary:
        address, program = f"{temporary}/socket", Path(temporary) / "python"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen(100)
        # The interpreter itself: `sys.executable` may be another such program, and the program needs no environment.
        program.write_text(_PROGRAM.format(python=Path("/proc/self/exe").readlink(), address=address))
        program.chmod(0o700)
        keeper = subprocess.Popen(  # noqa: S603 - no part of the command comes from outside
            [sys.executable, __file__, str(listener.fileno()), program, str(int(for_tests)), *imports],
            stdin=subprocess.PIPE,
            env=os.environ | environment,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        listener.close()
        try:
            yield program
        finally:
            if keeper.stdin:
                keeper.stdin.close()
            if for_tests:
                keeper.wait()


def is_possible() -> bool:
    """Return whether this system has what such a Python needs."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


@dataclass(frozen=True)
class _Task:
    """What a program was given."""

    asked_by: int
    files: dict[int, int]
    """The number that each open file has here, by the number that it has in the program."""
    arguments: list[str]
    cwd: str
    environment: dict[str, str]

    @classmethod
    def read(cls, line: socket.socket) -> _Task:
        pid, _, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        size, files, _, _ = socket.recv_fds(line, 4, 200)
        with line.makefile("rb") as stream:
            given = json.loads(stream.read(int.from_bytes(size, "big")))
        return cls(pid, dict(zip(given.pop("files"), files, strict=True)), **given)

    def take_over(self) -> None:
        """Be, as a process, what the program is."""
        os.setsid()
        # How others find that this process belongs to the program, whose child it is not.
        Path("/proc/self/comm").write_text(f"{NAME}{self.asked_by}")
        files = {theirs: fcntl.fcntl(ours, fcntl.F_DUPFD, _ABOVE) for theirs, ours in self.files.items()}
        os.closerange(0, _ABOVE)
        for theirs, ours in files.items():
            os.dup2(ours, theirs)
            os.close(ours)
        os.chdir(self.cwd)
        os.environ.clear()
        os.environ.update(self.environment)

    def run(self) -> None:
        """Do as Python does with such arguments."""
        from prefect import context
        from prefect.logging.configuration import setup_logging

        context.GLOBAL_SETTINGS_CONTEXT = context.root_settings_context()
        setup_logging(incremental=False)
        what, *sys.argv = self.arguments
        sys.path[:0] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        if what == "-m":
            # That the module was imported before is what this process is for.
            warnings.filterwarnings("ignore", ".* found in sys.modules after import", RuntimeWarning)
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        elif what == "-c":
            code, *sys.argv[1:] = sys.argv
            sys.argv[0] = what
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(compile(code, "<string>", "exec"), main.__dict__)  # noqa: S102 - as `python -c` does
        else:
            sys.argv = [what, *sys.argv]
            sys.path[0] = str(Path(what).parent)
            runpy.run_path(what, run_name="__main__")


@dataclass
class _Forker:
    """Forks for each program that comes, until its standard input closes."""

    listener: socket.socket
    imports: Sequence[str]
    for_tests: bool
    lines: dict[int, tuple[socket.socket, int]] = field(default_factory=dict)
    """The line to each program, and the process that was forked for it."""
    ends: dict[int, tuple[socket.socket, int]] = field(default_factory=dict)
    """The same, by a file that can be read when the process has ended."""
    poll: select.poll = field(default_factory=select.poll)

    def task(self) -> _Task | None:
        """Return its task in each forked process, and None at the end of the one that forks."""
        stdin, listener = sys.stdin.fileno(), self.listener.fileno()
        for file in (stdin, listener):
            self.poll.register(file, select.POLLIN)
        if not self.for_tests:
            _import(self.imports)
        is_open = True
        while is_open or self.ends:
            for file, _ in self.poll.poll():
                if file == stdin:
                    is_open = False
                    for each in (stdin, listener):
                        self.poll.unregister(each)
                    self.listener.close()
                    for _, pid in self.ends.values():
                        if self.for_tests:
                            _kill(pid)
                elif file == listener:
                    if (task := self._fork()) is not None:
                        return task
                elif file in self.lines:
                    self._pass_on(file)
                elif file in self.ends:
                    self._end(file)
        return None

    def _fork(self) -> _Task | None:
        _import(self.imports)
        line, _ = self.listener.accept()
        task = _Task.read(line)
        if not (pid := os.fork()):
            return task
        for ours in task.files.values():
            os.close(ours)
        end = os.pidfd_open(pid)
        self.lines[line.fileno()] = self.ends[end] = (line, pid)
        self.poll.register(line, select.POLLIN)
        self.poll.register(end, select.POLLIN)
        return None

    def _pass_on(self, file: int) -> None:
        """Pass a signal on, or kill the process whose program was killed."""
        line, pid = self.lines[file]
        with suppress(ConnectionResetError):
            if said := line.recv(1):
                with suppress(ProcessLookupError):
                    os.kill(pid, said[0])
                return
        self.poll.unregister(file)
        del self.lines[file]
        _kill(pid)

    def _end(self, file: int) -> None:
        """Tell a program how its process has ended."""
        line, pid = self.ends.pop(file)
        self.poll.unregister(file)
        os.close(file)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if self.lines.pop(line.fileno(), None):
            self.poll.unregister(line)
            with suppress(BrokenPipeError):
                line.sendall(status.to_bytes(4, "big", signed=True))
        line.close()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _import(names: Sequence[str]) -> None:
    if all(name in sys.modules for name in names):
        return
    for name in names:
        importlib.import_module(name)
    from prefect.plugins import load_prefect_collections

    load_prefect_collections()
    # What was imported is shared with the forked processes as long as nobody counts it.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    # This directory, from which nothing is imported.
    del sys.path[0]
    _listener, sys.executable, _for_tests, *_names = sys.argv[1:]
    task = _Forker(socket.socket(fileno=int(_listener)), _names, _for_tests == "1").task()
    if task is not None:
        task.take_over()
        task.run()
