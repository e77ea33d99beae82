"""One account in many processes: they meet, they are killed, and the account stays signed in."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from math import ceil

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws import AwsCredentials

from prefect_bluesky import sandbox
from prefect_bluesky.settings import BlueskySettings
from tests import aws
from tests.pds.server import RealPds
from tests.support import LOGIN, REFRESH, WRITE, Pds, block, counted, expired, texts
from tests.worker import (
    StartWorkers,
    Worker,
    gate,
    gates,
    let_session_end,
    publish,
    publish_and_die,
    publish_later,
    publish_until,
    together,
)
from tests.world import wait_for

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
POSTS_A_DAY = 100


@pytest.fixture(params=["Prefect", "AWS"])
def aws_if_any(
    request: pytest.FixtureRequest, prefect_api: str, aws_credentials: AwsCredentials
) -> AwsCredentials | None:
    """The place of the session: Prefect or AWS. The lock is Prefect's either way."""
    return aws_credentials if request.param == "AWS" else None


@dataclass(frozen=True)
class Orphans:
    """Workers that wait for a lock whose holder was killed while it waited for the answer to its refresh.

    Args:
        before: a moment before the lock was taken, by the clock that all processes share.
    """

    before: float
    pds: sandbox.Sandbox
    account: sandbox.Account
    waiting: list[Worker]


@pytest.fixture(scope="module", autouse=True)
def orphans(prefect_server: str, aws_url: str) -> Iterator[Orphans]:
    """Workers that wait a minute: it passes while the tests above theirs run."""
    with ExitStack() as running:
        pds = running.enter_context(sandbox.run())
        doomed, *waiting = (Worker() for _ in range(4))
        for worker in (doomed, *waiting):
            running.callback(worker.close)
        # A handle that no other test's account has: sessions lie under the handle in AWS.
        account = pds.create_account("orphaned.test")
        credentials = block(pds, account, aws_credentials=aws.credentials(aws_url))
        # The workers are told of the API; the tests meanwhile are not.
        with temporary_settings({PREFECT_API_URL: prefect_server}):
            doomed.do(gate, credentials)
            doomed.do(let_session_end, credentials)
            pds.delay(REFRESH, 300)
            before = time.monotonic()
            doomed.prepare(publish, credentials, "never seen")
            doomed.go()
            wait_for(lambda: pds.requests(REFRESH), "the refresh")
            for number, worker in enumerate(waiting):
                worker.prepare(publish_until, credentials, f"post {number}")
                worker.go()
        doomed.kill()
        yield Orphans(before, pds, account, waiting)


@pytest.mark.pds
def test_eight_processes_at_the_moment_of_expiry_share_one_refresh(
    real_pds: RealPds, aws_if_any: AwsCredentials | None, workers: StartWorkers
) -> None:
    account, credentials = expired(real_pds, aws_if_any)
    eight = workers(8)
    # Each has the session in its memory, so each learns from the server that its token has expired.
    assert together(eight, gate, [(credentials,)] * 8) == ["reused"] * 8
    wanted = [f"post {number}" for number in range(8)]
    with counted(real_pds) as requests:
        together(eight, publish, [(credentials, text) for text in wanted])
    assert requests == {WRITE: 16, REFRESH: 1}
    assert texts(real_pds, account) == wanted


def test_eight_processes_at_an_empty_store_share_one_login(
    sandbox_pds: Pds, aws_if_any: AwsCredentials | None, workers: StartWorkers
) -> None:
    credentials = block(sandbox_pds, sandbox_pds.create_account(), aws_credentials=aws_if_any)
    with counted(sandbox_pds) as requests:
        actions = together(workers(8), gate, [(credentials,)] * 8)
    assert requests == {LOGIN: 1}
    assert Counter(actions) == {"logged_in": 1, "reused": 7}


def test_fifty_gates_in_each_of_eight_processes_share_one_refresh(
    sandbox_pds: Pds, aws_if_any: AwsCredentials | None, workers: StartWorkers
) -> None:
    credentials = block(sandbox_pds, sandbox_pds.create_account(), aws_credentials=aws_if_any)
    credentials.ensure_session()
    let_session_end(credentials)
    with counted(sandbox_pds) as requests:
        actions = together(workers(8), gates, [(credentials, 50)] * 8)
    assert requests == {REFRESH: 1}
    assert Counter(chain.from_iterable(actions)) == {"refreshed": 1, "reused": 399}


@pytest.mark.parametrize(
    ("death", "requests_of_both"),
    [
        ("before the refresh is sent", {WRITE: 3, REFRESH: 1}),
        ("before PutSecretValue", {WRITE: 3, REFRESH: 2}),  # the heir's with the older token, in its grace period
        ("before UpdateSecretVersionStage", {WRITE: 3, REFRESH: 2}),
        ("after UpdateSecretVersionStage", {WRITE: 2, REFRESH: 1}),
    ],
)
def test_a_worker_killed_while_it_refreshes_leaves_a_session_that_goes_on(
    sandbox_pds: Pds,
    aws_credentials: AwsCredentials,
    workers: StartWorkers,
    death: str,
    requests_of_both: dict[str, int],
) -> None:
    account, credentials = expired(sandbox_pds, aws_credentials)
    doomed, heir, reader = workers(3)
    with counted(sandbox_pds) as requests:
        doomed.prepare(publish_and_die, credentials, "never seen", death)
        doomed.go()
        assert doomed.exit_code() == -signal.SIGKILL
        heir.do(publish, credentials, "after the death")
    assert requests == requests_of_both
    with counted(sandbox_pds) as requests:
        reader.do(publish, credentials, "later")
    assert requests == {WRITE: 1}
    assert texts(sandbox_pds, account) == ["after the death", "later"]


@pytest.mark.parametrize("other", [False, True], ids=["in the same process", "in another one"])
def test_a_refresh_whose_answer_is_lost_is_made_good_by_the_next_gate(
    sandbox_pds: sandbox.Sandbox, aws_credentials: AwsCredentials, workers: StartWorkers, other: bool
) -> None:
    credentials = block(sandbox_pds, sandbox_pds.create_account(), aws_credentials=aws_credentials)
    credentials.ensure_session()
    let_session_end(credentials)
    two = workers(2)
    sandbox_pds.drop(REFRESH)
    with counted(sandbox_pds) as requests:
        outcomes = [two[0].do(gate, credentials), two[other].do(gate, credentials)]
    assert outcomes == ["ServiceUnavailable", "refreshed"]
    assert requests == {REFRESH: 2}


def test_a_day_of_posts_by_four_processes_takes_one_login(
    prefect_api: str, aws_credentials: AwsCredentials, workers: StartWorkers
) -> None:
    rounds = POSTS_A_DAY // 4
    four = workers(4)
    uris: list[str] = []
    with sandbox.run() as pds:
        account = pds.create_account("busy.test")
        credentials = block(pds, account, aws_credentials=aws_credentials)
        # In turn: meeting at the lock is for the tests above.
        for number in range(rounds * 4):
            ahead = number * DAY / (rounds * 4)
            uris.append(four[number % 4].do(publish_later, credentials, ahead, f"post {number:04}"))
            pds.advance(DAY / (rounds * 4))
        requests = Counter(request.nsid for request in pds.requests())
        posted = sorted(post["uri"] for post in pds.posts(account))
    assert posted == sorted(uris)
    assert len(set(posted)) == rounds * 4
    # A token of 120 minutes is refreshed when 80 of them are gone at the earliest, and before the 110th at the latest,
    # in the next round of posts.
    at_most, at_least = 24 * 60 / 80, 24 * 60 / (110 + ceil(24 * 60 / rounds))
    assert at_least - 1 <= requests[REFRESH] <= at_most
    assert requests == {LOGIN: 1, REFRESH: requests[REFRESH], WRITE: rounds * 4}


def test_a_worker_killed_while_it_holds_the_lock_holds_up_the_others_for_its_lease(orphans: Orphans) -> None:
    # However slow the machine: the lease cannot have run out earlier.
    lease = BlueskySettings().lock_lease
    assert min(worker.outcome() for worker in orphans.waiting) > orphans.before + lease
    requests = Counter(request.nsid for request in orphans.pds.requests())
    # One refresh of the killed worker, whose answer nobody has; one of the first that got the lock after it.
    assert requests == {LOGIN: 1, REFRESH: 2, WRITE: 3}
    assert texts(orphans.pds, orphans.account) == ["post 0", "post 1", "post 2"]
