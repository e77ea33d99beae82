"""Every example in a docstring runs, on the sandbox and a Prefect server."""

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prefect import flow
from pydantic import SecretStr

import prefect_bluesky
from prefect_bluesky import BlueskyCredentials, sandbox
from prefect_bluesky.channels import MastodonCredentials, channel_of
from prefect_bluesky.channels.draft import Draft
from tests import mastodon_server
from tests.support import QuietHandler, block, forget_stored_session, http_server

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
    """The names that an example may use."""
    (tmp_path / "december.yaml").write_text("- {account: alice, text: Good morning}")
    with sandbox.run() as pds, mastodon_server.run() as mastodon:
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


def test_the_channel_that_a_page_adds_publishes() -> None:
    page = (Path(__file__).parents[1] / "docs" / "adding-a-channel.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, "adding-a-channel.md", "exec"), names)
    keys: list[str | None] = []

    class Board(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802
            keys.append(self.headers["Idempotency-Key"])
            self.body()
            self.answer(201, Location="https://board.example/1")

    with http_server(Board) as port:
        board = names["NoticeBoard"](url=f"http://127.0.0.1:{port}", token="secret")
        channel = channel_of(board)
        published = channel.publish(channel.fit(Draft(kind="hook", posts=("Hi",))), "key")
    assert (published.urls, keys) == (("https://board.example/1",), ["key"])
