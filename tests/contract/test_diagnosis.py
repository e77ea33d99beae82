"""What a diagnosis says of every problem, and what it must not do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from prefect_bluesky import AuthProblem
from prefect_bluesky.problems import root_cause
from prefect_bluesky.sessions.diagnosis import Diagnosis
from prefect_bluesky.sessions.evidence import Check
from tests.contract.causes import CASES, HOUR, NOWHERE, ON_BOTH, Patient
from tests.contract.test_ends_of_grants import OF_GRANTS
from tests.support import LOGIN, counted, forget_processes_memory, web_page

P = AuthProblem


@pytest.mark.parametrize(("each_pds", "problem"), ON_BOTH, indirect=["each_pds"])
def test_the_diagnosis_names(problem: AuthProblem | None, patient: Patient) -> None:
    case = CASES[problem]
    case.cause(patient)
    diagnosis = patient.diagnose(log_in=case.log_in)
    assert diagnosis.problem is problem, diagnosis.to_markdown()


def test_the_diagnosis_names_a_pds_that_the_account_has_left(patient: Patient) -> None:
    patient.sign_in()
    patient.put(pds_url=NOWHERE)
    assert patient.diagnose().problem is P.ACCOUNT_MOVED


@pytest.mark.parametrize("status", [200, 403, 501])
def test_what_is_no_pds_is_named_with_its_host_and_what_to_check(patient: Patient, status: int) -> None:
    with web_page(b"<html><title>Welcome</title></html>", status=status) as url:
        patient.change(service_url=url)
        diagnosis = patient.diagnose()
    assert diagnosis.problem is P.SERVICE_UNAVAILABLE
    assert f"Something before {url} answered" in diagnosis.checks[-1].found
    assert "Welcome" in diagnosis.checks[-1].found
    assert "service_url" in diagnosis.to_markdown()


def test_a_service_where_nobody_answers_is_named_with_its_host_and_port(patient: Patient) -> None:
    patient.change(service_url=NOWHERE)
    assert NOWHERE in patient.diagnose().checks[-1].found


def test_a_server_that_signs_nobody_in_is_the_wrong_service(patient: Patient) -> None:
    with web_page(b'{"error": "MethodNotImplemented", "message": "Method Not Implemented"}', status=501) as url:
        patient.change(service_url=url)
        assert patient.diagnose().problem is P.WRONG_SERVICE


def test_the_session_of_another_app_password_is_not_called_revoked(patient: Patient) -> None:
    patient.sign_in()
    patient.change(app_password=SecretStr(patient.pds.create_app_password(patient.account, "second")))
    diagnosis = patient.diagnose()
    assert diagnosis.problem is None, diagnosis.to_markdown()
    assert "Another app password made it" in diagnosis.checks[0].found


@pytest.mark.parametrize("drift", [-3 * HOUR, 3 * HOUR])
def test_the_diagnosis_names_a_clock_that_is_wrong(patient: Patient, drift: timedelta) -> None:
    patient.sign_in()
    examination = patient.credentials._examination()
    examination.now = lambda: datetime.now(UTC) + drift
    assert examination.run(log_in=False).problem is P.CLOCK_DRIFT


def test_a_diagnosis_writes_nothing_and_signs_in_only_if_asked(patient: Patient) -> None:
    patient.sign_in()
    with counted(patient.pds) as requests:
        patient.diagnose()
    assert LOGIN not in requests
    assert patient.pds.posts(patient.account) == []


def test_a_session_that_was_diagnosed_goes_on(patient: Patient) -> None:
    patient.sign_in()
    patient.diagnose()
    forget_processes_memory()
    assert patient.credentials.ensure_session().action == "reused"


def test_no_report_shows_a_secret(patient: Patient) -> None:
    patient.sign_in()
    report = patient.diagnose().to_markdown()
    assert patient.account.app_password not in report
    assert "eyJ" not in report


def test_a_report_says_the_remedy_of_each_problem_once() -> None:
    found = [P.APP_PASSWORD_REJECTED, P.CLOCK_DRIFT, P.APP_PASSWORD_REJECTED, P.CLOCK_DRIFT]
    checks = [Check(name=f"Check {number}", found="", problem=problem) for number, problem in enumerate(found)]
    report = Diagnosis(account="alice.test", checks=checks).to_markdown()
    assert [report.count(problem.remedy) for problem in set(found)] == [1, 1]


def test_every_problem_is_caused_somewhere() -> None:
    assert {*CASES, *dict(OF_GRANTS)} == {None, *AuthProblem} - {P.CLOCK_DRIFT}


@pytest.mark.parametrize("problem", AuthProblem, ids=str)
def test_every_problem_may_be_the_cause(problem: AuthProblem) -> None:
    assert root_cause([None, problem]) is problem
