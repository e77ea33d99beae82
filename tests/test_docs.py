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
from pydantic import SecretStr

import prefect_bluesky
from prefect_bluesky import BlueskyCredentials, sandbox
from prefect_bluesky.channels import MastodonCredentials
from tests import mastodon_server
from tests.support import block, forget_stored_session

MODULES = [
    importlib.import_module(found.name) for found in pkgutil.walk_packages(prefect_bluesky.__path__, "prefect_bluesky.")
]
EXAMPLES = [
    module
    for module in [prefect_bluesky, *MODULES]
    if any(test.examples for test in doctest.DocTestFinder(exclude_empty=True).find(module))
]


@pytest.fixture
def names(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names that an example may use."""
    (tmp_path / "december.yaml").write_text("- {account: alice, text: Good morning}")
    with sandbox.run() as pds, mastodon_server.run() as mastodon:
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", pds.plc_url)
        MastodonCredentials(instance_url=mastodon.url, access_token=SecretStr("good-token")).save(
            "alice", overwrite=True
        )
        alice = pds.create_account("alice.test")
        credentials = block(pds, alice)
        credentials.save("alice", overwrite=True)
        forget_stored_session(credentials)
        credentials.ensure_session()
        yield {
            "pds": pds,
            "alice": alice,
            "credentials": credentials,
            "BlueskyCredentials": BlueskyCredentials,
            "authenticator": credentials._authenticator(),
            "flow": flow,
            "calendars": tmp_path,
        }


@pytest.mark.parametrize("module", EXAMPLES, ids=lambda module: module.__name__)
def test_the_examples_of(module: ModuleType, names: dict[str, Any]) -> None:
    failed, tried = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0
