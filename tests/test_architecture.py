"""The package is built as docs/architecture.md draws it."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.pages import ROOT

PACKAGE = ROOT / "blocks" / "prefect_bluesky"
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def modules() -> dict[str, Path]:
    """Each module of the package by what it is called there: a folder's files go with the folder."""
    return {
        str(path.relative_to(PACKAGE)).removesuffix(".py"): path
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"
    }


def layers() -> list[list[str]]:
    """The modules and folders that each line of the page's table names."""
    table = PAGE.partition("## Where things are")[2].partition("\n\n`flows/`")[0]
    return [re.findall(r"`([a-z_0-9/]+)`", line) for line in table.splitlines() if line.startswith("| ")][1:]


def layer_of(module: str) -> int:
    """Which line names a module."""
    name = f"{module.partition('/')[0]}/" if "/" in module else module
    (found,) = [number for number, names in enumerate(layers()) if name in names]
    return found


def imported(path: Path) -> Iterator[str]:
    """What a module imports of the package when it is imported itself."""
    for statement in _executed(ast.parse(path.read_text()).body):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif statement.module == "prefect_bluesky":
            names = [f"prefect_bluesky.{alias.name}" for alias in statement.names]
        else:
            names = [statement.module or ""]
        for name in names:
            if name.startswith("prefect_bluesky."):
                inside = name.removeprefix("prefect_bluesky.").replace(".", "/")
                yield f"{inside}/__init__" if (PACKAGE / inside).is_dir() else inside


def _executed(statements: Iterable[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports among statements, but for those of type checkers and of functions."""
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif isinstance(statement, ast.Try) or (
            isinstance(statement, ast.If) and "TYPE_CHECKING" not in ast.dump(statement.test)
        ):
            yield from _executed(child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt))


def test_the_page_names_each_module_once() -> None:
    named = [name for layer in layers() for name in layer]
    there = {f"{name.partition('/')[0]}/" if "/" in name else name for name in modules()}
    assert (sorted(named), len(named)) == (sorted(there), len(set(named)))


def test_imports_run_one_way() -> None:
    known = modules()
    backwards = [
        f"{module} imports {other}"
        for module, path in known.items()
        for other in imported(path)
        # What is no module is a public name, of the very top.
        if other not in known or layer_of(other) > layer_of(module)
    ]
    assert backwards == []


def test_the_sandbox_stands_alone() -> None:
    outside = {
        other
        for module, path in modules().items()
        if module.startswith("sandbox/")
        for other in imported(path)
        if not other.startswith("sandbox")
    }
    assert outside == set()


def test_each_module_says_first_what_it_is() -> None:
    silent = [module for module, path in modules().items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []
