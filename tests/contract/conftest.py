"""Fixtures of the contract tests."""

import pytest

from prefect_bluesky import BlueskyCredentials
from tests.contract.caller import Caller, fresh_caller
from tests.support import Pds, block


@pytest.fixture(scope="module", params=["sandbox", pytest.param("real", marks=pytest.mark.pds)])
def caller(request: pytest.FixtureRequest) -> Caller:
    """An account that has logged in, shared by all cases of a module that leave it as it is."""
    return fresh_caller(request.getfixturevalue(f"{request.param}_pds"))


@pytest.fixture
def pds(each_pds: Pds) -> Pds:
    return each_pds


@pytest.fixture
def credentials(pds: Pds, accounts: dict[str, BlueskyCredentials]) -> BlueskyCredentials:
    """An account on each PDS for all examples."""
    if pds.url not in accounts:
        accounts[pds.url] = block(pds, pds.create_account())
    return accounts[pds.url]


@pytest.fixture(scope="module")
def accounts() -> dict[str, BlueskyCredentials]:
    return {}
