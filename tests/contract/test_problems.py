"""Each problem has one name: in the error, the alert, the held run's message and the diagnosis."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.events import ReceivedEvent, ResourceSpecification
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

from prefect_bluesky import AuthProblem, BlueskyError, Post
from prefect_bluesky.alerts import events
from prefect_bluesky.planning.saved_accounts import as_parameter
from tests.contract.causes import CASES, ON_BOTH, Patient
from tests.support import counted, forget_processes_memory, run_deployed
from tests.world import wait_for

pytestmark = pytest.mark.usefixtures("prefect_api", "without_pauses")


def heard(account: str) -> list[ReceivedEvent]:
    """Return the alerts about a block's account."""
    about = EventResourceFilter(labels=ResourceSpecification({"account": account}))
    wanted = EventFilter(event=EventNameFilter(name=[events.AUTH_FAILED]), resource=about)
    with get_client(sync_client=True) as client:
        return client.read_events(wanted, limit=50).events


@pytest.mark.parametrize(("each_pds", "problem"), ON_BOTH, indirect=["each_pds"])
def test_a_problem_has_one_name_everywhere(problem: AuthProblem | None, patient: Patient, publish: Any) -> None:
    case = CASES[problem]
    case.cause(patient)
    credentials, post = patient.saved(), Post(text="who knows")
    given = {"credentials": as_parameter(credentials), "post": {"text": post.text}}
    with counted(patient.pds) as asked:
        run, state = run_deployed(publish, given, credentials=credentials, post=post)
    assert run.state is not None
    assert run.state.name == case.ends, run.state.message
    assert asked == case.asked
    if case.ends == "Held":
        assert problem is not None
        error = getattr(state.data, "result", state.data)
        assert isinstance(error, BlueskyError)
        assert error.problem is problem
        assert (run.state.message or "").endswith(f"({problem.value})")
    if case.is_told:
        wait_for(lambda: heard(credentials.handle), "the alert")
    assert [event.payload["problem"] for event in heard(credentials.handle)] == [problem] * case.is_told
    diagnosis = patient.diagnose(log_in=case.log_in)
    if case.ends == "Held" or problem is None:
        assert diagnosis.problem is problem, diagnosis.to_markdown()


@pytest.mark.parametrize("problem", [each for each, case in CASES.items() if each and case.ends == "Held"], ids=str)
@pytest.mark.parametrize("each_pds", ["sandbox"], indirect=True)
def test_a_closed_gate_asks_the_pds_no_second_time(problem: AuthProblem, patient: Patient) -> None:
    CASES[problem].cause(patient)
    credentials = patient.saved()
    for _ in range(2):
        with pytest.raises(BlueskyError):
            credentials.publish("first")
    forget_processes_memory()
    with counted(patient.pds) as asked, pytest.raises(BlueskyError) as again:
        credentials.publish("second")
    assert asked == {}
    assert again.value.problem is problem
