"""The servers that tests share, once a session, and the quiet in which each test begins."""

import os
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from prefect_bluesky import sandbox
from tests.pds import server as pds_server
from tests.support import Pds


@pytest.fixture(autouse=True)
def no_prefect_api() -> Iterator[None]:
    """Unless a test asks for `prefect_api`, there is none, and what would start one fails."""
    with temporary_settings({PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}, restore_defaults={PREFECT_API_URL}):
        yield


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """A Prefect server of this test session, on a fresh database; its API URL."""
    with (
        temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}),
        prefect_test_harness(server_startup_timeout=180),
    ):
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def prefect_api(no_prefect_api: None, prefect_server: str) -> Iterator[str]:
    """A Prefect API at hand."""
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield prefect_server


@pytest.fixture(scope="session")
def sandbox_pds() -> Iterator[sandbox.Sandbox]:
    """The package's own PDS on loopback."""
    with sandbox.run() as pds:
        yield pds


@pytest.fixture(scope="session")
def real_pds() -> Iterator[pds_server.RealPds]:
    """A real PDS. Where it cannot be fetched its tests are skipped; not in CI."""
    try:
        pds_server.installed()
    except pds_server.PdsUnavailable as why:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no real PDS here: {why}")
    with pds_server.run() as pds:
        yield pds


@pytest.fixture(params=["sandbox", pytest.param("real", marks=pytest.mark.pds)])
def pds(request: pytest.FixtureRequest) -> Pds:
    """Both: what is said of one is asked of the other."""
    found: Pds = request.getfixturevalue(f"{request.param}_pds")
    return found


@pytest.fixture(scope="session")
def aws_credentials() -> Iterator[AwsCredentials]:
    """AWS, played by moto over HTTP."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield AwsCredentials(
        aws_access_key_id="testing",
        aws_secret_access_key=SecretStr("testing"),
        region_name="eu-central-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=f"http://{host}:{port}"),
    )
    server.stop()
