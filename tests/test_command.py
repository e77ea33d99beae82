"""The command `prefect-bluesky`."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

from prefect_bluesky.__main__ import main
from tests.support import Command


def test_the_package_brings_it() -> None:
    (script,) = entry_points(group="console_scripts", name="prefect-bluesky")
    assert script.load() is main


@pytest.mark.parametrize("asked", [(), ("--help",), ("-h",), ("help",)], ids=str)
def test_help_names_each_command_with_what_it_does(command: Command, asked: tuple[str, ...]) -> None:
    code, said, _ = command(*asked)
    assert code is None
    listed = re.findall(r"^  (\S+)  +(\S.*)$", said, re.MULTILINE)
    assert [name for name, _ in listed] == [
        "demo", "setup", "oauth-client", "authorize", "publish", "publish-batch", "planned", "held", "compose",
        "report", "diagnose", "completion",
    ]  # fmt: skip


def test_it_knows_its_version(command: Command) -> None:
    assert command("--version")[1] == f"prefect-bluesky {version('prefect-bluesky')}\n"


@pytest.mark.parametrize("name", ["demo", "setup", "publish", "publish-batch", "planned", "held", "compose", "report"])
def test_each_command_explains_itself_under_the_name_that_a_person_types(command: Command, name: str) -> None:
    code, said, _ = command(name, "--help")
    assert code == 0
    assert said.startswith(f"usage: prefect-bluesky {name} ")


@pytest.mark.parametrize(("typed", "hint"), [("publsh", " Did you mean publish?"), ("frobnicate", "")])
def test_an_unknown_command_is_refused_with_the_nearest_one(command: Command, typed: str, hint: str) -> None:
    said = f"prefect-bluesky: there is no command '{typed}'.{hint} `prefect-bluesky --help` lists them.\n"
    assert command(typed) == (2, "", said)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_completes_commands_and_their_options(command: Command, shell: str) -> None:
    code, script, _ = command("completion", shell)
    assert code is None
    assert all(each in script for each in ("publish-batch", "overwrite", "planned", "move"))


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="no bash here")
def test_bash_takes_the_script_and_completes(command: Command, tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(command("completion", "bash")[1])
    asked = 'COMP_WORDS=(prefect-bluesky pla); COMP_CWORD=1; _shtab_prefect_bluesky; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["/bin/bash", "-c", f"source {script}; {asked}"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("planned", "")


def test_an_unknown_shell_is_told_which_are_known(command: Command) -> None:
    assert (
        command("completion", "fish")[0]
        == "shell: 'fish' is not one of bash, zsh, tcsh. Run: prefect-bluesky completion bash"
    )
