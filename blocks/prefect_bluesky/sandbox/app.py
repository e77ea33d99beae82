"""The HTTP side: a Starlette app in front of the methods, and the server thread that runs the app on loopback."""

import asyncio
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .clock import Clock
from .faults import Fault
from .xrpc import Answer, Call, Json


@dataclass(frozen=True)
class Request:
    """A request that the sandbox received, without its tokens, passwords and content.

    Attributes:
        nsid: the XRPC method, such as "com.atproto.server.createSession", or the endpoint, such as "oauth/token".
        method: the HTTP method.
        status: the HTTP status of the answer; None if the connection was dropped without one.
        did: the account that the request was made for, or None.
    """

    nsid: str
    method: str
    status: int | None
    did: str | None


Respond = Callable[[Call], tuple[Answer, Fault]]
Directory = Callable[[str], Json | None]


def build(
    respond: Respond,
    clock: Clock,
    closing: asyncio.Event,
    *,
    directory: Directory | None = None,
    documents: Mapping[str, Json] | None = None,
    endpoints: Collection[str] = (),
) -> ASGIApp:
    """Return the app.

    Args:
        respond: answers one call. Runs on the event loop and must not block.
        clock: the clock of the Date headers.
        closing: set when the server stops, so that delayed answers wait no longer.
        directory: returns the DID document of a DID, or None. Without it there is no directory.
        documents: JSON by its path, for everybody to read.
        endpoints: names of what can be called besides XRPC methods, such as "oauth/token".
    """

    async def answered(request: HttpRequest) -> Response:
        try:
            content = await request.body()
        except ClientDisconnect:
            return Response()  # the client is gone
        path = request.url.path
        nsid = request.path_params.get("nsid", path.removeprefix("/"))
        call = Call(nsid, request.method, path, request.headers, request.query_params, content)
        answer, fault = respond(call)
        if fault.delay:
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), fault.delay)
        if fault.drop:
            return _Dropped()
        headers = {**answer.headers, "date": clock.http_date()}
        if answer.body is None or isinstance(answer.body, bytes):
            return Response(answer.body, answer.status, headers)
        return JSONResponse(answer.body, answer.status, headers)

    async def did_document(request: HttpRequest) -> Response:
        did = request.path_params["did"]
        found = directory(did) if directory else None
        # The words of https://plc.directory.
        return JSONResponse(found or {"message": f"DID not registered: {did}"}, 200 if found else 404)

    async def document(request: HttpRequest) -> Response:
        return JSONResponse((documents or {})[request.url.path], headers={"date": clock.http_date()})

    every_method = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(
        routes=[
            Route("/xrpc/{nsid}", answered, methods=every_method),
            *(Route(f"/{endpoint}", answered, methods=every_method) for endpoint in endpoints),
            *(Route(path, document) for path in documents or {}),
            Route("/{did}", did_document),
        ]
    )


@contextmanager
def listen() -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket on a free port of 127.0.0.1, and its address.

    Raises:
        OSError: there is no free port.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Connections inherit the option. Without it, an answer's body waits 40 ms for the client's acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def serve(make_app: Callable[[asyncio.Event], ASGIApp], listener: socket.socket) -> Iterator[None]:
    """Run an app on `listener`, in a separate thread, until the block is left."""
    server = _Server(make_app)
    thread = threading.Thread(target=server.run, args=([listener],), name="bluesky-sandbox", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


class _Server(uvicorn.Server):
    def __init__(self, make_app: Callable[[asyncio.Event], ASGIApp]) -> None:
        self._closing = asyncio.Event()
        config = uvicorn.Config(
            make_app(self._closing),
            loop="asyncio",
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)


class _Protocol(H11Protocol):
    """A protocol that gives every request its connection, so that the app can close the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}

    def shutdown(self) -> None:
        super().shutdown()
        if self.cycle is not None and self.cycle.more_body:
            self.transport.close()  # the rest of the body may never arrive


class _Dropped(Response):
    """No answer: closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["transport"].close()
        # If this returns while uvicorn still sees the client, uvicorn answers 500.
        while (await receive())["type"] != "http.disconnect":
            pass
