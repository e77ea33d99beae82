"""One account of a grant in many processes, on a real PDS: they meet, and they are killed."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from prefect_aws import AwsCredentials

from prefect_bluesky import BlueskyCredentials, BlueskyOAuthClient
from tests.contract.granted import let_token_expire
from tests.pds.server import Account, RealPds
from tests.support import texts
from tests.worker import DEATHS_IN_A_REFRESH, DEATHS_IN_A_VISIT, StartWorkers, die_in, publish, together, visit
from tests.world import wait_for

pytestmark = [pytest.mark.pds, pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "directory")]

TOKEN = "oauth/token"


@pytest.fixture
def pds(real_pds: RealPds) -> RealPds:
    return real_pds


@pytest.fixture(params=["Prefect", "AWS"])
def credentials(
    request: pytest.FixtureRequest, real_pds: RealPds, account: Account, aws_credentials: AwsCredentials
) -> BlueskyCredentials:
    """The account's block after a visit of its owner; its session is stored in Prefect, or in AWS."""
    made = block(real_pds, account, aws_credentials if request.param == "AWS" else None)
    visit(made, account)
    return made


def block(pds: RealPds, account: Account, aws: AwsCredentials | None) -> BlueskyCredentials:
    """The account's block with a client."""
    client = BlueskyOAuthClient()
    return BlueskyCredentials(handle=account.handle, service_url=pds.url, oauth_client=client, aws_credentials=aws)


def has_spare(credentials: BlueskyCredentials) -> bool:
    """Return whether a spare session is stored."""
    saved = credentials.session_store().load()
    assert saved
    return saved.document.spare is not None


def test_eight_processes_at_the_moment_of_expiry_ask_for_tokens_once(
    real_pds: RealPds, account: Account, credentials: BlueskyCredentials, workers: StartWorkers
) -> None:
    let_token_expire(credentials, real_pds)
    before = len(real_pds.requests(TOKEN))
    wanted = [f"post {number}" for number in range(8)]
    together(workers(8), publish, [(credentials, text) for text in wanted])
    assert sorted(texts(real_pds, account)) == wanted
    # A process that has not heard of the server's nonce is told it first, and nothing is spent.
    answers = Counter(request.status for request in real_pds.requests(TOKEN)[before:])
    assert answers[200] == 1
    assert answers.total() <= 2
    assert has_spare(credentials)


def test_a_process_that_is_killed_with_its_refresh_underway_leaves_an_account_that_goes_on(
    real_pds: RealPds, account: Account, credentials: BlueskyCredentials, workers: StartWorkers
) -> None:
    let_token_expire(credentials, real_pds)
    doomed, heir = workers(2)
    before = len(real_pds.requests(TOKEN))
    doomed.prepare(publish, credentials, "by the doomed one")
    doomed.go()
    wait_for(lambda: real_pds.requests(TOKEN)[before:], "the request for tokens")
    doomed.kill()
    heir.do(publish, credentials, "after the death")
    assert "after the death" in texts(real_pds, account)


def test_processes_killed_at_any_step_of_a_refresh_leave_accounts_that_go_on(
    real_pds: RealPds, aws_credentials: AwsCredentials, workers: StartWorkers
) -> None:
    deaths = list(DEATHS_IN_A_REFRESH)
    accounts = [real_pds.create_account() for _ in deaths]
    blocks = [block(real_pds, account, aws_credentials) for account in accounts]
    for made, account in zip(blocks, accounts, strict=True):
        visit(made, account)
        let_token_expire(made, real_pds)
    kill_all(workers, [(death, publish, made, "never seen") for death, made in zip(deaths, blocks, strict=True)])
    # At the same time, as each waits for the lock of a dead process.
    together(workers(len(deaths)), publish, [(made, "after the death") for made in blocks])
    assert [texts(real_pds, account) for account in accounts] == [["after the death"]] * len(deaths)
    # The new tokens have died with their process if it had them, and had not saved them.
    spares = dict(zip(deaths, map(has_spare, blocks), strict=True))
    assert spares == {death: death not in {"after it is answered", "before it is saved"} for death in deaths}


def test_processes_killed_at_any_step_of_a_visit_leave_nothing_half_done(
    real_pds: RealPds, aws_credentials: AwsCredentials, workers: StartWorkers
) -> None:
    deaths = list(DEATHS_IN_A_VISIT)
    accounts = [real_pds.create_account() for _ in deaths]
    blocks = [block(real_pds, account, aws_credentials) for account in accounts]
    of_all = list(zip(deaths, blocks, accounts, strict=True))
    kill_all(workers, [(death, visit, made, account) for death, made, account in of_all])
    outcomes = together(workers(len(deaths)), publish, [(made, "after the death") for made in blocks])
    first = deaths.index("after the session is saved")
    assert outcomes[:first] == ["AuthError"] * first
    assert [texts(real_pds, account) for account in accounts[first:]] == [["after the death"]] * len(deaths[first:])
    # The same visit again.
    heirs = workers(len(deaths))
    together(heirs, visit, [(made, account) for _, made, account in of_all])
    together(heirs, publish, [(made, "after the visit") for made in blocks])
    assert all("after the visit" in texts(real_pds, account) for account in accounts)
    assert all(map(has_spare, blocks))


def kill_all(workers: StartWorkers, deeds: Sequence[Sequence[Any]]) -> None:
    """Let processes do what kills them, each with the name of its death first."""
    doomed = workers(len(deeds))
    for worker, deed in zip(doomed, deeds, strict=True):
        worker.prepare(die_in, *deed)
        worker.go()
    assert [worker.exit_code() for worker in doomed] == [-signal.SIGKILL] * len(deeds)
