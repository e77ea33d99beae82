"""What `credentials.publish` takes beside the SDK's own `send_post`: in turn, in one run, on one real PDS.

uv run tests/benchmarks/publish.py --json
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from atproto import Client

# A script's own folder is on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.pds import server
from tests.support import block

TEXT = "A post of ordinary length that says what such posts say and leads nowhere"
WITH_LINK = f"{TEXT} https://example.com/a/page/somewhere #prefect"
TARGET = 1.15


def measure(rounds: int) -> dict[str, float]:
    """The median seconds of each kind of publishing, over rounds in which each comes once, in random order."""
    with server.run() as pds:
        account = pds.create_account()
        credentials = block(pds, account)
        client = Client(pds.url)
        client.login(account.handle, account.app_password, fetch_bsky_profile=False)
        ways: dict[str, Callable[[], object]] = {
            "send_post": lambda: client.send_post(TEXT, profile_identify=account.did),
            "publish": lambda: credentials.publish(TEXT),
            "publish_with_link": lambda: credentials.publish(WITH_LINK),
            "publish_thread_of_5": lambda: credentials.publish([TEXT] * 5),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for round_ in range(rounds + 5):
            for name, publish in random.sample(list(ways.items()), len(ways)):
                start = time.perf_counter()
                publish()
                if round_ >= 5:  # the first ones warm up
                    seconds[name].append(time.perf_counter() - start)
    return {name: median(each) for name, each in seconds.items()}


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--rounds", type=int, default=100, help="posts of each kind")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found = measure(arguments.rounds)
    ratio = found["publish"] / found["send_post"]
    if arguments.json:
        milliseconds = {f"{name}_ms": round(1000 * each, 2) for name, each in found.items()}
        print(json.dumps({**milliseconds, "rounds": arguments.rounds, "ratio": round(ratio, 3), "target": TARGET}))
        return
    for name, each in found.items():
        print(f"{name:20} {1000 * each:7.2f} ms  {each / found['send_post']:5.2f}x")


if __name__ == "__main__":
    main()
