"""Every example in a docstring runs, on the sandbox and a Prefect server."""

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
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
def names(prefect_api: str, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What an example may take for granted."""
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

    class Board(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            keys.append(self.headers["Idempotency-Key"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.send_header("Location", "https://board.example/1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Board) as server:
        Thread(target=server.handle_request, daemon=True).start()
        board = names["NoticeBoard"](url=f"http://127.0.0.1:{server.server_port}", token="secret")
        channel = channel_of(board)
        published = channel.publish(channel.fit(Draft(kind="hook", posts=("Hi",))), "key")
    assert (published.urls, keys) == (("https://board.example/1",), ["key"])
