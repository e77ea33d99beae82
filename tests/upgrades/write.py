"""Write down what a commit leaves in Prefect and in AWS: `tests/test_upgrading.py` reads it with today's code.

For a further commit, from the repository's root:

    git worktree add --detach ../old COMMIT
    (cd ../old && uv run --frozen python "$OLDPWD/tests/upgrades/write.py" "$OLDPWD/tests/upgrades/COMMIT.json")
    git worktree remove --force ../old

It calls only what every commit has: the blocks, `save` and `ensure_session`. What belongs to one moment or one machine
becomes a word: ACCESS and REFRESH for the tokens, NOW for each time (its zone stays as it was written).
"""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from moto.server import ThreadedMotoServer
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.testing.utilities import prefect_test_harness
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

import prefect_bluesky
from prefect_bluesky import AuthError, BlueskyCredentials

PDS, AWS = "https://pds.example", "https://aws.example"
HANDLE, DID = "alice.test", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
APP_PASSWORD, REFUSED = "aaaa-bbbb-cccc-dddd", "zzzz-zzzz-zzzz-zzzz"

# Blocks that came later than the first commit: the class, a name, the fields.
LATER_BLOCKS: list[tuple[str, str, dict[str, Any]]] = [
    ("MastodonCredentials", "alice", {"instance_url": "https://mastodon.example", "access_token": "an-access-token"}),
    ("AppriseService", "notices", {"url": "json://user:password@notices.example"}),
    ("AIGenerator", "drafts", {"model": "openai:gpt-5-mini", "instructions": "Dry humour.", "attempts": 3}),
    ("AIGenerator", "drafts-with-key", {"model": "openai:gpt-5-mini", "api_key": "a-key"}),
]


def token(kind: str, lifetime: int) -> str:
    """A JWT as a PDS gives it; its signature is anything."""
    now = int(time.time())
    parts = [
        {"typ": kind, "alg": "HS256"},
        {"scope": "com.atproto.appPass", "sub": DID, "iat": now, "exp": now + lifetime},
    ]
    return ".".join(
        [*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "s"]
    )


TOKENS = {"ACCESS": token("at+jwt", 2 * 3600), "REFRESH": token("refresh+jwt", 90 * 24 * 3600)}


def answer(request: httpx.Request) -> httpx.Response:
    """Return the PDS's answer: a session for the app password, a refusal for any other."""
    if request.url.path != "/xrpc/com.atproto.server.createSession":
        return httpx.Response(501, json={"error": "MethodNotImplemented", "message": "Method Not Implemented"})
    if json.loads(request.read())["password"] != APP_PASSWORD:
        said = {"error": "AuthenticationRequired", "message": "Invalid identifier or password"}
        return httpx.Response(401, json=said)
    tokens = {"accessJwt": TOKENS["ACCESS"], "refreshJwt": TOKENS["REFRESH"]}
    return httpx.Response(200, json={"did": DID, "handle": HANDLE, "active": True, **tokens})


@contextmanager
def pds() -> Iterator[None]:
    """Answer for the PDS, whose name nobody else answers to."""
    send = httpx.HTTPTransport.handle_request

    def handle_request(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        return answer(request) if request.url.host == httpx.URL(PDS).host else send(transport, request)

    with patch.object(httpx.HTTPTransport, "handle_request", handle_request):
        yield


def save_blocks(aws_url: str) -> list[tuple[type[Block], str]]:
    """Save a block of each type, and one that refers to another; their classes and their names."""
    aws = AwsCredentials(
        aws_access_key_id="testing",
        aws_secret_access_key=SecretStr("testing"),
        region_name="eu-central-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=aws_url),
    )
    aws.save("aws")
    alice: dict[str, Any] = {"handle": HANDLE, "app_password": SecretStr(APP_PASSWORD), "service_url": PDS}
    BlueskyCredentials(**alice).save("alice")
    BlueskyCredentials(**alice, aws_credentials=AwsCredentials.load("aws")).save("alice-in-aws")
    saved: list[tuple[type[Block], str]] = [
        (AwsCredentials, "aws"),
        (BlueskyCredentials, "alice"),
        (BlueskyCredentials, "alice-in-aws"),
    ]
    for class_name, name, fields in LATER_BLOCKS:
        block: Any = getattr(prefect_bluesky, class_name, None)
        if block is not None:
            block(**fields).save(name)
            saved.append((block, name))
    return saved


def sign_in() -> None:
    """Leave a session in both stores, and after it the refusal of another app password."""
    for name in ("alice", "alice-in-aws"):
        block: Any = BlueskyCredentials.load(name)
        block.ensure_session()
        other = BlueskyCredentials(
            handle=HANDLE, app_password=SecretStr(REFUSED), service_url=PDS, aws_credentials=block.aws_credentials
        )
        try:
            other.ensure_session()
        except AuthError:
            continue
        raise AssertionError("it took an app password that the PDS refuses")


def as_saved(block: type[Block], document: BlockDocument) -> dict[str, Any]:
    """A block as it lies in Prefect; another block in it by its name."""
    references = {
        field: {"$ref": reference["block_document"]["name"]}
        for field, reference in document.block_document_references.items()
    }
    return {"type": block.get_block_type_slug(), "name": document.name, "data": document.data | references}


def as_registered(block: type[Block], document: BlockDocument) -> dict[str, Any]:
    """The type of a block, and its schema."""
    kind = {"name", "slug", "logo_url", "documentation_url", "description", "code_example"}
    schema = {"capabilities", "version", "checksum"}
    found = document.model_dump(mode="json", include={"block_type": kind, "block_schema": schema})
    # What Prefect sent to its server, which answers with a little more.
    found["block_schema"]["fields"] = block.model_json_schema()
    return found


def without_its_moment(written: dict[str, Any], aws_url: str) -> str:
    """As JSON, with words in the place of what is of one moment or one machine."""
    text = json.dumps(written, indent=1, ensure_ascii=False)
    for word, secret in TOKENS.items():
        text = text.replace(secret, word)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?", "NOW", text.replace(aws_url, AWS))


def main(file: Path) -> None:
    """Do all that leaves something behind, and write down what it left."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    aws_url = "http://{}:{}".format(*server.get_host_and_port())
    try:
        with pds(), prefect_test_harness(server_startup_timeout=180):
            saved = save_blocks(aws_url)
            sign_in()
            with get_client(sync_client=True) as client:
                documents = [
                    (block, client.read_block_document_by_name(name, block.get_block_type_slug(), include_secrets=True))
                    for block, name in saved
                ]
                (secret,) = client.read_block_documents_by_type("secret", include_secrets=True)
            in_aws = AwsCredentials.load("aws").get_secrets_manager_client()  # type: ignore[union-attr]
            (listed,) = in_aws.list_secrets()["SecretList"]
            value = in_aws.get_secret_value(SecretId=listed["Name"], VersionStage="AWSCURRENT")["SecretString"]
    finally:
        server.stop()
    written = {
        "types": list({block: as_registered(block, document) for block, document in documents}.values()),
        "blocks": [as_saved(block, document) for block, document in documents],
        "sessions": {
            "prefect": {"name": secret.name, "value": secret.data["value"]},
            "aws": {"name": listed["Name"], "value": value},
        },
        "refused_app_password": REFUSED,
    }
    file.write_text(without_its_moment(written, aws_url) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
