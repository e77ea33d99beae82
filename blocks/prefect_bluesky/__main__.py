"""The command `prefect-bluesky`: each script of this project by its name, such as `prefect-bluesky publish "Hello"`."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.markup import escape

from prefect_bluesky.validation import nearest

_COMMANDS = {
    "demo": ("prefect_bluesky.flows.demo", "see all of it on this machine, without an account"),
    "setup": ("prefect_bluesky.setup", "set up a Prefect server: deployments, automations, limits; --check compares"),
    "oauth-client": ("prefect_bluesky.setup.oauth_client", "make an OAuth client, or change its key"),
    "authorize": ("prefect_bluesky.flows.authorize", "let an account's owner grant access by OAuth"),
    "publish": ("prefect_bluesky.flows.publish", "publish a post"),
    "publish-batch": ("prefect_bluesky.flows.publish_batch", "publish a calendar, now and later"),
    "planned": ("prefect_bluesky.flows.planned", "list, show, move, change and drop planned posts"),
    "held": ("prefect_bluesky.flows.held", "list, show and discard held posts"),
    "compose": ("prefect_bluesky.flows.compose", "make posts of an idea, for each channel"),
    "report": ("prefect_bluesky.flows.report", "report how posts did"),
    "diagnose": ("prefect_bluesky.flows.diagnose", "find out why an account cannot publish"),
}
"""The module of each command, with what the command does. A module is imported only for its command."""

_COMPLETION = "completion"
_SHELLS = ("bash", "zsh", "tcsh")


def main() -> None:
    """Run the command that the first argument names. Exit as the command does, or with 2 if there is none."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in {"-h", "--help", "help"}:
        _print_help()
    elif name == "--version":
        Console(highlight=False).print(f"prefect-bluesky {version('prefect-bluesky')}")
    elif name == _COMPLETION:
        _print_completion(rest)
    elif name in _COMMANDS:
        # As a script is called: its usage begins with this name.
        sys.argv = [f"prefect-bluesky {name}", *rest]
        _module(name).main()
    else:
        _refuse(name)


def _module(name: str) -> Any:
    return import_module(_COMMANDS[name][0])


def _print_help() -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print("[bold]prefect-bluesky[/] COMMAND …\n\nPublish to Bluesky from Prefect.\n")
    for name, (_, what) in _COMMANDS.items():
        console.print(f"  [cyan]{name:<14}[/] {escape(what)}")
    shells = ", ".join(_SHELLS)
    console.print(f"  [cyan]{_COMPLETION:<14}[/] print a script that completes commands, for {shells}")
    console.print("\n`prefect-bluesky COMMAND --help` explains a command. PREFECT_API_URL names the Prefect server.")


def _print_completion(rest: list[str]) -> None:
    import argparse  # each command imports what it needs itself

    import shtab

    top = argparse.ArgumentParser(prog="prefect-bluesky")
    commands = top.add_subparsers()
    for name, (_, what) in _COMMANDS.items():
        commands.add_parser(name, help=what, parents=[_module(name).parser()], add_help=False)
    shell = rest[0] if rest else ""
    if shell not in _SHELLS:
        sys.exit(f"shell: {shell!r} is not one of {', '.join(_SHELLS)}. Run: prefect-bluesky {_COMPLETION} bash")
    Console(highlight=False, soft_wrap=True).out(shtab.complete(top, shell=shell))


def _refuse(name: str) -> None:
    near = nearest(name, [*_COMMANDS, _COMPLETION])
    hint = f" Did you mean {near}?" if near else ""
    sys.stderr.write(f"prefect-bluesky: there is no command {name!r}.{hint} `prefect-bluesky --help` lists them.\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
