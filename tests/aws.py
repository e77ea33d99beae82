"""AWS, played by moto over HTTP.

with run() as url:
    BlueskyCredentials(..., aws_credentials=credentials(url))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr


@contextmanager
def run() -> Iterator[str]:
    """An AWS, until the context ends; where it is."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def credentials(url: str) -> AwsCredentials:
    """A block for it, never one that somebody else has: once saved, a block is known to one Prefect server."""
    return AwsCredentials(
        aws_access_key_id="testing",
        aws_secret_access_key=SecretStr("testing"),
        region_name="eu-central-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=url),
    )
