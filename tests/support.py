"""Helpers of several tests: accounts, blocks, sessions and small servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from random import Random
from threading import Thread
from types import MappingProxyType
from typing import Any, Protocol
from unittest.mock import patch
from uuid import UUID, uuid4

import httpx
from PIL import Image
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, State
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from prefect_bluesky import BlueskyCredentials
from prefect_bluesky.prefect_api import read_runs
from prefect_bluesky.protocol.oauth import proofs

ROOT = Path(__file__).parents[1]

LOGIN = "com.atproto.server.createSession"
REFRESH = "com.atproto.server.refreshSession"
WRITE = "com.atproto.repo.applyWrites"
RESOLVE = "com.atproto.identity.resolveHandle"
STATUS = "com.atproto.sync.getRepoStatus"

EVIDENCE = {RESOLVE: 1, STATUS: 1}
"""What a PDS is asked once a login is refused, before the cause is named."""


Command = Callable[..., tuple[object, str, str]]
"""The command `prefect-bluesky` with its arguments: its exit (None: well), its output and its errors."""


class Account(Protocol):
    """An account on a PDS, with the passwords that it was made with."""

    @property
    def did(self) -> str: ...
    @property
    def handle(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def app_password(self) -> str: ...


class Request(Protocol):
    """A request that arrived at a PDS."""

    @property
    def nsid(self) -> str: ...
    @property
    def status(self) -> int | None: ...


class Pds(Protocol):
    """The common interface of the sandbox and the real PDS."""

    url: str
    plc_url: str

    def create_account(self, handle: str | None = None) -> Any: ...
    def create_app_password(self, account: Any, name: str, privileged: bool = False) -> str: ...
    def revoke_app_password(self, account: Any, password: str | None = None) -> None: ...
    def change_password(self, account: Any, new: str) -> None: ...
    def deactivate(self, account: Any) -> None: ...
    def take_down(self, account: Any) -> None: ...
    def move(self, account: Any, pds_url: str) -> None: ...
    def delete_account(self, account: Any) -> None: ...
    def mint(self, account: Any, kind: Any = "access", **claims: Any) -> str: ...
    def consent(self, account: Any, link: str) -> str: ...
    def refuse(self, link: str) -> str: ...
    def expire(self, access_token: str) -> str: ...
    def requests(self, nsid: str | None = None) -> Sequence[Request]: ...
    def posts(self, account: Any) -> list[dict[str, Any]]: ...


def block(
    pds: Pds, account: Account, *, app_password: str | None = None, aws_credentials: AwsCredentials | None = None
) -> BlueskyCredentials:
    """The block of an account, or one with another app password."""
    return BlueskyCredentials(
        handle=account.handle,
        app_password=SecretStr(app_password or account.app_password),
        service_url=pds.url,
        aws_credentials=aws_credentials,
    )


def saved_block(
    pds: Pds, account: Account, *, app_password: str | None = None, aws_credentials: AwsCredentials | None = None
) -> BlueskyCredentials:
    """The block of an account, saved in Prefect under a name of its own: whose trouble people are told of."""
    credentials = block(pds, account, app_password=app_password, aws_credentials=aws_credentials)
    credentials.save(f"account-{uuid4().hex[:8]}")
    return credentials


class SavedAccount:
    """An account of a PDS with its saved block, as a calendar names it."""

    def __init__(self, pds: Any) -> None:
        self.pds = pds
        self.account = pds.create_account()
        self.name = f"account-{uuid4().hex[:8]}"
        block(pds, self.account).save(self.name)

    def item(self, text: str, **fields: Any) -> dict[str, Any]:
        """A planned post of it."""
        return {"account": self.name, "text": text, **fields}

    @property
    def texts(self) -> list[str]:
        """The texts of its posts in alphabetical order."""
        return texts(self.pds, self.account)


def planned_deployments() -> tuple[UUID, UUID]:
    """The deployments `publish/planned` and `publish-due/publish-due`, whose runs no worker takes."""
    planned, due = _deployed(("publish", "planned"), ("publish_due", "publish-due"))
    return planned, due


def later_deployment() -> UUID:
    """The deployment `publish-batch/later`, which keeps what large calendars have for later."""
    (later,) = _deployed(("publish_batch", "later"))
    return later


def _deployed(*names: tuple[str, str]) -> list[UUID]:
    """Deployments of flows in scripts, whose runs no worker takes, by the names of script and deployment."""
    found = []
    with get_client(sync_client=True) as client:
        for name, deployed in names:
            entrypoint = f"flows/{name}.py:{name}"
            flow: Any = load_flow_from_entrypoint(f"{ROOT / entrypoint}")
            found.append(
                client.create_deployment(
                    client.create_flow(flow), deployed, entrypoint=entrypoint, enforce_parameter_schema=False
                )
            )
    return found


def deployment_of(flow: Flow[Any, Any]) -> UUID:
    """A deployment of a flow, whose runs no worker takes."""
    with get_client(sync_client=True) as client:
        return client.create_deployment(client.create_flow(flow), f"test-{uuid4().hex[:8]}", paused=True)


def run_deployed(flow: Flow[Any, Any], given: dict[str, Any], **parameters: Any) -> tuple[FlowRun, State[Any]]:
    """Run a flow as a worker runs a deployment's run; the run and the state in which it ended.

    Args:
        flow: the flow.
        given: the parameters as the server has them: JSON, and blocks by reference.
        parameters: the parameters as the flow takes them.
    """
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment_of(flow), parameters=given)
        state: Any = run_flow(flow, run, parameters, return_type="state")
        return client.read_flow_run(run.id), state


def artifacts_of(run: UUID) -> list[Artifact]:
    """Return the artifacts of a flow run."""
    with get_client(sync_client=True) as client:
        return client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run])),
            sort=ArtifactSort.CREATED_DESC,
        )


def run_to_state(flow: Flow[Any, Any], **parameters: Any) -> State[Any]:
    """Run a flow. Return the state in which it ends."""
    state: Any = flow(**parameters, return_state=True)
    assert isinstance(state, State)
    return state


def runs_of(deployment: UUID) -> list[FlowRun]:
    """Return the runs of a deployment, those of other tests too, the earliest first."""
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    return read_runs(wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC)


def forget_stored_session(credentials: BlueskyCredentials) -> None:
    """Have none of it in Prefect: a PDS of an earlier test may have had this port, and an account of this handle."""
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        found = client.read_block_document_by_name(credentials._name, "secret")
        client.delete_block_document(found.id)
    forget_processes_memory()


def change_saved(name: str, fields: dict[str, Any]) -> None:
    """Write into a saved block what its form would refuse."""
    with get_client(sync_client=True) as client:
        document = client.read_block_document_by_name(name, "bluesky-credentials")
        client.request(
            "PATCH",
            "/block_documents/{id}",
            path_params={"id": document.id},
            json={"data": fields, "merge_existing_data": True},
        )


def texts(pds: Pds, account: Account) -> list[str]:
    """Return an account's texts, in alphabetical order."""
    return sorted(post["value"]["text"] for post in pds.posts(account))


@contextmanager
def block_schemas_made_once() -> Iterator[None]:
    """Make the JSON schema of a block class once: Prefect asks for it a dozen times a save, 12 ms each."""
    make = Block.model_json_schema.__func__  # type: ignore[attr-defined]
    made = cache(make)
    with patch.object(Block, "model_json_schema", classmethod(lambda *given, **how: deepcopy(made(*given, **how)))):
        yield


def forget_processes_memory() -> None:
    """Make this process know nothing of any session or server, as a worker that has just started."""
    BlueskyCredentials._authenticators.clear()
    proofs._servers.clear()


def expire_access_token(pds: Pds, account: Account, credentials: BlueskyCredentials) -> None:
    """Let the stored access token be one that its server calls expired, although it looks young here."""
    store = credentials.session_store()
    saved = store.load()
    assert saved is not None
    document = saved.document
    assert document.session is not None
    stale = replace(document.session, access_token=pds.mint(account, "access"))
    store.save(replace(document, session=stale), saved)
    forget_processes_memory()


def expired(pds: Pds, aws_credentials: AwsCredentials | None = None) -> tuple[Any, BlueskyCredentials]:
    """Create an account that has signed in and whose access token has expired. Return the account and its block."""
    account = pds.create_account()
    credentials = block(pds, account, aws_credentials=aws_credentials)
    credentials.ensure_session()
    expire_access_token(pds, account, credentials)
    return account, credentials


@contextmanager
def counted(pds: Pds) -> Iterator[dict[str, int]]:
    """Count the requests that arrive at a PDS meanwhile, by method; filled when the context ends."""
    before = len(pds.requests())
    counts: dict[str, int] = {}
    yield counts
    for request in pds.requests()[before:]:
        counts[request.nsid] = counts.get(request.nsid, 0) + 1


def picture(width: int, height: int, format_: str = "PNG", *, noise: bool = False) -> bytes:
    """A picture, as PNG unless said otherwise: red, or of a noise that no encoder makes small."""
    if noise:
        image = Image.frombytes("RGB", (width, height), Random(0).randbytes(3 * width * height))
    else:
        image = Image.new("RGB", (width, height), "red")
    file = BytesIO()
    image.save(file, format_, compress_level=1)
    return file.getvalue()


def record_at(pds: Pds, uri: str) -> dict[str, Any]:
    """A record, as its PDS has it.

    Raises:
        httpx.HTTPStatusError: it is not there.
    """
    repo, collection, rkey = uri.removeprefix("at://").split("/")
    params = {"repo": repo, "collection": collection, "rkey": rkey}
    answer = httpx.get(f"{pds.url}/xrpc/com.atproto.repo.getRecord", params=params, trust_env=False)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


class QuietHandler(BaseHTTPRequestHandler):
    """A request handler that logs nothing."""

    def body(self) -> bytes:
        """Read the body of the request."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer the request; in header names, `_` stands for `-`."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A server on loopback, until the context ends; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def web_page(
    body: bytes,
    files: Mapping[str, bytes] = MappingProxyType({}),
    *,
    status: int = 200,
    on_request: Callable[[str], None] = lambda path: None,
) -> Iterator[str]:
    """A server that answers with a file if it has one by that path, and else with the same body."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            on_request(self.path)
            self.answer(status, files.get(self.path, body))

        do_POST = do_GET

    with http_server(Handler) as port:
        yield f"http://127.0.0.1:{port}"
