"""Planned posts while workers and Prefect's server are killed: `kill -9` at seeded moments around the due time.

Each world has a Prefect server on a PostgreSQL, and a worker, all forked from one Python that has imported Prefect; all
worlds share a real PDS. A world plans posts of some accounts for half a minute later, kills its worker (with the runs)
or its server at the seed's moment, starts it again some seconds later, and waits until all states are set. Then comes
the next seed: whatever the last kill has left behind is still there.

What is early, lost or doubled is judged by what lies on the PDS in the end. A post is late by the time since it was
due, or since what was killed ran again, if that came later.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median
from threading import Lock
from typing import Any

# A script's own folder is on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).parents[2]))

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flows import load_flow_from_entrypoint
from pydantic import SecretStr

from prefect_bluesky import BlueskyCredentials
from prefect_bluesky.planning.scheduled_runs import DEPLOYMENT
from tests import warm
from tests.benchmarks.due_stage import UsersWorker, Write, writes
from tests.benchmarks.stage import Numbers
from tests.pds.server import Account, RealPds
from tests.pds.server import run as run_pds
from tests.prefect_server import FOR_ALL, drain, postgresql
from tests.world import ROOT, World, world

ACCOUNTS = 4
_AFTER_DUE = (0, 0, 1, 2)
"""The posts of each account, by the seconds after the first."""

_PLANNING = 10.0
"""Seconds that planning takes at the most where all cores are busy."""

_PATIENCE = 300.0
"""Seconds after which a post that is not settled is given up. Prefect calls a run dead after 90."""


@dataclass(frozen=True)
class Kill:
    """What is killed, when, and for how long it is down.

    Attributes:
        what: the worker with all its runs, or the server.
        lead: the seconds from the planning to the due time.
        moment: the seconds from the due time to the kill.
        down: the seconds until it is started again.
    """

    seed: int
    what: str
    lead: float
    moment: float
    down: float

    @classmethod
    def of(cls, seed: int) -> Kill:
        """Return the kill of a seed: a third each before, while and after posts go out."""
        chance = Random(seed)
        around = chance.choice(((-20.0, -1.0), (-1.0, 3.0), (3.0, 20.0)))
        what = chance.choice(("worker", "server"))
        return cls(seed, what, chance.uniform(22, 40), chance.uniform(*around), chance.uniform(1, 8))


@dataclass(frozen=True)
class Outcome:
    """What a world tells of a kill.

    Attributes:
        killed_at: when.
        up_at: when it had been started again.
        posts: the posts, by account and text, and when each was due.
        states: how many runs of the posts are in which state.
        ended: whether the worker had ended by itself before.
    """

    kill: Kill
    killed_at: float
    up_at: float
    posts: list[tuple[str, str, float]]
    states: dict[str, int]
    ended: bool

    @classmethod
    def read(cls, line: str) -> Outcome:
        """Read what a world has printed."""
        given = json.loads(line)
        return cls(Kill(**given.pop("kill")), posts=[(did, text, at) for did, text, at in given.pop("posts")], **given)


@dataclass
class Judgement:
    """What became of the posts of a kill. `late` has the seconds of each post that went out."""

    early: int = 0
    lost: int = 0
    doubled: int = 0
    late: list[float] = field(default_factory=list)


def judge(outcome: Outcome, found: dict[tuple[str, str], list[float]]) -> Judgement:
    """Compare what was planned with what is out: for each account and text, the times."""
    judgement = Judgement()
    for did, text, due in outcome.posts:
        times = sorted(found.get((did, text), []))
        judgement.lost += not times
        judgement.doubled += len(times) > 1
        judgement.early += sum(at < due for at in times)
        if times:
            # What went out before the kill was not held up by it.
            since = due if times[0] < outcome.killed_at else max(due, outcome.up_at)
            judgement.late.append(max(0.0, times[0] - since))
    return judgement


class _Posts:
    """What lies on the PDS, and when it came there."""

    def __init__(self, pds: RealPds, accounts: Sequence[Account]) -> None:
        self._pds, self._accounts = pds, {account.did: account for account in accounts}

    def of(self, dids: set[str]) -> dict[tuple[str, str], list[float]]:
        """Return the times of each account's texts."""
        committed: dict[str, Write] = {f"at://{each.did}/{each.path}": each for each in writes(self._pds)}
        found: dict[tuple[str, str], list[float]] = {}
        for did in dids:
            for post in self._pds.posts(self._accounts[did]):
                found.setdefault((did, post["value"]["text"]), []).append(committed[post["uri"]].at)
        return found


def kills(seeds: Sequence[int], worlds: int) -> Numbers:
    """Make the kills of some seeds, several at the same time, and judge what came of them."""
    worlds = min(worlds, len(seeds))
    outcomes: list[Outcome] = []
    began = time.monotonic()
    lock = Lock()
    with warm.running(FOR_ALL), run_pds() as pds, ThreadPoolExecutor(worlds) as threads:
        accounts = [pds.create_account() for _ in range(worlds * ACCOUNTS)]
        posts = _Posts(pds, accounts)

        def make(number: int) -> None:
            own = accounts[number * ACCOUNTS : (number + 1) * ACCOUNTS]
            for outcome in _outcomes(pds.url, own, seeds[number::worlds]):
                judgement = judge(outcome, posts.of({account.did for account in own}))
                with lock:
                    outcomes.append(outcome)
                    left = (time.monotonic() - began) / len(outcomes) * (len(seeds) - len(outcomes)) / 60
                    print(f"{len(outcomes)} of {len(seeds)}, {left:.0f} min left: ", end="", file=sys.stderr)
                    print(_said(outcome, judgement), file=sys.stderr, flush=True)

        for each in [threads.submit(make, number) for number in range(worlds)]:
            each.result()
        # A later run may have doubled what an earlier kill had left.
        found = posts.of({account.did for account in accounts})
    judged = [(outcome, judge(outcome, found)) for outcome in outcomes]
    for outcome, judgement in judged:
        if judgement.early or judgement.lost or judgement.doubled or max(judgement.late, default=0) > 60:
            print(f"--only kills --kills 1 --seed {_said(outcome, judgement)}", file=sys.stderr)
    late = [max(judgement.late, default=0.0) for _, judgement in judged]
    states = sum((Counter(outcome.states) for outcome, _ in judged), Counter[str]())
    return {
        "kills": len(judged),
        "posts": sum(len(outcome.posts) for outcome, _ in judged),
        "workers_killed": sum(outcome.kill.what == "worker" for outcome, _ in judged),
        "early": sum(judgement.early for _, judgement in judged),
        "lost": sum(judgement.lost for _, judgement in judged),
        "doubled": sum(judgement.doubled for _, judgement in judged),
        "late": max(late),
        "late_median": median(late),
        "late_over_60": sum(each > 60 for each in late),
        "not_completed": states.total() - states["Completed"],
        "workers_ended_by_themselves": sum(outcome.ended for outcome, _ in judged),
        "seconds": time.monotonic() - began,
    }


def _said(outcome: Outcome, judgement: Judgement) -> str:
    kill = outcome.kill
    states = ", ".join(f"{count} {state}" for state, count in outcome.states.items())
    return (
        f"{kill.seed} ({kill.what} at {kill.moment:+.1f} s for {outcome.up_at - outcome.killed_at:.1f} s):"
        f" {judgement.early} early, {judgement.lost} lost, {judgement.doubled} doubled,"
        f" {max(judgement.late, default=0):.1f} s late; {states}{'; the worker had ended' if outcome.ended else ''}"
    )


def _outcomes(pds_url: str, accounts: Sequence[Account], seeds: Sequence[int]) -> Iterator[Outcome]:
    """Make kills in a world that is a process of its own: Prefect keeps one queue of events in each."""
    command = [warm.python(), __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        work = {"pds": pds_url, "accounts": [asdict(account) for account in accounts], "seeds": list(seeds)}
        process.stdin.write(json.dumps(work) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            # Prefect may say something too.
            if line.startswith('{"kill"'):
                yield Outcome.read(line)
    if process.returncode:
        raise RuntimeError(f"a world has ended with {process.returncode}")


class _KilledWorld:
    """A world whose worker or server is killed again and again."""

    def __init__(self, prefect: World, home: Path, pds_url: str, accounts: Sequence[Account]) -> None:
        self._prefect, self._home = prefect, home
        self._names = {account.handle.partition(".")[0]: account for account in accounts}
        for name, account in self._names.items():
            password = SecretStr(account.app_password)
            BlueskyCredentials(handle=account.handle, app_password=password, service_url=pds_url).save(name)
        self._publish_batch: Any = load_flow_from_entrypoint(f"{ROOT / 'flows' / 'publish_batch.py'}:publish_batch")
        with get_client(sync_client=True) as client:
            self._planned = client.read_deployment_by_name(DEPLOYMENT).id
        self._worker = self._start_worker()

    def _start_worker(self) -> UsersWorker:
        return UsersWorker(self._home, self._prefect.server.url, python=warm.python())

    def close(self) -> None:
        """End the worker."""
        self._worker.kill()

    def make(self, kill: Kill) -> Outcome:
        """Plan, kill, start again, and wait until all is settled."""
        if ended := self._worker._process.poll() is not None:
            self._worker = self._start_worker()
        due = (datetime.now(UTC) + timedelta(seconds=kill.lead + _PLANNING)).replace(microsecond=0)
        planned = [
            (name, f"{kill.seed} {number} {name}", due + timedelta(seconds=after))
            for name in self._names
            for number, after in enumerate(_AFTER_DUE)
        ]
        items = [{"account": name, "text": text, "at": at} for name, text, at in planned]
        state = self._publish_batch(items=items, return_state=True)
        assert state.message == f"{len(items)} scheduled", state.message
        drain()
        _sleep_until(due.timestamp() + kill.moment)
        killed_at = time.time()
        if kill.what == "worker":
            self._worker.kill()
            time.sleep(kill.down)
            self._worker = self._start_worker()
        else:
            self._prefect.server.kill()
            time.sleep(kill.down)
            self._prefect.server.start()
        up_at = time.time()
        _sleep_until(planned[-1][2].timestamp())
        states = self._settled({text for _, text, _ in planned}, time.monotonic() + _PATIENCE)
        posts = [(self._names[name].did, text, at.timestamp()) for name, text, at in planned]
        return Outcome(kill, killed_at, up_at, posts, states, ended)

    def _settled(self, texts: set[str], until: float) -> dict[str, int]:
        """Wait until the states of all posts' runs are set, or patience ends; how many are in which state."""
        while True:
            states = [
                run.state for run in self._newest() if run.state and run.parameters.get("post", {}).get("text") in texts
            ]
            if time.monotonic() > until or all(state.is_final() for state in states):
                return dict(Counter(str(state.name) for state in states))
            time.sleep(1)

    def _newest(self) -> list[FlowRun]:
        wanted = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[self._planned]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(StateType))),
        )
        with get_client(sync_client=True) as client:
            return client.read_flow_runs(
                flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=2 * ACCOUNTS * len(_AFTER_DUE)
            )


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


@contextmanager
def _killed_world(work: dict[str, Any]) -> Iterator[_KilledWorld]:
    accounts = [Account(**each) for each in work["accounts"]]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home,
        postgresql() as database,
        world(Path(home), database) as prefect,
        closing(_KilledWorld(prefect, Path(home), work["pds"], accounts)) as killed,
    ):
        yield killed


def _main() -> None:
    logging.disable(logging.CRITICAL)
    work = json.loads(sys.stdin.readline())
    with _killed_world(work) as killed:
        for seed in work["seeds"]:
            print(json.dumps(asdict(killed.make(Kill.of(seed)))), flush=True)


if __name__ == "__main__":
    _main()
