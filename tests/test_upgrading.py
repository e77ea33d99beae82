"""Upgrading: the blocks and the session that an earlier commit left behind are read.

What it left lies in `tests/upgrades/COMMIT.json`; `tests/upgrades/write.py` wrote it there with that commit's own code.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import BlockDocumentCreate, BlockSchemaCreate, BlockTypeCreate
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectAlreadyExists
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from prefect_bluesky import (
    AIGenerator,
    AppriseService,
    AuthError,
    AuthProblem,
    BlueskyCredentials,
    MastodonCredentials,
    sandbox,
)
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.sessions.document import SessionDocument
from tests.support import forget_processes_memory
from tests.test_session import token

DIRECTORY = Path(__file__).parent / "upgrades"

# Names that nobody answers to (RFC 6761): a request to one of them fails.
PDS, AWS = "https://pds.example", "https://aws.example"

MASKED = "**********"

CLASSES: dict[str, type[Block]] = {
    kind.get_block_type_slug(): kind
    for kind in (AwsCredentials, BlueskyCredentials, MastodonCredentials, AppriseService, AIGenerator)
}


class Left:
    """The data that a commit left behind.

    Args:
        commit: its short hash.
        aws_url: where the AWS is that its blocks lead to.
    """

    def __init__(self, commit: str, aws_url: str = AWS) -> None:
        self.commit = commit
        self.content = json.loads((DIRECTORY / f"{commit}.json").read_text().replace(AWS, aws_url))

    @cached_property
    def blocks(self) -> dict[str, dict[str, Any]]:
        """The commit's blocks, by their types' slugs and their names."""
        return {f"{block['type']}/{block['name']}": block for block in self.content["blocks"]}

    def data(self, block: str) -> dict[str, Any]:
        """The fields of a block, with those of a block in it."""
        fields: dict[str, Any] = self.blocks[block]["data"]
        return {name: self.data(_referred(value)) if _referred(value) else value for name, value in fields.items()}

    def put_block(self, block: str) -> str:
        """Put a block into Prefect as the commit left it, but for its name, which is new; that name."""
        with get_client(sync_client=True) as client:
            return str(self._put(client, block).name)

    def _put(self, client: SyncPrefectClient, block: str) -> BlockDocument:
        written = self.blocks[block]
        data = {
            name: {"$ref": {"block_document_id": str(self._put(client, _referred(value)).id)}}
            if _referred(value)
            else value
            for name, value in written["data"].items()
        }
        name = f"{written['name']}-{uuid4().hex}"
        (kind,) = (each for each in self.content["types"] if each["block_type"]["slug"] == written["type"])
        return client.create_block_document(BlockDocumentCreate(name=name, data=data, **_type(client, **kind)))


def _referred(value: Any) -> str:
    """The block that a field refers to; empty if to none."""
    return f"aws-credentials/{value['$ref']}" if isinstance(value, dict) and "$ref" in value else ""


_registered: dict[str, dict[str, Any]] = {}
"""How blocks name a type and its schema, by the schema's checksum."""


def _type(client: SyncPrefectClient, block_type: dict[str, Any], block_schema: dict[str, Any]) -> dict[str, Any]:
    """Register a type with its schema, once; how a block names the two."""
    checksum = block_schema["checksum"]
    if checksum not in _registered:
        _registered[checksum] = _register(client, block_type, block_schema)
    return _registered[checksum]


def _register(client: SyncPrefectClient, block_type: dict[str, Any], block_schema: dict[str, Any]) -> dict[str, Any]:
    try:
        type_id = client.create_block_type(BlockTypeCreate(**block_type)).id
    except ObjectAlreadyExists:  # from another commit
        type_id = client.read_block_type_by_slug(block_type["slug"]).id
    fields = {name: value for name, value in block_schema.items() if name != "checksum"}
    registered = client.create_block_schema(BlockSchemaCreate(**fields, block_type_id=type_id))
    assert registered.checksum == block_schema["checksum"]
    return {"block_type_id": type_id, "block_schema_id": registered.id}


class Place(ABC):
    """A store, where the commit's code looked for the session of its block.

    Args:
        left: what the commit left.
    """

    kind: str
    block: str

    def __init__(self, left: Left) -> None:
        self._left = left
        self.name: str = left.content["sessions"][self.kind]["name"]
        self.written: str = left.content["sessions"][self.kind]["value"]

    @property
    def did(self) -> str:
        """The account's."""
        return str(json.loads(self.written)["did"])

    def lay(self, *, access_token: str, refresh_token: str, did: str = "", pds_url: str = PDS) -> None:
        """Lay there what the commit left, as if that had been a moment ago; or with another account and its PDS."""
        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
        text = self.written.replace('"NOW', f'"{now}').replace(self.did, did or self.did).replace(PDS, pds_url)
        self.put(text.replace('"ACCESS"', f'"{access_token}"').replace('"REFRESH"', f'"{refresh_token}"'))

    def lay_valid(self) -> None:
        """Lay there what the commit left, as if that had been a moment ago."""
        now, lives = int(datetime.now(UTC).timestamp()), {"access": timedelta(hours=2), "refresh": timedelta(days=90)}
        access, refresh = (token(sub=self.did, iat=now, exp=now + int(life.total_seconds())) for life in lives.values())
        self.lay(access_token=access, refresh_token=refresh)

    def load_block(self) -> Any:
        """The commit's block whose session lies here, loaded by a worker that has just started."""
        forget_processes_memory()
        return BlueskyCredentials.load(self._left.put_block(f"bluesky-credentials/{self.block}"))

    def document(self) -> SessionDocument:
        """Return the stored document."""
        return SessionDocument.from_json(self.text(), place="here")

    @abstractmethod
    def put(self, text: str) -> None: ...
    @abstractmethod
    def text(self) -> str: ...


class InPrefect(Place):
    kind, block = "prefect", "alice"

    def put(self, text: str) -> None:
        Secret(value=text).save(self.name, overwrite=True)

    def text(self) -> str:
        with get_client(sync_client=True) as client:
            found = client.read_block_document_by_name(self.name, "secret", include_secrets=True)
        return str(found.data["value"])


class InAws(Place):
    kind, block = "aws", "alice-in-aws"

    def __init__(self, left: Left, credentials: AwsCredentials) -> None:
        super().__init__(left)
        self._client = credentials.get_secrets_manager_client()

    def put(self, text: str) -> None:
        # The one of another commit, which has the same name.
        self._client.delete_secret(SecretId=self.name, ForceDeleteWithoutRecovery=True)
        self._client.create_secret(Name=self.name, SecretString=text)

    def text(self) -> str:
        return str(self._client.get_secret_value(SecretId=self.name, VersionStage="AWSCURRENT")["SecretString"])


LEFT = [Left(file.stem) for file in sorted(DIRECTORY.glob("*.json"))]


def is_masked(left: Left, block: str) -> bool:
    """Return whether a block has lost a secret: 7ade269 masked an AI generator's key while saving it."""
    return MASKED in left.blocks[block]["data"].values()


def remembers_a_refusal(left: Left) -> bool:
    """Return whether the commit stored a refused app password: the first commits did not."""
    return all("refusal" in json.loads(session["value"]) for session in left.content["sessions"].values())


def blocks(*, masked: bool) -> list[Any]:
    """All blocks of all commits that have, or have not, lost a secret."""
    return [
        pytest.param(left, block, id=f"{left.commit} {block}")
        for left in LEFT
        for block in left.blocks
        if is_masked(left, block) == masked
    ]


@pytest.fixture(params=[left.commit for left in LEFT])
def left(request: pytest.FixtureRequest, aws_url: str) -> Left:
    """The data of each commit, with blocks that lead to the AWS that moto plays."""
    return Left(request.param, aws_url)


@pytest.fixture(params=["prefect", "aws"])
def place(request: pytest.FixtureRequest, prefect_api: str, left: Left, aws_credentials: AwsCredentials) -> Place:
    """Each store."""
    return InPrefect(left) if request.param == "prefect" else InAws(left, aws_credentials)


only_those_that_remember_refusals = pytest.mark.parametrize(
    "left", [left.commit for left in LEFT if remembers_a_refusal(left)], indirect=True
)


@pytest.mark.usefixtures("prefect_api")
class TestBlocks:
    """Saved blocks."""

    @pytest.mark.parametrize(("left", "block"), blocks(masked=False))
    def test_a_block_has_the_fields_and_the_secrets_that_it_was_saved_with(self, left: Left, block: str) -> None:
        loaded: Any = CLASSES[left.blocks[block]["type"]].load(left.put_block(block))
        assert opened(loaded, left.data(block)) == left.data(block)

    @pytest.mark.parametrize(("left", "block"), blocks(masked=True))
    def test_a_block_that_was_saved_without_its_secret_asks_for_it(self, left: Left, block: str) -> None:
        with pytest.raises(InvalidInput, match="it is masked"):
            CLASSES[left.blocks[block]["type"]].load(left.put_block(block))


class TestSession:
    """Stored documents of an account."""

    def test_a_session_is_used_without_a_request(self, place: Place) -> None:
        place.lay_valid()
        status = place.load_block().ensure_session()
        assert (status.action, status.did) == ("reused", place.did)

    def test_a_refresh_replaces_the_session_and_keeps_all_else(
        self, place: Place, sandbox_pds: sandbox.Sandbox
    ) -> None:
        account = sandbox_pds.create_account()
        place.lay(
            access_token=sandbox_pds.mint(account, "access", timedelta(hours=2)),
            refresh_token=sandbox_pds.mint(account, "refresh", timedelta(days=90)),
            did=account.did,
            pds_url=sandbox_pds.url,
        )
        before = place.document()
        assert place.load_block().keep_alive(timedelta()).action == "refreshed"
        after = place.document()
        assert after.session != before.session
        assert (after.did, after.made_with, after.logins) == (before.did, before.made_with, before.logins)
        assert known(after) == known(before)

    @only_those_that_remember_refusals
    def test_an_app_password_that_was_refused_is_not_sent_again(self, place: Place, left: Left) -> None:
        place.lay_valid()
        credentials = place.load_block()
        credentials.app_password = SecretStr(left.content["refused_app_password"])
        with pytest.raises(AuthError) as refusal:
            credentials.ensure_session()
        assert refusal.value.problem is AuthProblem.APP_PASSWORD_REJECTED


def opened(block: Block, fields: dict[str, Any]) -> dict[str, Any]:
    """Some fields of a block, and of a block in it, with the secrets."""
    shown = block.model_dump(mode="json", context={"include_secrets": True})
    inner = {name: value for name, value in dict(block).items() if isinstance(value, Block)}
    return {name: opened(inner[name], value) if name in inner else shown[name] for name, value in fields.items()}


def known(document: SessionDocument) -> list[Any]:
    """Stored refusals, whoever has been told of them."""
    return [(refusal.problem, refusal.credential, refusal.first_seen) for refusal in document.open_refusals]
