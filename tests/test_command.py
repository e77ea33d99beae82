"""The command `prefect-bluesky`."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_bluesky import __main__ as command


@pytest.fixture
def unused_port() -> int:
    """A port of loopback on which nothing answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process; its exit (None: well), its output and its errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["prefect-bluesky", *arguments])
        code: object = None
        try:
            command.main()
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_the_package_brings_it() -> None:
    (script,) = entry_points(group="console_scripts", name="prefect-bluesky")
    assert script.load() is command.main


@pytest.mark.parametrize("asked", [(), ("--help",), ("-h",), ("help",)], ids=str)
def test_help_names_each_command_with_what_it_does(run: Run, asked: tuple[str, ...]) -> None:
    code, said, _ = run(*asked)
    assert code is None
    listed = re.findall(r"^  (\S+)  +(\S.*)$", said, re.MULTILINE)
    assert [name for name, _ in listed] == [
        "demo", "setup", "publish", "publish-batch", "planned", "held", "compose", "report", "diagnose", "completion",
    ]  # fmt: skip


def test_it_knows_its_version(run: Run) -> None:
    assert run("--version")[1] == f"prefect-bluesky {version('prefect-bluesky')}\n"


@pytest.mark.parametrize("name", ["demo", "setup", "publish", "publish-batch", "planned", "held", "compose", "report"])
def test_each_command_explains_itself_under_the_name_that_a_person_types(run: Run, name: str) -> None:
    code, said, _ = run(name, "--help")
    assert code == 0
    assert said.startswith(f"usage: prefect-bluesky {name} ")


@pytest.mark.parametrize(("typed", "hint"), [("publsh", " Did you mean publish?"), ("frobnicate", "")])
def test_an_unknown_command_is_refused_with_the_nearest_one(run: Run, typed: str, hint: str) -> None:
    said = f"prefect-bluesky: there is no command '{typed}'.{hint} `prefect-bluesky --help` lists them.\n"
    assert run(typed) == (2, "", said)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_completes_commands_and_their_options(run: Run, shell: str) -> None:
    code, script, _ = run("completion", shell)
    assert code is None
    assert all(each in script for each in ("publish-batch", "overwrite", "planned", "move"))


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="no bash here")
def test_bash_takes_the_script_and_completes(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(run("completion", "bash")[1])
    asked = 'COMP_WORDS=(prefect-bluesky pla); COMP_CWORD=1; _shtab_prefect_bluesky; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["/bin/bash", "-c", f"source {script}; {asked}"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("planned", "")


def test_an_unknown_shell_is_told_which_are_known(run: Run) -> None:
    assert (
        run("completion", "fish")[0]
        == "shell: 'fish' is not one of bash, zsh, tcsh. Run: prefect-bluesky completion bash"
    )


class TestSetup:
    """prefect-bluesky setup."""

    def test_without_a_server_it_says_how_to_start_one(self, run: Run) -> None:
        code, said, _ = run("setup")
        assert said == ""
        assert code == (
            "PREFECT_API_URL: it is not set, so there is no server to set up."
            " Start one with `prefect server start`, and set it to http://127.0.0.1:4200/api."
        )

    def test_a_server_that_does_not_answer_is_named(self, run: Run, unused_port: int) -> None:
        url = f"http://127.0.0.1:{unused_port}/api"
        with temporary_settings({PREFECT_API_URL: url}):
            code, said, _ = run("setup", "--check")
        assert said == ""
        assert code == (
            f"PREFECT_API_URL: the server at {url} does not answer (ConnectError)."
            " Start one with `prefect server start`, or correct the URL."
        )
