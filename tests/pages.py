"""The pages of the documentation, and the examples and commands on them, to be run as they stand there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for folder in (".", "docs", "docs/reference", "deployments")
    for page in (ROOT / folder).glob("*.md")
)
"""All pages by their paths from the repository's root."""

_numbers = count()


def examples(page: str, wanted: str = "python") -> dict[str, list[str]]:
    """The examples of a page by the headings that they stand under.

    Args:
        page: its path from the repository's root.
        wanted: the language of the examples.
    """
    found: dict[str, list[str]] = {}
    heading = ""
    # Blocks of code come whole, so that no comment in one is taken for a heading.
    for title, language, code in re.findall(r"(?ms)^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", (ROOT / page).read_text()):
        heading = title or heading
        if language == wanted:
            found.setdefault(heading, []).append(code)
    return found


def calls(page: str) -> list[str]:
    """Return the names that an example of a page needs."""
    return [
        f'"{heading}"' + (f", {number}" if number else "")
        for heading, found in examples(page).items()
        for number in range(len(found))
    ]


def commands(page: str) -> Iterator[list[str]]:
    """The commands of `prefect-bluesky` on a page: on lines for a shell, and within sentences.

    Args:
        page: its path from the repository's root.
    """
    blocks = "".join(block for found in examples(page, "bash").values() for block in found)
    sentences = re.sub(r"(?ms)^```.*?^```", "", (ROOT / page).read_text())
    for line in re.findall(r"(?m)(?:^|\s)prefect-bluesky (.*)$", blocks):
        yield shlex.split(line.partition(" >> ")[0], comments=True)
    for inline in re.findall(r"`(?:uv run )?prefect-bluesky ([^`]*)`", sentences):
        typed = shlex.split(inline)
        # Within a sentence, a name alone names a command.
        yield typed if len(typed) > 1 else [*typed, "--help"]


def run(
    folder: Path, page: str, heading: str, number: int = 0, instead: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """Import an example as a module of its own: Dask's workers and Prefect's blocks look for what they run in a file.

    Args:
        folder: where to put the module; it is among those that Python looks in.
        page: its page.
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
