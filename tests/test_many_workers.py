"""Two workers, a Prefect server on PostgreSQL, sessions in AWS: many accounts, and one worker dies on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from prefect_bluesky import BlueskyCredentials
from tests import proxy
from tests.pds.server import RealPds
from tests.prefect_server import postgresql
from tests.proxy import Phase, Silence, Step
from tests.support import LOGIN, WRITE, counted, forget_processes_memory, texts
from tests.world import wait_for, world

pytestmark = [pytest.mark.pds, pytest.mark.slow]


class Death:
    """Lets a number of a batch's commits through, and never answers the others: until their worker is frozen."""

    def __init__(self, batch: str, after: int) -> None:
        self._batch = batch.encode()
        self._left = after
        self._lock = Lock()
        self.unanswered = 0

    def __call__(self, step: Step, phase: Phase) -> Silence | None:
        if step.method != WRITE or phase is not Phase.DURING or self._batch not in step.body:
            return None
        with self._lock:
            self._left -= 1
            self.unanswered += self._left < 0
            return Silence.HANG if self._left < 0 else None


def items(names: Sequence[str], batch: str) -> list[dict[str, Any]]:
    """Two posts of each account."""
    return [{"account": name, "post": {"text": f"{n} of the {batch} batch"}} for name in names for n in range(2)]


def test_two_workers_share_accounts_with_one_login_each_and_a_dead_one_s_posts_go_out_once(
    no_prefect_api: None, tmp_path: Path, real_pds: RealPds, aws_credentials: AwsCredentials, batch_accounts: int
) -> None:
    accounts = [real_pds.create_account() for _ in range(batch_accounts)]
    death = Death("of the first batch", after=batch_accounts // 2)
    with (
        postgresql() as database,
        proxy.run(real_pds.url, death) as pds_url,
        world(tmp_path, database) as prefect,
        counted(real_pds) as requests,
    ):
        names = [account.handle.partition(".")[0] for account in accounts]
        for account, name in zip(accounts, names, strict=True):
            BlueskyCredentials(
                handle=account.handle,
                app_password=SecretStr(account.app_password),
                service_url=pds_url,
                aws_credentials=aws_credentials,
            ).save(name)
        doomed = prefect.start_worker(runs_at_once=1)
        first, second = items(names, "first"), items(names[::-1], "second")
        # Three at a time: those that are never answered leave some accounts to the other worker.
        runs = [prefect.start_run("publish-batch/publish-batch", items=first, at_once=3)]
        wait_for(lambda: death.unanswered == 3, "three unanswered commits")
        # Unfrozen, it would look for its posts once it had waited long enough, and find them before it is killed.
        doomed.freeze()
        prefect.start_worker(runs_at_once=1)
        runs.append(prefect.start_run("publish-batch/publish-batch", items=second, at_once=3))
        wait_for(lambda: prefect.states(runs)[1] == "Completed", "the second batch")
        doomed.kill()
        # The other worker begins it again, once its heartbeats are missed.
        wait_for(lambda: prefect.states(runs)[0] == "Completed", "the first batch")
    wanted = sorted(f"{number} of the {batch} batch" for number in range(2) for batch in ("first", "second"))
    assert {account.handle: texts(real_pds, account) for account in accounts} == dict.fromkeys(
        (account.handle for account in accounts), wanted
    )
    assert requests[LOGIN] == batch_accounts
    forget_processes_memory()
