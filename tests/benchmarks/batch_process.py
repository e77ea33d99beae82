"""One way of doing a batch, in a process of its own, whose time and memory are its alone.

What to do comes as JSON on the standard input; the last line of the output says what it took.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx


def publish_batch(items: list[dict[str, Any]]) -> None:
    """The flow, with a calendar."""
    from prefect.flows import load_flow_from_entrypoint

    flow: Any = load_flow_from_entrypoint(f"{Path(__file__).parents[2] / 'flows' / 'publish_batch.py'}:publish_batch")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as calendar:
        json.dump(items, calendar)
        calendar.flush()
        start = time.perf_counter()
        state = flow(calendar=calendar.name, return_state=True)
        _say(time.perf_counter() - start, message=state.message.partition(".")[0])


def empty(_: None) -> None:
    """A flow that does nothing, of a process that has imported what the other has."""
    from prefect import flow

    import prefect_bluesky  # noqa: F401

    @flow
    def nothing() -> None:
        pass

    start = time.perf_counter()
    nothing()
    _say(time.perf_counter() - start)


def bare(work: dict[str, Any]) -> None:
    """The same requests and nothing else, so many at a time."""
    with httpx.Client(base_url=work["url"], timeout=60) as http, ThreadPoolExecutor(work["at_once"]) as threads:

        def send(request: dict[str, Any]) -> None:
            headers = {"Authorization": f"Bearer {request['token']}"} if request["token"] else {}
            answer = http.post(f"/xrpc/{request['method']}", json=request["body"], headers=headers)
            assert answer.status_code == request["status"], answer.text

        def serve(account: list[dict[str, Any]]) -> None:
            for request in account:
                send(request)

        began, start = time.time(), time.perf_counter()
        list(threads.map(serve, work["accounts"]))
        _say(time.perf_counter() - start, began=began)


def _say(seconds: float, **others: Any) -> None:
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"\n{json.dumps({'seconds': seconds, 'megabytes': megabytes, **others})}\n")


WAYS: dict[str, Callable[[Any], None]] = {"publish_batch": publish_batch, "empty": empty, "bare": bare}

if __name__ == "__main__":
    WAYS[sys.argv[1]](json.load(sys.stdin))
