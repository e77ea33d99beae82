"""What the contract tests share."""

import pytest

from tests.contract.caller import Caller, fresh_caller


@pytest.fixture(scope="module", params=["sandbox", pytest.param("real", marks=pytest.mark.pds)])
def caller(request: pytest.FixtureRequest) -> Caller:
    """An account that has logged in, shared by all cases of a module that leave it as it is."""
    return fresh_caller(request.getfixturevalue(f"{request.param}_pds"))
