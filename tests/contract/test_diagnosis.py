"""Every problem, caused for real, and the diagnosis that names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from prefect_bluesky import AuthProblem, BlueskyCredentials, Diagnosis, sandbox
from prefect_bluesky.errors import StoreDenied
from prefect_bluesky.sessions.diagnosis import _BY_DEPTH
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.stores.base import Saved
from prefect_bluesky.sessions.stores.memory import MemorySessionStore
from tests.support import LOGIN, Account, Pds, block, counted, forget_processes_memory, web_page

P = AuthProblem
HOUR = timedelta(hours=1)


@dataclass
class Patient:
    """An account, its block, and what a test does to them."""

    pds: Pds
    account: Account
    credentials: BlueskyCredentials

    def sign_in(self) -> None:
        """Have a stored session."""
        self.credentials.ensure_session()

    def put(self, **fields: str) -> None:
        """Let something else stand in the stored session, as nothing in this package would write it."""
        client = _aws(self)
        found = client.get_secret_value(SecretId=_name(self), VersionStage="AWSCURRENT")
        content = json.loads(found["SecretString"])
        content["session"].update(fields)
        client.delete_secret(SecretId=_name(self), ForceDeleteWithoutRecovery=True)
        client.create_secret(Name=_name(self), SecretString=json.dumps(content))

    def diagnose(self, **options: Any) -> Diagnosis:
        """The diagnosis, by a worker that has just started."""
        forget_processes_memory()
        return self.credentials.diagnose(**options)


@pytest.fixture
def patient(pds: Pds, aws_credentials: AwsCredentials, monkeypatch: pytest.MonkeyPatch) -> Patient:
    """A fresh account whose session lies in Secrets Manager."""
    directory = getattr(pds, "plc_url", "http://127.0.0.1:1")
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", directory)
    account = pds.create_account()
    return Patient(pds, account, block(pds, account, aws_credentials=aws_credentials))


def with_block(**changes: Any) -> Callable[[Patient], None]:
    """Let the block say something else."""

    def cause(patient: Patient) -> None:
        patient.credentials = patient.credentials.model_copy(update=changes)

    return cause


def after_signing_in(blow: str) -> Callable[[Patient], None]:
    """Let something happen on the PDS to an account that has signed in."""

    def cause(patient: Patient) -> None:
        patient.sign_in()
        getattr(patient.pds, blow)(patient.account)

    return cause


def with_tokens(**tokens: Callable[[Patient], str]) -> Callable[[Patient], None]:
    """Let other tokens stand in the stored session."""

    def cause(patient: Patient) -> None:
        patient.sign_in()
        patient.put(**{name: make(patient) for name, make in tokens.items()})

    return cause


def expired_refresh(patient: Patient) -> str:
    return patient.pds.mint(patient.account, "refresh")


def main_password(patient: Patient) -> None:
    patient.credentials = block(
        patient.pds,
        patient.account,
        app_password=patient.account.password,
        aws_credentials=patient.credentials.aws_credentials,
    )
    patient.sign_in()


def password_changed(patient: Patient) -> None:
    patient.sign_in()
    patient.pds.change_password(patient.account, "another main password")


def somebody_elses_handle(patient: Patient) -> None:
    patient.sign_in()
    other = patient.pds.create_account()
    store = patient.credentials.session_store()
    saved = store.load()
    assert saved is not None
    patient.credentials = patient.credentials.model_copy(update={"handle": other.handle})
    patient.credentials.session_store().save(saved.document, None)


def too_many_logins(patient: Patient) -> None:
    now = datetime.now(UTC)
    patient.credentials.session_store().save(SessionDocument(logins=(now,) * 10), None)


def unreadable(patient: Patient) -> None:
    _aws(patient).create_secret(Name=_name(patient), SecretString='{"username": "admin"}')


def pending_deletion(patient: Patient) -> None:
    patient.sign_in()
    _aws(patient).delete_secret(SecretId=_name(patient))


def _aws(patient: Patient) -> Any:
    assert patient.credentials.aws_credentials is not None
    return patient.credentials.aws_credentials.get_secrets_manager_client()


def _name(patient: Patient) -> str:
    return f"prefect-bluesky/{patient.account.handle}/session"


def no_aws(patient: Patient) -> None:
    parameters = AwsClientParameters(endpoint_url="http://127.0.0.1:1", config={"retries": {"total_max_attempts": 1}})
    assert patient.credentials.aws_credentials is not None
    lost = patient.credentials.aws_credentials.model_copy(update={"aws_client_parameters": parameters})
    patient.credentials = patient.credentials.model_copy(update={"aws_credentials": lost})


def healthy(patient: Patient) -> None:
    patient.sign_in()


def mint(kind: str = "access", **claims: Any) -> Callable[[Patient], str]:
    """A token that the PDS has signed."""
    return lambda patient: patient.pds.mint(patient.account, kind, **claims)


def quoted(patient: Patient) -> str:
    return f'"{patient.pds.mint(patient.account, "access", expires_in=HOUR)}"'


def of_another_key(patient: Patient) -> str:
    return patient.pds.mint(patient.account, "access", expires_in=HOUR)[:-3] + "AAA"


CAUSES: dict[AuthProblem | None, tuple[Callable[[Patient], None], dict[str, Any]]] = {
    None: (healthy, {}),
    P.ACCESS_TOKEN_EXPIRED: (with_tokens(access_token=mint()), {}),
    P.REFRESH_TOKEN_EXPIRED: (with_tokens(refresh_token=expired_refresh), {}),
    P.SESSION_REVOKED: (password_changed, {}),
    P.APP_PASSWORD_REJECTED: (with_block(app_password=SecretStr("aaaa-bbbb-cccc-dddd")), {"log_in": True}),
    P.APP_PASSWORD_REVOKED: (after_signing_in("revoke_app_password"), {"log_in": True}),
    P.MAIN_PASSWORD_USED: (main_password, {}),
    P.WRONG_ACCOUNT: (somebody_elses_handle, {}),
    P.HANDLE_NOT_FOUND: (with_block(handle="nobody-at-all.test"), {}),
    P.MALFORMED_HEADER: (with_tokens(access_token=quoted), {}),
    P.MALFORMED_TOKEN: (with_tokens(access_token=of_another_key), {}),
    P.WRONG_TOKEN_TYPE: (with_tokens(access_token=mint("refresh", expires_in=HOUR)), {}),
    P.INSUFFICIENT_SCOPE: (with_tokens(access_token=mint(expires_in=HOUR, scope="com.example.none")), {}),
    P.ACCOUNT_DEACTIVATED: (after_signing_in("deactivate"), {}),
    P.ACCOUNT_TAKEN_DOWN: (after_signing_in("take_down"), {}),
    P.ACCOUNT_DELETED: (after_signing_in("delete_account"), {}),
    P.LOGIN_LIMIT_REACHED: (too_many_logins, {}),
    P.SERVICE_UNAVAILABLE: (with_block(service_url="http://127.0.0.1:1"), {}),
    P.STORE_UNREADABLE: (unreadable, {}),
    P.SECRET_PENDING_DELETION: (pending_deletion, {}),
    P.STORE_UNAVAILABLE: (no_aws, {}),
}
# Caused by tests of their own, below.
APART = {P.ACCOUNT_MOVED, P.CLOCK_DRIFT, P.SIGN_IN_CODE_REQUIRED, P.STORE_DENIED, P.WRONG_SERVICE}


@pytest.mark.parametrize("problem", CAUSES, ids=str)
def test_the_diagnosis_names(problem: AuthProblem | None, patient: Patient) -> None:
    cause, options = CAUSES[problem]
    cause(patient)
    diagnosis = patient.diagnose(**options)
    assert diagnosis.problem is problem, diagnosis.to_markdown()


@pytest.mark.pds
@pytest.mark.parametrize("each_pds", ["real"], indirect=True)  # the sandbox has no directory of DIDs
def test_the_diagnosis_names_a_pds_that_the_account_has_left(patient: Patient) -> None:
    patient.sign_in()
    patient.put(pds_url="http://127.0.0.1:1")
    assert patient.diagnose().problem is P.ACCOUNT_MOVED


def test_the_diagnosis_names_a_service_that_is_none(patient: Patient) -> None:
    with web_page(b"<html>Welcome</html>") as url:
        patient.credentials = patient.credentials.model_copy(update={"service_url": url})
        assert patient.diagnose().problem is P.WRONG_SERVICE


@pytest.mark.parametrize("drift", [-3 * HOUR, 3 * HOUR])
def test_the_diagnosis_names_a_clock_that_is_wrong(patient: Patient, drift: timedelta) -> None:
    patient.sign_in()
    examination = patient.credentials._examination()
    examination.now = lambda: datetime.now(UTC) + drift
    assert examination.run(log_in=False).problem is P.CLOCK_DRIFT


def test_the_diagnosis_names_a_store_that_refuses(patient: Patient) -> None:
    class Closed(MemorySessionStore):
        def load(self) -> Saved | None:
            raise StoreDenied(self.place, "AccessDeniedException")

    examination = patient.credentials._examination()
    examination.store = Closed("nobody")
    assert examination.run(log_in=False).problem is P.STORE_DENIED


def test_the_diagnosis_names_a_sign_in_code(sandbox_pds: sandbox.Sandbox, aws_credentials: AwsCredentials) -> None:
    # Only Bluesky's entryway asks for one; a PDS has no such thing.
    account = sandbox_pds.create_account()
    sandbox_pds.fail(LOGIN, status=401, error="AuthFactorTokenRequired", message="A sign in code has been sent")
    diagnosis = block(sandbox_pds, account, aws_credentials=aws_credentials).diagnose(log_in=True)
    assert diagnosis.problem is P.SIGN_IN_CODE_REQUIRED


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


def test_every_problem_is_caused_somewhere() -> None:
    assert {problem for problem in CAUSES if problem} | APART == set(AuthProblem)
    assert set(_BY_DEPTH) == set(AuthProblem)
