"""A service that Apprise reaches: it takes texts as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from prefect_bluesky.channels import AppriseService
from tests.support import QuietHandler, http_server


class Place:
    """Takes messages as JSON."""

    def __init__(self) -> None:
        self.port = 0
        self.texts: list[str] = []
        self.status = 200

    @property
    def service(self) -> AppriseService:
        return AppriseService(url=SecretStr(f"json://127.0.0.1:{self.port}/"))


@contextmanager
def run() -> Iterator[Place]:
    """A service, until the context ends."""
    place = Place()

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802
            place.texts.append(json.loads(self.body())["message"])
            self.answer(place.status)

    with http_server(Handler) as place.port:
        yield place
