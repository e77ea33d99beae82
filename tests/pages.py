"""The examples that stand in the documentation, to be run as they stand there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).parents[1]
_numbers = count()


def examples(page: str) -> dict[str, list[str]]:
    """The Python examples of a page by the headings that they stand under.

    Args:
        page: its path from the repository's root.
    """
    found: dict[str, list[str]] = {}
    heading = ""
    # Blocks of code come whole, so that no comment in one is taken for a heading.
    for title, language, code in re.findall(r"(?ms)^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", (ROOT / page).read_text()):
        heading = title or heading
        if language == "python":
            found.setdefault(heading, []).append(code)
    return found


def calls(page: str) -> list[str]:
    """Return the names that an example of a page needs."""
    return [
        f'"{heading}"' + (f", {number}" if number else "")
        for heading, found in examples(page).items()
        for number in range(len(found))
    ]


def run(
    page: str, folder: Path, heading: str, number: int = 0, instead: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """Import an example as a module of its own: Dask's workers and Prefect's blocks look for what they run in a file.

    Args:
        page: its page.
        folder: where to put the module; it is among those that Python looks in.
        heading: what it stands under.
        number: which one under that heading.
        instead: what stands for what lies outside.
    """
    code = examples(page)[heading][number]
    for outside, here in instead.items():
        assert outside in code, outside
        code = code.replace(outside, here)
    name = f"example_{next(_numbers)}"
    (folder / f"{name}.py").write_text(code)
    return import_module(name)
