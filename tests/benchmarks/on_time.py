"""How late planned posts are, what they cost, and what becomes of them when a worker or Prefect's server is killed.

uv run --group benchmarks tests/benchmarks/on_time.py --json --chart chart.png
uv run --group benchmarks tests/benchmarks/on_time.py --only kills --kills 20 --seed 137

All in one run: a real PDS, Prefect's server on PostgreSQL, set up by `deployments/setup.py`, workers as a user starts
them, and saved sessions; on loopback. Numbers are medians of the rounds. The PDS has one core, and all else the others:
it stands for a machine of its own.

When a post went out is what the PDS noted with its commit, read from its log afterwards. The limit is a bare script
that makes the writes of the accounts that can sign in, with valid tokens and at the best concurrency: from its start to
its last commit. What is known to be dead costs nothing at the time, so the limit knows nothing of it. The script finds
the PDS as a planned minute does, after a time in which nothing was asked of it.

CPU seconds come from /proc: of a worker with all its processes, those included that have ended, and of the process of
Prefect's server, from the end of the planning until all states are set and the processes of the runs have ended. What
the two take in that time without any post is taken off, and told beside it.

The server has the setting that docs/sizing.md advises: it calls a run late after two minutes, which costs it as much as
a post's own state.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from statistics import median
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.states import Scheduled

# A script's own folder is on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).parents[2]))

from prefect_bluesky.planning.dispatchers import LEAD
from prefect_bluesky.protocol.records import record_keys
from tests import proxy
from tests.benchmarks.batches import DEAD, ROUND_TRIP, TEXT, best_concurrency, create, incidents
from tests.benchmarks.due_stage import DueStage, last_write, writes
from tests.benchmarks.kills import kills
from tests.benchmarks.report import Target, draw, tell, tell_round
from tests.benchmarks.stage import Numbers
from tests.pds.server import Account
from tests.proxy import Phase, Step
from tests.support import LOGIN, REFRESH, WRITE, counted, forget_processes_memory
from tests.worker import let_session_end
from tests.world import wait_for

_AT_ONCE = 2
"""Accounts that a run serves at the same time where two workers share: so few that the way to the PDS is the limit.
With 4, two workers were 1.53 times as fast as one: with Prefect's server and the proxy, they share a core."""

_QUIET = 60
"""Seconds in which nothing is asked of the PDS before the bare script. A PDS that has rested for 40 s or more takes 1.5
to 1.9 times as long for 200 writes as one that has not, however many come at once (measured)."""

_SHORT_LEAD = timedelta(seconds=45)
"""The lead of their runs, which is enough for so few accounts: the rounds of two workers are the most."""


class Crowd:
    """Accounts with saved blocks, of which some may be dead, and what they publish in a minute."""

    def __init__(self, stage: DueStage, count: int, *, url: str | None = None, dead: int = 0) -> None:
        self._stage, self._url = stage, url
        self._accounts = [stage.pds.create_account() for _ in range(count)]
        self._names = stage.saved(self._accounts, url=url)
        self._dead = self._accounts[:: count // dead] if dead else []
        self._living = [account for account in self._accounts if account not in self._dead]
        for account in self._dead:
            stage.pds.revoke_app_password(account)
        self._planning = timedelta(seconds=30 + 0.1 * count)
        self._at_once = 0

    @property
    def size(self) -> int:
        """The number of its accounts."""
        return len(self._accounts)

    def sign_in(self) -> dict[str, str]:
        """Save a session for each; the access tokens. Those of the dead have to be refreshed."""
        tokens = {}
        for account in self._accounts:
            tokens[account.did] = self._stage.sign_in(account, url=self._url).access_token
            if account in self._dead:
                let_session_end(self._stage.block(account, url=self._url))
        forget_processes_memory()
        return tokens

    def limit(self, mark: str) -> float:
        """The seconds that a bare script takes for the writes of the living, up to the last commit."""
        tokens = self.sign_in()

        def requests(mark: str, some: Sequence[Account]) -> list[list[dict[str, object]]]:
            return [[self._write(account, tokens[account.did], mark)] for account in some]

        stage, some = self._stage, self._living[: max(100, self.size // 10)]
        self._at_once = self._at_once or best_concurrency(stage, lambda mark: requests(mark, some))
        time.sleep(_QUIET)
        before = last_write(stage.pds)
        work = {"url": stage.pds.url, "at_once": self._at_once, "accounts": requests(mark, self._living)}
        began: float = stage.flow("bare", work)["began"]
        return max(each.at for each in writes(stage.pds, before)) - began

    def _write(self, account: Account, token: str, mark: str) -> dict[str, object]:
        (key,) = record_keys(account.did, mark, count=1)
        body = {"repo": account.did, "writes": [create(key, f"{TEXT} {mark}")]}
        return {"method": WRITE, "token": token, "body": body, "status": 200}

    def publish(self, text: str, lead: timedelta = LEAD) -> Numbers:
        """Plan a post of each, which has a session, let the workers publish them, and measure.

        Returns:
            the seconds by which the first and the last post were late, the number of those that were early, and the
            CPU seconds a post of each process.
        """
        stage = self._stage
        before = last_write(stage.pds)
        at, took = stage.plan(list(self._names), text, self._planning, lead)
        # As short as is safe: what one round waits for, all rounds wait for.
        self._planning = 1.5 * took + timedelta(seconds=10)
        cpu = stage.cpu()
        time.sleep((at - datetime.now(UTC)).total_seconds() + 1)
        stage.wait_until_idle()
        cpu = stage.cpu() - cpu
        out = writes(stage.pds, before)
        dids = sorted(each.did for each in out)
        if dids != sorted(account.did for account in self._living):
            logs = "\n".join(worker.log[-5000:] for worker in stage.workers)
            raise RuntimeError(f"{len(dids)} posts of {len(self._living)} accounts went out:\n{logs}")
        late = [each.at - at.timestamp() for each in out]
        return {
            "first": min(late),
            "last": max(late),
            "early": sum(each < 0 for each in late),
            "cpu_worker": cpu.worker / self.size,
            "cpu_server": cpu.server / self.size,
            "cpu_database": cpu.database / self.size,
            "cpu_seconds_measured": cpu.at,
        }


def due(stage: DueStage, count: int, rounds: int, *, dead: int = 0, url: str | None = None) -> Numbers:
    """Measure the posts of many accounts for one minute, beside the PDS's own limit."""
    found = []
    with stage.working():
        crowd = Crowd(stage, count, url=url, dead=dead)
        idle = _idle(stage)
        for round_ in range(rounds):
            mark = f"{uuid4().hex[:8]} {round_}"
            limit = crowd.limit(mark)
            began = datetime.now(UTC)
            with counted(stage.pds) as made:
                ours = crowd.publish(f"{TEXT} {mark}")
            ours |= {"limit": limit, "ratio": ours["last"] / limit}
            ours["cpu_idle"] = idle * ours.pop("cpu_seconds_measured") / count
            ours["cpu"] = ours["cpu_worker"] + ours["cpu_server"] - ours["cpu_idle"]
            ours |= {"incidents": incidents(began), "logins": made.get(LOGIN, 0), "refreshes": made.get(REFRESH, 0)}
            tell_round(round_, rounds, ours)
            found.append(ours)
    return {"accounts": count, "dead": dead, "at_once": crowd._at_once, **_medians(found)}


def _idle(stage: DueStage) -> float:
    """The CPU seconds that workers and server take in a second in which nothing is to be done."""
    before = stage.cpu()
    time.sleep(20)
    taken = stage.cpu() - before
    return (taken.worker + taken.server) / taken.at


def shared(stage: DueStage, count: int, rounds: int) -> Numbers:
    """How much faster two workers are than one, where each does one run at a time and the PDS is far away.

    Who is in whose share is by chance: with fewer than 200 accounts, the larger share alone is what is measured.
    """

    def wait(step: Step, phase: Phase) -> None:
        if phase is Phase.BEFORE:
            time.sleep(ROUND_TRIP)

    def at_once(number: int | None) -> None:
        parameters = {} if number is None else {"at_once": number}
        with get_client(sync_client=True) as client:
            client.update_deployment(stage.due, DeploymentUpdate(parameters=parameters))

    found: list[Numbers] = [{} for _ in range(rounds)]
    with proxy.run(stage.pds.url, wait) as url:
        crowd = Crowd(stage, count, url=url)
        at_once(_AT_ONCE)
        for workers in (1, 2):
            settings = {"PREFECT_INTEGRATIONS_BLUESKY_ACCOUNTS_PER_RUN": f"{math.ceil(count / workers)}"}
            with stage.working(workers, limit=1, **settings):
                crowd.sign_in()
                for round_ in range(rounds):
                    ours = crowd.publish(f"{TEXT} {uuid4().hex[:8]}", _SHORT_LEAD)
                    found[round_] |= {f"last_of_{workers}": ours["last"], f"early_of_{workers}": ours["early"]}
                    tell_round(round_, rounds, found[round_])
        at_once(None)
    for each in found:
        each["ratio"] = each["last_of_1"] / each["last_of_2"]
    return {"accounts": count, "at_once": _AT_ONCE, **_medians(found)}


def form(stage: DueStage, times: int, seed: int) -> Numbers:
    """The seconds from a run of `publish/publish`, made as its form does, to its post, on an idle worker."""
    chance = Random(seed)
    account = stage.pds.create_account()
    ((name, _),) = stage.saved([account]).items()
    stage.sign_in(account)
    seconds = []
    with stage.working(), get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("publish/publish").id
        block = client.read_block_document_by_name(name, "bluesky-credentials").id
        for number in range(times):
            # A worker asks for runs at intervals: a person comes at any moment between.
            time.sleep(chance.uniform(0, 15))
            before, began = last_write(stage.pds), time.time()
            reference = {"$ref": {"block_document_id": str(block)}}
            run = client.create_flow_run_from_deployment(
                deployment,
                parameters={"credentials": reference, "post": {"text": f"{TEXT} {number}"}},
                state=Scheduled(scheduled_time=datetime.now(UTC)),
            )
            wait_for(lambda: _has_ended(run.id), "the end of the run")  # noqa: B023
            stage.wait_until_idle()
            (post,) = writes(stage.pds, before)
            seconds.append(post.at - began)
            print(f"form {number + 1} of {times}: {seconds[-1]:.2f} s", file=sys.stderr)
    return {"times": times, "seconds": median(seconds), "least": min(seconds), "most": max(seconds)}


def _has_ended(run: object) -> bool:
    time.sleep(0.5)
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state  # type: ignore[arg-type]
        return state is not None and state.is_final()


def _medians(found: Sequence[Numbers]) -> Numbers:
    numbers = {name: median(each[name] for each in found) for name in found[0]}
    # One early post in any round is one too many.
    return numbers | {name: sum(each[name] for each in found) for name in numbers if name.startswith("early")}


_TARGETS = (
    Target("{accounts} accounts: seconds until the first post", "due", "first", 1),
    Target("{accounts} accounts: time of the PDS's own limit", "due", "ratio", 1.3),
    Target("{accounts} accounts: early posts", "due", "early", 0),
    Target("{accounts} accounts: CPU seconds a post", "due", "cpu", 0.15),
    Target("{accounts} accounts, sessions in Prefect:\ntime of the PDS's own limit", "due_in_prefect", "ratio", 1.3),
    Target("{accounts} accounts, {dead} of them dead:\ntime of the PDS's own limit", "many", "ratio", 1.3),
    Target("{accounts} accounts: seconds until the first post", "many", "first", 1),
    Target("{accounts} accounts: CPU seconds a post", "many", "cpu", 0.15),
    Target("two workers, far away:\nfaster than one", "shared", "ratio", 1.8, True),
    Target("seconds from the form to the post", "form", "seconds", 5),
    Target("{kills} kills: early posts", "kills", "early", 0),
    Target("{kills} kills: lost posts", "kills", "lost", 0),
    Target("{kills} kills: doubled posts", "kills", "doubled", 0),
    Target("{kills} kills: seconds until the last post,\nafter the outage", "kills", "late", 60),
)


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="draw the numbers")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--few", type=int, default=200, metavar="N", help="how many accounts the smaller minute has")
    parser.add_argument("--accounts", type=int, default=1000, help="how many accounts the largest minute has")
    parser.add_argument("--kills", type=int, default=200, help="how many workers and servers are killed")
    parser.add_argument("--worlds", type=int, default=8, help="how many kills are under way at the same time")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first kill, and of the form's moments")
    parser.add_argument("--only", nargs="*", help="these alone")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    few, many, rounds = arguments.few, arguments.accounts, arguments.rounds
    found: dict[str, Numbers] = {}

    def measure(measures: dict[str, Callable[[], Numbers]]) -> None:
        for name, each in measures.items():
            if not arguments.only or name in arguments.only:
                found[name] = each()
                print(f"{name} is measured", file=sys.stderr)

    with ExitStack() as stack:

        @cache
        def apart() -> DueStage:
            return DueStage(stack, apart=True, settings={"PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "120"})

        def in_prefect() -> Numbers:
            # At another address than the PDS's own, blocks keep their sessions in Prefect.
            url = apart().pds.url.replace("localhost", "127.0.0.1")
            return due(apart(), few, rounds, url=url)

        measure(
            {
                "due": lambda: due(apart(), few, rounds),
                "due_in_prefect": in_prefect,
                "many": lambda: due(apart(), many, rounds, dead=many // DEAD),
                "form": lambda: form(apart(), 10, arguments.seed),
                "shared": lambda: shared(apart(), few, rounds),
            }
        )
    # With all cores, and when nothing else runs.
    measure({"kills": lambda: kills(range(arguments.seed, arguments.seed + arguments.kills), arguments.worlds)})
    tell(found, as_json=arguments.json)
    if arguments.chart:
        draw(found, _TARGETS, arguments.chart)


if __name__ == "__main__":
    main()
