"""Accounts by grants through faults: a sample of what benchmarks/grants.py does by the hundred."""

from __future__ import annotations

import pytest
from prefect_aws import AwsCredentials

from tests.granted_faults import Found, Life
from tests.pds.client_host import ClientHost
from tests.pds.server import RealPds

pytestmark = [pytest.mark.pds, pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "directory")]

FAULTS = 15
"""About half a minute."""


@pytest.fixture
def pds(real_pds: RealPds) -> RealPds:
    return real_pds


@pytest.mark.parametrize("seed", [1, 2], ids=["AWS", "Prefect"])
def test_faults_leave_an_account_whose_posts_go_out_once(
    seed: int, real_pds: RealPds, host: ClientHost, aws_credentials: AwsCredentials
) -> None:
    found = Found()
    Life(seed, real_pds, host, aws_credentials, found).live(FAULTS)
    assert found.wrong == []
    assert found.lost.total() == found.by_spare + found.visits_of_outages
    assert found.posts > FAULTS
