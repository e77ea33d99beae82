"""Fixtures of the contract tests."""

from collections.abc import Iterator

import pytest
from prefect_aws import AwsCredentials

from prefect_bluesky import BlueskyCredentials, sandbox
from tests.contract.caller import Caller, fresh_caller
from tests.contract.causes import Patient
from tests.contract.hosts import Host, host_of
from tests.contract.oauth_caller import OAuthCaller
from tests.support import Account, Pds, block, web_page


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


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[sandbox.Sandbox]:
    """A PDS that has none of the accounts."""
    with sandbox.run() as pds:
        yield pds


@pytest.fixture(scope="session")
def forbidding() -> Iterator[str]:
    """An AWS that denies everything."""
    with web_page(b'{"__type": "AccessDeniedException", "message": "not authorized"}', status=400) as url:
        yield url


@pytest.fixture
def patient(
    pds: Pds, aws_credentials: AwsCredentials, elsewhere: Pds, forbidding: str, monkeypatch: pytest.MonkeyPatch
) -> Patient:
    """A fresh account whose session lies in Secrets Manager."""
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", pds.plc_url)
    return Patient.on(pds, aws_credentials, elsewhere=elsewhere, forbidding=forbidding)


@pytest.fixture(scope="module")
def accounts() -> dict[str, BlueskyCredentials]:
    return {}


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch, pds: Pds) -> None:
    """The directory that knows the accounts."""
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", pds.plc_url)


@pytest.fixture
def account(pds: Pds) -> Account:
    """An account of the PDS."""
    made: Account = pds.create_account()
    return made


@pytest.fixture
def host(pds: Pds) -> Iterator[Host]:
    """A web host of an OAuth client, which the PDS finds."""
    with host_of(pds) as host:
        yield host


@pytest.fixture(scope="module", params=["sandbox", pytest.param("real", marks=pytest.mark.pds)])
def pds_of_module(request: pytest.FixtureRequest) -> Pds:
    found: Pds = request.getfixturevalue(f"{request.param}_pds")
    return found


@pytest.fixture(scope="module")
def public(pds_of_module: Pds) -> OAuthCaller:
    """A loopback client, shared by all cases that leave it as it is."""
    return OAuthCaller(pds_of_module)


@pytest.fixture(scope="module")
def confidential(pds_of_module: Pds) -> Iterator[OAuthCaller]:
    """A confidential client, shared likewise."""
    with host_of(pds_of_module) as host:
        yield OAuthCaller(pds_of_module, host)


@pytest.fixture(scope="module")
def signed_in(pds_of_module: Pds) -> OAuthCaller:
    """An account with a granted session, shared likewise."""
    caller = OAuthCaller(pds_of_module)
    caller.sign_in()
    return caller
