"""Exactly once, whatever dies: a sample of what benchmarks/crashes.py does by the hundred."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing

import pytest
from prefect.client.orchestration import get_client
from prefect.states import AwaitingRetry, Crashed

from prefect_bluesky import sandbox
from tests import proxy
from tests.crashes import Stage, judge, run_all
from tests.fates import FINDING, PUBLISHING, WRITE_STEP, Fault
from tests.pds.server import RealPds
from tests.proxy import Phase, Silence, Step
from tests.support import WRITE, block
from tests.worker import Worker, publish_flow, publish_in

pytestmark = pytest.mark.slow

KILLED = ("killed before", "killed during", "killed after")

EACH_STEP = {
    # Three workers in a row until the write: whatever they leave behind is there for the next one.
    **{f"at step {step}": tuple((Fault(step, fate),) for fate in KILLED) for step in range(1, WRITE_STEP)},
    **{f"{fate} the write": ((Fault(WRITE_STEP, fate),),) for fate in KILLED},
}

IN_THE_WRITE = {
    "the worker dies over its write, and the next one while it looks": (
        (Fault(WRITE_STEP, "killed during"),),
        (Fault(len(FINDING) - 1, "killed before"),),
    ),
    "the write of a dead worker arrives just before the next one's": (
        (Fault(WRITE_STEP, "killed, arrives later", later=WRITE_STEP),),
    ),
    "a write that seemed lost arrives just before it is repeated": ((Fault(WRITE_STEP, "arrives later", later=2),),),
    "the server is gone when the worker looks for its write": (
        (Fault(WRITE_STEP, "answer lost"), Fault(WRITE_STEP + 1, "refused from then on")),
    ),
}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with sandbox.run() as own, closing(Stage(own)) as stage:
        yield stage


@pytest.fixture(scope="module")
def real_stage(real_pds: RealPds) -> Iterator[Stage]:
    with closing(Stage(real_pds)) as stage:
        yield stage


def test_workers_killed_at_any_step_leave_exactly_one_thread_to_the_next(stage: Stage) -> None:
    runs = run_all((stage, name, lives) for name, lives in EACH_STEP.items())
    assert {run.name: run.wrong for run in runs} == {name: {} for name in EACH_STEP}
    struck = {one for run in runs for one in run.destiny.struck}
    assert struck == {(fate, step, method) for fate in KILLED for step, method in enumerate(PUBLISHING, 1)}


@pytest.mark.parametrize("where", ["stage", pytest.param("real_stage", marks=pytest.mark.pds)])
def test_trouble_during_the_write_leaves_exactly_one_thread(request: pytest.FixtureRequest, where: str) -> None:
    stage: Stage = request.getfixturevalue(where)
    runs = run_all((stage, name, lives) for name, lives in IN_THE_WRITE.items())
    assert {run.name: run.wrong for run in runs} == {name: {} for name in IN_THE_WRITE}
    assert [sum(run.destiny.struck.values()) for run in runs] == [2, 1, 1, 2]
    assert [len(run.answers) for run in runs] == [1, 1, 2, 1]


def test_a_flow_run_that_is_retried_after_its_worker_was_killed_in_the_write_posts_once(
    stage: Stage, prefect_api: str
) -> None:
    account = stage.pds.create_account()
    post = stage.thread("in a flow run")
    with closing(Worker()) as first, closing(Worker()) as second, get_client(sync_client=True) as client:
        doomed = [first]

        def kill(step: Step, now: Phase) -> Silence | None:
            if not doomed or (step.method, now) != (WRITE, Phase.DURING):
                return None
            doomed.pop().shoot()
            return Silence.HANG

        with proxy.run(stage.pds.url, kill) as url:
            try:
                credentials = block(stage.pds, account).model_copy(update={"service_url": url})
                flow_run = client.create_flow_run(publish_flow())
                first.prepare(publish_in, flow_run.id, credentials, post)
                first.go()
                assert first.exit_code() == -signal.SIGKILL
                # As the worker of a work pool says that a process is gone, and as a person, or an automation, retries.
                client.set_flow_run_state(flow_run.id, Crashed(), force=True)
                client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
                published = second.do(publish_in, flow_run.id, credentials, post)
            finally:
                second.kill()
    assert judge(stage, account, post, [published]) == {}
