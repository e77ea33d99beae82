"""Every problem, caused for real: an account, its block, and what befalls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from prefect_bluesky import AuthProblem, BlueskyCredentials, Diagnosis
from prefect_bluesky.sessions.document import SessionDocument
from tests.support import LOGIN, REFRESH, RESOLVE, STATUS, WRITE, Account, Pds, block, forget_processes_memory

P = AuthProblem
HOUR = timedelta(hours=1)
NOWHERE = "http://127.0.0.1:1"


@dataclass
class Patient:
    """An account, its block with its session in Secrets Manager, and what a test does to them.

    Attributes:
        pds: the account's PDS.
        elsewhere: another PDS.
        forbidding: an AWS that denies everything.
    """

    pds: Pds
    elsewhere: Pds
    forbidding: str
    account: Account
    credentials: BlueskyCredentials
    name: str = field(default_factory=lambda: f"account-{uuid4().hex[:8]}")

    @classmethod
    def on(cls, pds: Pds, aws_credentials: AwsCredentials, *, elsewhere: Pds, forbidding: str) -> Patient:
        """Return a fresh account."""
        account = pds.create_account()
        return cls(pds, elsewhere, forbidding, account, block(pds, account, aws_credentials=aws_credentials))

    def sign_in(self) -> None:
        """Have a stored session."""
        self.credentials.ensure_session()

    def change(self, **fields: Any) -> None:
        """Let the block say something else."""
        self.credentials = self.credentials.model_copy(update=fields)

    def put(self, **fields: str) -> None:
        """Let something else stand in the stored session, as nothing in this package would write it."""
        found = self.aws.get_secret_value(SecretId=self.secret, VersionStage="AWSCURRENT")
        content = json.loads(found["SecretString"])
        content["session"].update(fields)
        self.aws.delete_secret(SecretId=self.secret, ForceDeleteWithoutRecovery=True)
        self.aws.create_secret(Name=self.secret, SecretString=json.dumps(content))

    def expire(self) -> None:
        """Let the stored access token be one that the server calls expired, although it looks young here."""
        self.put(access_token=self.pds.mint(self.account, "access"))

    @property
    def aws(self) -> Any:
        """A client of the Secrets Manager."""
        assert self.credentials.aws_credentials is not None
        return self.credentials.aws_credentials.get_secrets_manager_client()

    @property
    def secret(self) -> str:
        """The name of the secret that holds the session."""
        return f"prefect-bluesky/{self.account.handle}/session"

    def move_to(self, aws_url: str) -> None:
        """Let the block's Secrets Manager be elsewhere."""
        parameters = AwsClientParameters(endpoint_url=aws_url, config={"retries": {"total_max_attempts": 1}})
        assert self.credentials.aws_credentials is not None
        self.change(
            aws_credentials=self.credentials.aws_credentials.model_copy(update={"aws_client_parameters": parameters})
        )

    def saved(self) -> BlueskyCredentials:
        """Return the block as a deployment loads it on a worker that has just started."""
        self.credentials.save(self.name, overwrite=True)
        forget_processes_memory()
        loaded = BlueskyCredentials.load(self.name)
        assert isinstance(loaded, BlueskyCredentials)
        return loaded

    def diagnose(self, **options: Any) -> Diagnosis:
        """Return the diagnosis by a worker that has just started."""
        forget_processes_memory()
        return self.credentials.diagnose(**options)


Cause = Callable[[Patient], None]


@dataclass(frozen=True)
class Case:
    """What a problem does to a publish.

    Args:
        cause: brings it about.
        asked: the requests that a publish makes at the account's PDS.
        ends: the state in which the publish ends.
        is_told: whether people are alerted.
        log_in: whether a diagnosis has to sign in to find it.
        of_sandbox: whether a real PDS cannot do it.
    """

    cause: Cause
    asked: dict[str, int]
    ends: str = "Held"
    is_told: bool = True
    log_in: bool = False
    of_sandbox: bool = False


def changed(**fields: Any) -> Cause:
    return lambda patient: patient.change(**fields)


def with_tokens(**tokens: Callable[[Patient], str]) -> Cause:
    """Let other tokens stand in the stored session."""

    def cause(patient: Patient) -> None:
        patient.sign_in()
        patient.put(**{name: make(patient) for name, make in tokens.items()})

    return cause


def mint(kind: str = "access", **claims: Any) -> Callable[[Patient], str]:
    """A token that the PDS has signed."""
    return lambda patient: patient.pds.mint(patient.account, kind, **claims)


def quoted(patient: Patient) -> str:
    return f'"{patient.pds.mint(patient.account, "access", expires_in=HOUR)}"'


def of_another_key(patient: Patient) -> str:
    return patient.pds.mint(patient.account, "access", expires_in=HOUR)[:-3] + "AAA"


def healthy(patient: Patient) -> None:
    patient.sign_in()


def password_changed(patient: Patient) -> None:
    patient.sign_in()
    patient.pds.change_password(patient.account, "another main password")


def revoked(patient: Patient) -> None:
    patient.sign_in()
    patient.pds.revoke_app_password(patient.account)
    patient.expire()


def main_password(patient: Patient) -> None:
    patient.change(app_password=SecretStr(patient.account.password))
    patient.sign_in()


def somebody_elses_handle(patient: Patient) -> None:
    """The handle was given to another account, and the session is over."""
    patient.sign_in()
    patient.put(access_token=mint()(patient), refresh_token=mint("refresh")(patient))
    saved = patient.credentials.session_store().load()
    assert saved is not None
    patient.account = patient.pds.create_account()
    patient.change(handle=patient.account.handle)
    patient.credentials.session_store().save(saved.document, None)


def nobodys_handle(patient: Patient) -> None:
    patient.change(handle=f"nobody-{uuid4().hex[:8]}.test")


def of_another_service(patient: Patient) -> None:
    patient.change(handle=patient.account.did, service_url=patient.elsewhere.url)


def moved(patient: Patient) -> None:
    """The account was moved as the app does it: the old one is deactivated."""
    patient.sign_in()
    patient.pds.move(patient.account, patient.elsewhere.url)
    patient.pds.deactivate(patient.account)


def deactivated(patient: Patient) -> None:
    patient.sign_in()
    patient.pds.deactivate(patient.account)


def taken_down(patient: Patient) -> None:
    patient.sign_in()
    patient.pds.take_down(patient.account)


def deleted(patient: Patient) -> None:
    patient.sign_in()
    patient.pds.delete_account(patient.account)


def too_many_logins(patient: Patient) -> None:
    now = datetime.now(UTC)
    patient.credentials.session_store().save(SessionDocument(logins=(now,) * 10), None)


def unreadable(patient: Patient) -> None:
    patient.aws.create_secret(Name=patient.secret, SecretString='{"username": "admin"}')


def pending_deletion(patient: Patient) -> None:
    patient.sign_in()
    patient.aws.delete_secret(SecretId=patient.secret)


def asks_for_a_code(patient: Patient) -> None:
    # Only Bluesky's entryway asks for one; a PDS has no such thing.
    code = {"status": 401, "error": "AuthFactorTokenRequired", "message": "A sign in code has been sent"}
    pds: Any = patient.pds
    pds.fail(LOGIN, **code)


REFUSED = {WRITE: 1, REFRESH: 1, LOGIN: 1, RESOLVE: 1, STATUS: 1}

CASES: dict[AuthProblem | None, Case] = {
    None: Case(healthy, {WRITE: 1}, "Completed", False),
    P.ACCESS_TOKEN_EXPIRED: Case(with_tokens(access_token=mint()), {WRITE: 2, REFRESH: 1}, "Completed", False),
    P.REFRESH_TOKEN_EXPIRED: Case(with_tokens(refresh_token=mint("refresh")), {WRITE: 1}, "Completed", False),
    P.SESSION_REVOKED: Case(password_changed, {WRITE: 1}, "Completed", False),
    P.APP_PASSWORD_REJECTED: Case(
        changed(app_password=SecretStr("aaaa-bbbb-cccc-dddd")), {LOGIN: 1, RESOLVE: 1, STATUS: 1}, log_in=True
    ),
    P.APP_PASSWORD_REVOKED: Case(revoked, REFUSED, log_in=True),
    P.MAIN_PASSWORD_USED: Case(main_password, {WRITE: 1}, "Completed", False),
    P.SIGN_IN_CODE_REQUIRED: Case(asks_for_a_code, {LOGIN: 1}, log_in=True, of_sandbox=True),
    P.WRONG_ACCOUNT: Case(somebody_elses_handle, REFUSED),
    P.HANDLE_NOT_FOUND: Case(nobodys_handle, {LOGIN: 1, RESOLVE: 1}),
    P.WRONG_SERVICE: Case(of_another_service, {STATUS: 1}),
    P.ACCOUNT_MOVED: Case(moved, {WRITE: 1}),
    P.MALFORMED_HEADER: Case(with_tokens(access_token=quoted), {}),
    P.MALFORMED_TOKEN: Case(with_tokens(access_token=of_another_key), {WRITE: 2, REFRESH: 1}, "Completed", False),
    P.WRONG_TOKEN_TYPE: Case(with_tokens(access_token=mint("refresh", expires_in=HOUR)), {}),
    P.INSUFFICIENT_SCOPE: Case(with_tokens(access_token=mint(expires_in=HOUR, scope="com.example.none")), {WRITE: 1}),
    P.ACCOUNT_DEACTIVATED: Case(deactivated, {WRITE: 1}),
    P.ACCOUNT_TAKEN_DOWN: Case(taken_down, {WRITE: 1}),
    P.ACCOUNT_DELETED: Case(deleted, {WRITE: 1}),
    P.LOGIN_LIMIT_REACHED: Case(too_many_logins, {}),
    P.SERVICE_UNAVAILABLE: Case(changed(service_url=NOWHERE), {}),
    P.STORE_UNREADABLE: Case(unreadable, {}),
    P.STORE_DENIED: Case(lambda patient: patient.move_to(patient.forbidding), {}),
    P.STORE_UNAVAILABLE: Case(lambda patient: patient.move_to(NOWHERE), {}, is_told=False),
    P.SECRET_PENDING_DELETION: Case(pending_deletion, {}),
}
"""All problems but the clock's, which stops nothing."""

ON_BOTH = [
    pytest.param(
        server, problem, id=f"{problem or 'healthy'}-{server}", marks=[pytest.mark.pds] if server == "real" else []
    )
    for problem, case in CASES.items()
    for server in ("sandbox", "real")
    if server == "sandbox" or not case.of_sandbox
]
"""Each problem on the sandbox, and on a real PDS if it can be caused there: values of `each_pds` and `problem`."""
