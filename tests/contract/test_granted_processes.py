"""One account of a grant in many processes, on a real PDS: they meet, and they are killed."""

from __future__ import annotations

from collections import Counter

import pytest
from prefect_aws import AwsCredentials

from prefect_bluesky import BlueskyCredentials, BlueskyOAuthClient
from tests.contract.granted import let_token_expire
from tests.pds.consent import consent
from tests.pds.server import Account, RealPds
from tests.support import texts
from tests.worker import StartWorkers, publish, together
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
    made = BlueskyCredentials(
        handle=account.handle,
        service_url=real_pds.url,
        oauth_client=BlueskyOAuthClient(),
        aws_credentials=aws_credentials if request.param == "AWS" else None,
    )
    visit = made.visit()
    for is_spare in (False, True):
        visit.take(consent(visit.link(), account), is_spare=is_spare)
    return made


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
    saved = credentials.session_store().load()
    assert saved
    assert saved.document.spare is not None


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
