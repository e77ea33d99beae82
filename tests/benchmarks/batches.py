"""What many posts and many accounts take, beside the SDK's own loop and beside a login for every post.

uv run --group benchmarks tests/benchmarks/batches.py --json --chart chart.png

All in one run, on one real PDS, with a Prefect server on PostgreSQL and sessions in a Secrets Manager, all on loopback.
Times are medians of the rounds; a ratio is of two things in one round. Where time is measured against the PDS's own
limit, the PDS has one core, and all else the others: it stands for a machine of its own.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import median
from subprocess import check_output
from typing import Any

from atproto import Client
from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

# A script's own folder is on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).parents[2]))

from prefect_bluesky import BlueskyCredentials, PublishedPost
from prefect_bluesky.alerts.events import AUTH_FAILED, POST_PUBLISHED
from prefect_bluesky.protocol.records import record_keys
from prefect_bluesky.sessions.stores.aws_secret import AwsSecret
from tests import proxy
from tests.benchmarks.report import Target, draw, tell, tell_round
from tests.benchmarks.stage import Numbers, Stage
from tests.pds.server import Account
from tests.proxy import Phase, Step
from tests.support import LOGIN, REFRESH, WRITE, counted, forget_processes_memory
from tests.worker import let_session_end

TEXT = "A post of ordinary length that says what such posts say and leads nowhere"
ROUND_TRIP = 0.1
_WARM_UP = 5
DEAD = 20
"""One account in so many has a dead app password: 5 %."""

POST = "app.bsky.feed.post"


def logins_for_many_posts(stage: Stage, posts: int) -> Numbers:
    """Logins for posts of one account, by processes that each publish a few, and by a login for every post."""
    account = stage.pds.create_account()
    credentials = stage.block(account)
    with counted(stage.pds) as ours:
        for number in range(posts):
            if number % 20 == 0:
                forget_processes_memory()
            credentials.publish(f"{number}")
    few = max(1, posts // 50)
    with counted(stage.pds) as theirs:
        for number in range(few):
            client = Client(stage.pds.url)
            client.login(account.handle, account.app_password, fetch_bsky_profile=False)
            client.send_post(f"{number}", profile_identify=account.did)
    return {"posts": posts, "logins": ours[LOGIN], "logins_for_every_post": theirs[LOGIN] / few * posts}


def valid_gate(stage: Stage) -> Numbers:
    """Measure a gate that finds a valid session."""
    credentials = stage.block(stage.pds.create_account())
    credentials.ensure_session()
    with counted(stage.pds) as requests:
        start = time.perf_counter()
        for _ in range(1000):
            credentials.ensure_session()
        seconds = time.perf_counter() - start
    return {"requests": sum(requests.values()), "milliseconds": seconds}


def store_calls(stage: Stage) -> Numbers:
    """Calls of the store: two processes read one session, two others the next, which the first of them has made."""
    credentials = stage.block(stage.pds.create_account())
    credentials.ensure_session()
    calls: Counter[str] = Counter()
    call = AwsSecret.call

    def count(secret: AwsSecret, operation: str, **parameters: Any) -> dict[str, Any]:
        calls[operation] += 1
        return call(secret, operation, **parameters)

    AwsSecret.call = count  # type: ignore[method-assign, assignment]
    try:
        for _ in range(2):
            forget_processes_memory()
            for _ in range(10):
                credentials.ensure_session()
        AwsSecret.call = call  # type: ignore[method-assign]
        let_session_end(credentials)
        AwsSecret.call = count  # type: ignore[method-assign, assignment]
        for _ in range(2):
            forget_processes_memory()
            for _ in range(10):
                credentials.ensure_session()
    finally:
        AwsSecret.call = call  # type: ignore[method-assign]
    reads = calls.pop("get_secret_value")
    # The one that refreshes has to do with both sessions.
    return {"reads": reads, "processes_and_sessions": 5, "writes_of_a_refresh": sum(calls.values())}


def backlog(stage: Stage, posts: int, rounds: int) -> Numbers:
    """Posts in a second: a backlog of one account, and the SDK's own loop.

    The loop knows nothing of Prefect, so the ratio is of what the block does where there is none. Beside it what it
    does where Prefect keeps the account's budget and is told of each post.
    """
    found: dict[str, list[float]] = {name: [] for name in ("posts_in_a_second", "ratio", "ratio_with_prefect")}
    # A PDS takes a third less time for a commit once it is warm: the first rounds do not count.
    for round_ in range(-_WARM_UP, rounds):
        texts = [f"{TEXT} {round_} {number}" for number in range(posts)]
        with temporary_settings(restore_defaults={PREFECT_API_URL}):
            alone = posts / _published_in(stage, texts)
        with_prefect = posts / _published_in(stage, texts)
        # Other accounts each time: one may not write as much in an hour.
        theirs = stage.pds.create_account()
        client = _signed_in(theirs, stage.pds.url)
        loop = posts / _seconds(_send, client, theirs, texts)
        measured = (alone, alone / loop, with_prefect / loop)
        tell_round(round_, rounds, dict(zip(found, measured, strict=True)))
        if round_ >= 0:
            for each, value in zip(found.values(), measured, strict=True):
                each.append(value)
    return {"posts": posts, **{name: median(each) for name, each in found.items()}}


def _published_in(stage: Stage, texts: Sequence[str]) -> float:
    """The seconds that an account's backlog takes."""
    credentials = stage.block(stage.pds.create_account())
    credentials.ensure_session()
    return _seconds(_publish, credentials, texts)


def far_away(stage: Stage, accounts: int, posts: int, rounds: int) -> Numbers:
    """Accounts with a few posts each, as a Prefect flow and in the SDK's own loop, over a long way."""

    def wait(step: Step, phase: Phase) -> None:
        if phase is Phase.BEFORE:
            time.sleep(ROUND_TRIP)

    with proxy.run(stage.pds.url, wait) as url:
        names = stage.saved([stage.pds.create_account() for _ in range(accounts)], url=url)
        clients = [(account, _signed_in(account, url)) for account in names.values()]
        for account in names.values():
            stage.sign_in(account, url=url)
        ratios, times = [], []
        for round_ in range(rounds):
            texts = [f"{TEXT} {round_} {number}" for number in range(posts)]
            ours = stage.flow("publish_batch", [{"account": name, "text": text} for name in names for text in texts])
            loop = sum(_seconds(_send, client, account, texts) for account, client in clients)
            times.append(ours["seconds"])
            ratios.append(loop / ours["seconds"])
            _check(stage, names.values(), 2 * posts * (round_ + 1))
    return {"posts": accounts * posts, "seconds": median(times), "ratio": median(ratios)}


def many_accounts(stage: Stage, count: int, rounds: int, *, cold: bool) -> Numbers:
    """Many accounts of which some are dead, as a Prefect flow, and the same requests by a bare script."""
    accounts = [stage.pds.create_account() for _ in range(count)]
    names = stage.saved(accounts)
    dead = accounts[::DEAD]
    for account in dead:
        stage.pds.revoke_app_password(account)
    empty = stage.flow("empty")["megabytes"]
    best = 0
    found: dict[str, list[float]] = {
        name: [] for name in ("seconds", "limit", "ratio", "memory", "incidents", "logins")
    }
    for round_ in range(rounds):
        tokens = {account.did: _reset(stage, account, dead, cold=cold) for account in accounts}

        def requests(some: Sequence[Account], mark: str) -> list[list[dict[str, Any]]]:
            return [_bare_requests(stage, each, tokens[each.did], each in dead, mark, cold=cold) for each in some]  # noqa: B023

        best = best or best_concurrency(stage, lambda mark: requests(accounts[: max(20, count // 10)], mark))
        limit = stage.flow(
            "bare", {"url": stage.pds.url, "at_once": best, "accounts": requests(accounts, f"r{round_}")}
        )
        began = datetime.now(UTC)
        items = [{"account": name, "text": f"{TEXT} {round_} {n}"} for name in names for n in range(2)]
        with counted(stage.pds) as made:
            ours = stage.flow("publish_batch", items)
        assert ours["message"] == f"{2 * (count - len(dead))} published, {2 * len(dead)} failed", ours["message"]
        found["seconds"].append(ours["seconds"])
        found["limit"].append(limit["seconds"])
        found["ratio"].append(ours["seconds"] / limit["seconds"])
        found["memory"].append(ours["megabytes"] / empty)
        found["incidents"].append(incidents(began))
        found["logins"].append(made[LOGIN])
        tell_round(round_, rounds, {name: each[-1] for name, each in found.items()})
    return {
        "accounts": count,
        "dead": len(dead),
        "at_once": best,
        **{name: median(each) for name, each in found.items()},
    }


def best_concurrency(stage: Stage, requests: Callable[[str], Any]) -> int:
    """Return the number of concurrent requests at which a PDS answers fastest."""
    seconds = {
        at_once: stage.flow("bare", {"url": stage.pds.url, "at_once": at_once, "accounts": requests(f"c{at_once}")})[
            "seconds"
        ]
        for at_once in (4, 8, 16, 32)
    }
    return min(seconds, key=lambda at_once: float(seconds[at_once]))


def imports() -> Numbers:
    """The CPU seconds that the package adds to `prefect` and `prefect_aws`."""
    program = (
        # Prefect's own import leaves the garbage collector one step before a full collection, 90 ms of CPU.
        "import prefect, prefect_aws, gc, time; gc.collect(); start = time.process_time(); import prefect_bluesky;"
        "print(time.process_time() - start)"
    )
    # With the compiled modules that an installed package has.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    taken = [float(check_output([sys.executable, "-c", program], env=environment)) for _ in range(6)]
    return {"seconds": median(taken[1:])}


def _reset(stage: Stage, account: Account, dead: Sequence[Account], *, cold: bool) -> tuple[str, str]:
    """Bring an account's store back to what it was; its tokens."""
    if cold:
        stage.forget(account)
        session = stage.session(account)
    else:
        session = stage.sign_in(account)
        if account in dead:
            let_session_end(stage.block(account))
            forget_processes_memory()
    return session.access_token, session.refresh_token


def _bare_requests(
    stage: Stage, account: Account, tokens: tuple[str, str], is_dead: bool, mark: str, *, cold: bool
) -> list[dict[str, Any]]:
    """Count the requests of the flow to a PDS for one account."""
    access, refresh = tokens
    login = {"identifier": account.handle, "password": account.app_password}
    requests: list[dict[str, Any]] = []
    if is_dead and not cold:
        requests.append({"method": REFRESH, "token": refresh, "body": None, "status": 400})
    if is_dead or cold:
        requests.append({"method": LOGIN, "token": None, "body": login, "status": 401 if is_dead else 200})
    if not is_dead:
        keys = record_keys(account.did, mark, count=2)
        body = {"repo": account.did, "writes": [create(key, f"{TEXT} {mark} {n}") for n, key in enumerate(keys)]}
        requests.append({"method": WRITE, "token": access, "body": body, "status": 200})
    return requests


def create(rkey: str, text: str) -> dict[str, Any]:
    value = {"$type": POST, "text": text, "createdAt": "2026-11-22T12:00:00.000Z"}
    return {"$type": f"{WRITE}#create", "collection": POST, "rkey": rkey, "value": value}


def incidents(since: datetime) -> int:
    """Return the number of accounts that Prefect was told of."""
    wanted = EventFilter(event=EventNameFilter(name=[AUTH_FAILED]), occurred=EventOccurredFilter(since=since))
    with get_client(sync_client=True) as client:
        return client.read_events(wanted, limit=1).total


def _events() -> int:
    """Return the number of posts of which Prefect has stored the event."""
    with get_client(sync_client=True) as client:
        return client.read_events(EventFilter(event=EventNameFilter(name=[POST_PUBLISHED])), limit=1).total


def _signed_in(account: Account, url: str) -> Client:
    client = Client(url)
    client.login(account.handle, account.app_password, fetch_bsky_profile=False)
    return client


def _send(client: Client, account: Account, texts: Sequence[str]) -> None:
    for text in texts:
        client.send_post(text, profile_identify=account.did)


def _publish(credentials: BlueskyCredentials, texts: Sequence[str]) -> None:
    done = credentials.publish_many([(text, text) for text in texts])
    assert all(isinstance(each, PublishedPost) for each in done)


def _check(stage: Stage, accounts: Iterable[Account], posts: int) -> None:
    """Check that nothing is lost and nothing is doubled."""
    for account in accounts:
        found = stage.pds.posts(account)
        assert len(found) == posts, f"{account.handle} has {len(found)} posts where {posts} were published"


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    seconds = time.perf_counter() - start
    # What is told of it must not slow down what is measured next: it is on its way, and then written to disk.
    EventsWorker.drain_all()
    stored = -1
    while PREFECT_API_URL.value() and stored != (now := _events()):
        stored = now
        time.sleep(1)
    return seconds


_TARGETS = (
    Target("{posts} posts of one account:\nfaster than the SDK's loop", "backlog", "ratio", 8, True, "x"),
    Target("{posts} posts of 20 accounts, far away:\nfaster than the SDK's loop", "far_away", "ratio", 8, True, "x"),
    Target("{accounts} accounts, signed in:\ntime of the PDS's own limit", "many_accounts", "ratio", 1.3, unit="x"),
    Target(
        "{accounts} accounts, not signed in:\ntime of the PDS's own limit", "many_accounts_cold", "ratio", 1.3, unit="x"
    ),
    Target("{accounts} accounts:\nmemory of an empty flow run", "many_accounts", "memory", 1.5, unit="x"),
)


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="draw the numbers")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--accounts", type=int, default=1000, help="how many the largest batch has")
    parser.add_argument("--only", nargs="*", help="these alone")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    rounds = arguments.rounds
    with ExitStack() as stack:
        stage = Stage(stack)

        @cache
        def apart() -> Stage:
            return Stage(stack, apart=True)

        measures: dict[str, Callable[[], Numbers]] = {
            "logins": lambda: logins_for_many_posts(stage, 1000),
            "gate": lambda: valid_gate(stage),
            "store": lambda: store_calls(stage),
            "backlog": lambda: backlog(stage, 500, rounds),
            "far_away": lambda: far_away(stage, 20, 10, rounds),
            "many_accounts": lambda: many_accounts(apart(), arguments.accounts, rounds, cold=False),
            "many_accounts_cold": lambda: many_accounts(apart(), arguments.accounts, rounds, cold=True),
            "imports": imports,
        }
        found = {}
        for name, measure in measures.items():
            if not arguments.only or name in arguments.only:
                found[name] = measure()
                print(f"{name} is measured", file=sys.stderr)
    tell(found, as_json=arguments.json)
    if arguments.chart:
        draw(found, _TARGETS, arguments.chart)


if __name__ == "__main__":
    main()
