"""A web host of an OAuth client, as a real PDS reads it or as a sandbox is told of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, cast

from prefect_bluesky.sandbox import Sandbox
from tests.pds.client_host import DOCUMENT, ClientHost
from tests.support import Pds


class Host(Protocol):
    """A host with the files of one client. A PDS remembers for a while what it has read."""

    @property
    def url(self) -> str: ...
    def put(self, name: str, content: bytes) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def reread(self) -> None: ...


class ToldHost:
    """The host of a sandbox, which fetches nothing: it is told what a real PDS would have read by now."""

    def __init__(self, pds: Sandbox) -> None:
        self.url = f"https://client-{secrets.token_hex(4)}.internal"
        self._pds = pds
        self._document: dict[str, Any] | None = None
        self._is_up, self._is_told = True, False

    def put(self, name: str, content: bytes) -> None:
        """Have a file, in place of an earlier one."""
        if name == DOCUMENT:
            self._document = json.loads(content)
            if not self._is_told:
                self.reread()

    def start(self) -> None:
        """Answer from now on."""
        self._is_up = True
        if not self._is_told:
            self.reread()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._is_up = False

    def reread(self) -> None:
        """Let the sandbox know of the document what is true now."""
        self._is_told = self._is_up and self._document is not None
        if self._is_told and self._document is not None:
            self._pds.host_client(self._document)
        else:
            with suppress(LookupError):
                self._pds.remove_client(f"{self.url}/{DOCUMENT}")


@contextmanager
def host_of(pds: Pds) -> Iterator[Host]:
    """A host of the kind that a PDS needs."""
    if isinstance(pds, Sandbox):
        yield ToldHost(pds)
    else:
        with ClientHost(cast(Any, pds)) as host:
            yield host
