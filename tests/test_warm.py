"""The Python that forks: what a program is given arrives, and what becomes of one becomes of the other."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from prefect_bluesky.worker.warm import running
from tests import warm
from tests.world import wait_for


def run(
    *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the program; how it ended."""
    command = [warm.python(), *arguments]
    return subprocess.run(command, cwd=cwd, env=env, pass_fds=pass_fds, capture_output=True, text=True, check=False)


def test_code_a_module_and_a_file_get_their_arguments(tmp_path: Path) -> None:
    code = "import sys; print(__name__, sys.argv[1:])"
    (tmp_path / "program.py").write_text(code)
    said = [
        run("-c", code, "a", "b").stdout,
        run(tmp_path / "program.py", "a", "b").stdout,
        run("-m", "program", "a", "b", cwd=tmp_path).stdout,
    ]
    assert said == ["__main__ ['a', 'b']\n"] * 3


def test_prefect_is_imported_already_and_reads_the_environment_anew() -> None:
    code = (
        "import sys; print('prefect' in sys.modules); import prefect; print(prefect.settings.PREFECT_API_URL.value())"
    )
    said = run("-c", code, env={"PREFECT_API_URL": "http://a.test/api"}).stdout
    assert said.split() == ["True", "http://a.test/api"]


def test_a_module_that_is_imported_already_is_run_without_a_warning() -> None:
    said = run("-m", "prefect.engine", "--help")
    assert "RuntimeWarning" not in said.stderr


def test_directory_and_open_files_are_those_of_the_program(tmp_path: Path) -> None:
    read, write = os.pipe()
    code = f"import os; os.write({write}, os.getcwd().encode())"
    assert run("-c", code, cwd=tmp_path, pass_fds=[write]).returncode == 0
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == str(tmp_path)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("", 0),
        ("raise SystemExit(3)", 3),
        ("1 / 0", 1),
        ("import os; os.abort()", -6),
        ("import os; os.kill(os.getpid(), 9)", -9),
    ],
)
def test_the_program_ends_as_its_process_ends(code: str, status: int) -> None:
    assert run("-c", code).returncode == status


def started(tmp_path: Path, code: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a program; it, and the number of its process, once the code has written it."""
    file = tmp_path / "pid"
    write = f"import os, pathlib; pathlib.Path({str(file)!r}).write_text(f'{{os.getpid()}}.')"
    program = subprocess.Popen([warm.python(), "-c", code.format(write=write)])
    wait_for(lambda: file.exists() and file.read_text().endswith("."), "the process")
    return program, int(file.read_text()[:-1])


def is_alive(pid: int) -> bool:
    # One that has ended keeps its number until its parent has looked.
    return Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() != b""


def test_a_signal_reaches_the_process(tmp_path: Path) -> None:
    waits = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n{write}\nsignal.pause()"
    program, _ = started(tmp_path, waits)
    program.terminate()
    assert program.wait() == 7


def test_a_program_that_is_killed_takes_its_process_with_it(tmp_path: Path) -> None:
    program, pid = started(tmp_path, "import signal\n{write}\nsignal.pause()")
    program.kill()
    assert program.wait() == -signal.SIGKILL
    wait_for(lambda: not is_alive(pid), "the end of the process")


def test_what_still_runs_when_a_worker_stops_runs_on() -> None:
    code = "print('begun', flush=True); print(input())"
    with running(["json"]) as program:
        process = subprocess.Popen([program, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
    said, _ = process.communicate("still here\n", timeout=60)
    assert (said, process.returncode) == ("still here\n", 0)
