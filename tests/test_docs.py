"""Every example in a docstring runs, on the sandbox and a Prefect server."""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prefect import flow

import prefect_bluesky
from prefect_bluesky import sandbox
from tests.support import block

MODULES = [
    importlib.import_module(found.name) for found in pkgutil.walk_packages(prefect_bluesky.__path__, "prefect_bluesky.")
]
EXAMPLES = [
    module
    for module in [prefect_bluesky, *MODULES]
    if any(test.examples for test in doctest.DocTestFinder(exclude_empty=True).find(module))
]


@pytest.fixture
def names(prefect_api: str, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What an example may take for granted."""
    (tmp_path / "december.yaml").write_text("- {account: alice, text: Good morning}")
    with sandbox.run() as pds:
        alice = pds.create_account("alice.test")
        credentials = block(pds, alice)
        credentials.save("alice", overwrite=True)
        credentials.ensure_session()
        yield {
            "pds": pds,
            "alice": alice,
            "credentials": credentials,
            "authenticator": credentials._authenticator(),
            "flow": flow,
            "calendars": tmp_path,
        }


@pytest.mark.parametrize("module", EXAMPLES, ids=lambda module: module.__name__)
def test_the_examples_of(module: ModuleType, names: dict[str, Any]) -> None:
    failed, tried = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0
