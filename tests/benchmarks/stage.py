"""The servers of a benchmark: a real PDS, PostgreSQL, a Prefect server, a Secrets Manager; and accounts on them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import run
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockDocumentCreate
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from prefect_bluesky import BlueskyCredentials
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.password_session import PasswordSession
from prefect_bluesky.sessions.stores.aws_secret import AwsSecret
from tests import aws
from tests.pds.server import Account, RealPds
from tests.pds.server import run as run_pds
from tests.prefect_server import PrefectServer, postgresql
from tests.support import block_schemas_made_once, forget_processes_memory

Numbers = dict[str, Any]


class Stage:
    """The servers, and accounts that are saved as blocks.

    Args:
        stack: what ends them.
        apart: whether the PDS has a core of its own.
        settings: what Prefect's server has in its environment besides.
    """

    def __init__(self, stack: ExitStack, *, apart: bool = False, settings: Mapping[str, str] | None = None) -> None:
        self.home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(block_schemas_made_once())
        cores = sorted(os.sched_getaffinity(0))
        if apart:
            # As on a machine of its own: neither the PDS nor what asks it takes the time of the other.
            stack.callback(os.sched_setaffinity, 0, cores)
            os.sched_setaffinity(0, cores[-1:])
        self.pds: RealPds = stack.enter_context(run_pds())
        os.environ["PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL"] = self.pds.plc_url
        if apart:
            os.sched_setaffinity(0, cores[:-1] or cores)
        self.aws = aws.credentials(stack.enter_context(aws.run()))
        self.server = PrefectServer(self.home, stack.enter_context(postgresql()), settings=settings)
        stack.callback(self.server.kill)
        self.server.start()
        self.api_url = self.server.url
        stack.enter_context(temporary_settings({PREFECT_API_URL: self.api_url}))

    def block(self, account: Account, *, url: str | None = None) -> BlueskyCredentials:
        """The block of an account: with its session in AWS, or, at another URL than the PDS's own, in Prefect."""
        return BlueskyCredentials(
            handle=account.handle,
            app_password=SecretStr(account.app_password),
            service_url=url or self.pds.url,
            aws_credentials=None if url else self.aws,
        )

    def saved(self, accounts: Sequence[Account], *, url: str | None = None) -> dict[str, Account]:
        """Save the blocks of accounts; them by the names of their blocks."""
        names = {account.handle.partition(".")[0]: account for account in accounts}
        BlueskyCredentials.register_type_and_schema()
        with get_client(sync_client=True) as client:
            for name, account in names.items():
                # What `save` does, which registers the block's type each time: a quarter of a second.
                document = self.block(account, url=url)._to_block_document(name, include_secrets=True)
                fields = BlockDocumentCreate.model_fields.keys() & document.model_fields_set
                client.create_block_document(BlockDocumentCreate(**document.model_dump(include=fields)))
        return names

    def session(self, account: Account, *, url: str | None = None) -> PasswordSession:
        """A valid session: as good as one of a login, whose refresh token is dead."""
        return PasswordSession(
            did=account.did,
            handle=account.handle,
            pds_url=url or self.pds.url,
            access_token=self.pds.mint(account, expires_in=timedelta(hours=2)),
            refresh_token=self.pds.mint(account, "refresh", expires_in=timedelta(days=90)),
            received_at=datetime.now(UTC),
        )

    def sign_in(self, account: Account, *, url: str | None = None) -> PasswordSession:
        """Lay a session into an account's store."""
        session = self.session(account, url=url)
        credentials = self.block(account, url=url)
        made_with = Fingerprint.of(f"{credentials.service_url} {account.app_password}")
        store = credentials.session_store()
        store.save(SessionDocument().with_session(session, made_with), store.load())
        forget_processes_memory()
        return session

    def forget(self, account: Account) -> None:
        """Leave an account's store as before the first login."""
        secret = AwsSecret(self.aws, f"prefect-bluesky/{account.handle}/session")
        secret.call("delete_secret", ForceDeleteWithoutRecovery=True)

    def flow(self, way: str, work: Any = None) -> Numbers:
        """Do it in a process of its own; the seconds and the megabytes that it took at most."""
        settings = {
            "PREFECT_API_URL": self.api_url,
            "PREFECT_HOME": str(self.home),
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        }
        command = [sys.executable, str(Path(__file__).parent / "batch_process.py"), way]
        done = run(command, input=json.dumps(work), env=os.environ | settings, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        numbers: Numbers = json.loads(done.stdout.splitlines()[-1])
        return numbers
