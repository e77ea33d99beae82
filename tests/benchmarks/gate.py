"""What the gate and the signing of one request take with a valid session: of an app password, and of a grant.

uv run tests/benchmarks/gate.py --json

Both accounts are on one real PDS, and each way comes once in a round, in random order. Neither asks any server.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import httpx
from prefect.settings import PREFECT_API_URL, temporary_settings

# A script's own folder is on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).parents[2]))

from prefect_bluesky import BlueskyCredentials, BlueskyOAuthClient
from prefect_bluesky.sessions import SessionAuth, SessionDocument
from prefect_bluesky.sessions.fingerprint import Fingerprint
from tests.contract.granted import Granted, publish
from tests.pds import server
from tests.pds.client_host import ClientHost
from tests.support import WRITE, block

TARGET = 0.3
"""Milliseconds that a grant may take more."""


def granted(pds: server.RealPds, host: ClientHost) -> BlueskyCredentials:
    """Return the block of an account whose owner has granted a session, which is stored in memory."""
    account = pds.create_account()
    made = BlueskyOAuthClient(url=host.url, key=BlueskyOAuthClient.new_key())
    (client,) = made.clients().values()
    publish(client, host, made.scope)
    session = Granted.to(client, made.scope, pds, account).session
    credentials = BlueskyCredentials(handle=account.handle, service_url=pds.url, oauth_client=made)
    made_with = Fingerprint.of(f"oauth {client.client_id}")
    credentials.session_store().save(SessionDocument().with_session(session, made_with), None)
    return credentials


def seconds(credentials: BlueskyCredentials, url: str) -> float:
    """Return the seconds that one gate and one signature take."""
    request = httpx.Request("POST", url, json={"text": "a post"})
    start = time.perf_counter()
    credentials.ensure_session()
    next(SessionAuth(credentials._authenticator()).sync_auth_flow(request))
    took = time.perf_counter() - start
    assert "Authorization" in request.headers
    return took


def measure(rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each way, and the requests that the PDS got meanwhile."""
    with ExitStack() as stack:
        stack.enter_context(temporary_settings(restore_defaults={PREFECT_API_URL}))
        pds = stack.enter_context(server.run())
        os.environ["PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL"] = pds.plc_url
        host = stack.enter_context(ClientHost(pds))
        ways = {"app_password_ms": block(pds, pds.create_account()), "grant_ms": granted(pds, host)}
        for each in ways.values():
            each.publish("The first post signs in, and learns the nonce.")
        before = len(pds.requests())
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, credentials in random.sample(list(ways.items()), len(ways)):
                took[name].append(1000 * seconds(credentials, f"{pds.url}/xrpc/{WRITE}"))
        found = {name: median(each) for name, each in took.items()}
        return {**found, "requests": len(pds.requests()) - before}


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--rounds", type=int, default=2000, help="gates of each account")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found = measure(arguments.rounds)
    found = {name: round(value, 3) for name, value in found.items()}
    found |= {"more_ms": round(found["grant_ms"] - found["app_password_ms"], 3), "target_ms": TARGET}
    if arguments.json:
        print(json.dumps(found | {"rounds": arguments.rounds}))
        return
    for name, value in found.items():
        print(f"{name:16} {value:g}")


if __name__ == "__main__":
    main()
