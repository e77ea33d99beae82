"""A proxy in front of a PDS: what a client asks comes through it in steps, and a test decides what befalls each.

It tells the same story of the sandbox and of a real PDS, which has no faults to arrange: `Silence.DROP` once the server
has done its work is what `Sandbox.drop` does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from itertools import count
from socket import SHUT_RD, socket
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from tests.support import QuietHandler

_PATIENCE = 60.0
"""Seconds that a server may take to answer."""

_OF_ONE_CONNECTION = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


class Phase(Enum):
    """The progress of a step."""

    BEFORE = auto()
    """It has arrived here, and the server knows nothing of it."""
    DURING = auto()
    """The server has done it, and the client has no answer."""
    AFTER = auto()
    """The client has its answer."""


class Silence(Enum):
    """A missing answer."""

    DROP = auto()
    """Its connection is closed."""
    HANG = auto()
    """Nothing, until it goes away. Whoever kills it chooses this: nothing that it still sends is then heard."""
    GONE = auto()
    """Its connection is closed, and no other will be had."""


@dataclass(frozen=True)
class Answer:
    """The answer to the client."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


@dataclass(frozen=True)
class Step:
    """A request of the client.

    Args:
        number: which one, the first being 1.
        method: its XRPC method, its operation of AWS, or else its verb and path.
        body: what it brings.
    """

    number: int
    method: str
    _server: str
    _verb: str
    _target: str
    _headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def send(self) -> Answer:
        """Have the server do it, now and whoever is still waiting for it; what the server says."""
        connection = HTTPConnection(self._server, timeout=_PATIENCE)
        try:
            connection.request(self._verb, self._target, self.body or None, self._headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), tuple(_passed_on(answer.getheaders())))
        finally:
            connection.close()


OnStep = Callable[[Step, Phase], Answer | Silence | None]
"""Called with each step at each phase that it comes to; what it returns befalls the step in place of going on."""


@contextmanager
def run(server_url: str, on_step: OnStep) -> Iterator[str]:
    """Run a proxy on a free port of 127.0.0.1 while the block lasts; its URL.

    When the block is left, nothing more is heard on any connection, and what is being answered is waited for. What went
    wrong here, or in `on_step`, is raised then.

    Args:
        server_url: the PDS. It must not tell clients its own address, as one does with a DID document in a session.
        on_step: decides.
    """
    server = urlsplit(server_url).netloc
    numbers = count(1)
    trouble: list[BaseException] = []
    connections: WeakSet[socket] = WeakSet()

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"
        timeout = _PATIENCE
        wbufsize = -1  # head and body leave together: apart, the body waits 40 ms for the client's acknowledgement
        disable_nagle_algorithm = True

        def do_GET(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            method = _method_of(self.command, self.path, self.headers.get("X-Amz-Target", ""))
            headers = dict(_passed_on(self.headers.items()))
            step = Step(next(numbers), method, server, self.command, self.path, headers, body)
            said = on_step(step, Phase.BEFORE)
            if said is None:
                answer = step.send()
                said = on_step(step, Phase.DURING) or answer
            if isinstance(said, Answer):
                self._say(said)
                said = on_step(step, Phase.AFTER)
            if isinstance(said, Silence):
                self._fall_silent(said)

        do_DELETE = do_PATCH = do_POST = do_GET

        def _say(self, answer: Answer) -> None:
            self.send_response_only(answer.status)
            for name, value in (*answer.headers, ("Content-Length", str(len(answer.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            self.wfile.flush()

        def _fall_silent(self, silence: Silence) -> None:
            self.close_connection = True
            if silence is Silence.HANG:
                with suppress(ConnectionError):
                    while self.connection.recv(1 << 16):
                        pass
            if silence is Silence.GONE:
                proxy.shutdown()
                proxy.socket.close()

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # so that their end is waited for

        def process_request(self, request: Any, client_address: Any) -> None:
            connections.add(request)
            super().process_request(request, client_address)

        def hear_no_more(self) -> None:
            # A client in this process keeps its idle connections.
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(SHUT_RD)

        def handle_error(self, request: object, client_address: object) -> None:
            error = sys.exception()
            # A client that was killed closes its connection in the middle.
            if error is not None and not isinstance(error, ConnectionError):
                trouble.append(error)

    with Server(("127.0.0.1", 0), Handler) as proxy:
        thread = Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            thread.join()
            proxy.hear_no_more()
    if trouble:
        raise trouble[0]


def _method_of(verb: str, target: str, operation: str) -> str:
    path = target.partition("?")[0]
    if operation:
        return operation.rpartition(".")[2]
    return path.removeprefix("/xrpc/") if path.startswith("/xrpc/") else f"{verb} {path}"


def _passed_on(headers: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in headers if name.lower() not in _OF_ONE_CONNECTION)
