"""The processes of this machine, out of /proc: what has started what, and how long each has run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests import warm


@dataclass(frozen=True)
class Process:
    """A process.

    Attributes:
        name: its name.
        parent: the number of the process that has started it. A forked process of `tests.warm` counts as started by
            its program, whose number is in its name.
        group: its process group.
        cpu: its CPU seconds, with those of its children that have ended. A child counts as ended once its parent has
            waited for it; until then it is listed itself.
    """

    name: str
    parent: int
    group: int
    cpu: float


def processes() -> dict[int, Process]:
    """Return all processes by their numbers."""
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            fields = rest.split()
            parent = name.removeprefix(warm.NAME) if name.startswith(warm.NAME) else fields[1]
            cpu = sum(map(int, fields[11:15])) / tick
            found[int(entry.name)] = Process(name, int(parent), int(fields[2]), cpu)
    return found


def below(pids: Iterable[int], table: Mapping[int, Process]) -> set[int]:
    """Return some processes and all that they have started."""
    tree, size = set(pids), 0
    while len(tree) > size:
        size = len(tree)
        tree |= {pid for pid, process in table.items() if process.parent in tree}
    return tree & table.keys()
