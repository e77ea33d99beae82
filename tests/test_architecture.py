"""The package is built as docs/architecture.md draws it."""

import ast
import importlib
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.pages import ROOT

PACKAGE = ROOT / "blocks" / "prefect_bluesky"
FLOWS = ROOT / "flows"
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def floors() -> list[list[str]]:
    """The rooms and top-level modules of each row of the page's table, the highest floor first."""
    table = PAGE.partition("## The rooms")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [re.findall(r"`([a-z_]+)", row) for row in rows]


def modules() -> dict[str, Path]:
    """Each module of the package by its dotted name, without the package's own name."""
    names = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in names.items() if name != "__init__"}


def room_of(module: str) -> str:
    """The room, or the top-level module, that a module belongs to."""
    return module.partition(".")[0]


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Each name that a file imports of the package, with the module that it names: in function bodies too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("prefect_bluesky") for alias in node.names), path
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "prefect_bluesky":
            yield from (((node.module or "").partition(".")[2], alias.name) for alias in node.names)


def test_the_page_names_each_room_once() -> None:
    named = [name for floor in floors() for name in floor]
    assert sorted(named) == sorted({room_of(module) for module in modules()})


def test_imports_lead_down() -> None:
    floor_of = {name: number for number, floor in enumerate(floors()) for name in floor}
    wrong = [
        f"{module} imports {imported or 'the package'}"
        for module, path in modules().items()
        for imported, _ in imports(path)
        if room_of(imported) != room_of(module)
        and (not imported or floor_of[room_of(imported)] <= floor_of[room_of(module)])
    ]
    assert wrong == []


def test_modules_of_a_room_import_each_other_without_a_circle() -> None:
    known = modules()
    graph: dict[str, set[str]] = {module: set() for module in known}
    for module, path in known.items():
        for imported, name in imports(path):
            inner = f"{imported}.{name}"
            graph[module].add(inner if inner in known else imported)
    # Raises CycleError where there is one.
    assert len(list(TopologicalSorter(graph).static_order())) == len(known)


@pytest.mark.parametrize("folder", [PACKAGE, FLOWS, ROOT / "deployments"], ids=lambda folder: folder.name)
def test_a_room_is_entered_by_its_door(folder: Path) -> None:
    wrong = []
    for path in folder.rglob("*.py"):
        here = path.relative_to(PACKAGE).parts[0] if folder == PACKAGE else ""
        for imported, name in imports(path):
            if room_of(imported) == here or (folder != PACKAGE and not imported):
                continue
            door = importlib.import_module(f"prefect_bluesky.{imported}")
            if "." in imported or name not in getattr(door, "__all__", [name]) or name.startswith("_"):
                wrong.append(f"{path.name}: from prefect_bluesky.{imported} import {name}")
    assert wrong == []


def test_the_package_is_small_at_the_top() -> None:
    folders = [path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    assert len(list(PACKAGE.glob("*.py"))) <= 9
    assert len(folders) <= 16


def test_a_flow_file_is_little_more_than_its_signature() -> None:
    long = {path.name: lines for path in FLOWS.glob("*.py") if (lines := path.read_text().count("\n")) > 165}
    assert long.keys() <= {"demo.py"}


def test_each_module_says_first_what_it_is() -> None:
    silent = [module for module, path in modules().items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []
