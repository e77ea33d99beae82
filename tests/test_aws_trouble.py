"""AWS Secrets Manager under trouble: what each refusal becomes, and what a session survives."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.stub import Stubber
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from prefect_bluesky import AuthError, AuthProblem, BlueskyCredentials, sandbox
from prefect_bluesky.errors import (
    BlueskyError,
    InvalidInput,
    StoreConflict,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StorePendingDeletion,
    StoreUnavailable,
)
from prefect_bluesky.sessions.stores.aws import AwsSessionStore
from prefect_bluesky.sessions.stores.aws_secret import AwsSecret
from prefect_bluesky.sessions.stores.base import Saved
from tests.session_worker import MINUTE, Worker
from tests.support import LOGIN, REFRESH, RESOLVE, WRITE, block, counted, forget_processes_memory, texts
from tests.test_session import session
from tests.test_session_store import DOCUMENT, RENEWED, VERSION_1

POLICY = Path(__file__).parents[1] / "deployments" / "iam-policy.json"


@pytest.fixture
def name() -> str:
    """A session's secret that nobody else uses."""
    return f"prefect-bluesky/{uuid4().hex}/session"


@pytest.fixture
def own_aws(aws_credentials: AwsCredentials) -> AwsCredentials:
    """moto, through a client that no other test shares."""
    return aws_credentials.model_copy(update={"aws_access_key_id": uuid4().hex})


@pytest.fixture
def account(pds: sandbox.Sandbox) -> sandbox.Account:
    """An account that moto has never heard of."""
    return pds.create_account(f"a{uuid4().hex}.test")


@contextmanager
def called(credentials: AwsCredentials) -> Iterator[list[tuple[str, str]]]:
    """The operations that are called meanwhile, each with the name of its secret."""
    calls: list[tuple[str, str]] = []

    def note(model: Any, params: dict[str, Any], **_: Any) -> None:
        body = json.loads(params["body"])
        calls.append((model.name, body.get("SecretId") or body["Name"]))

    hooks = credentials.get_secrets_manager_client().meta.events
    hooks.register("before-call.secretsmanager", note)
    try:
        yield calls
    finally:
        hooks.unregister("before-call.secretsmanager", note)


@contextmanager
def operations(credentials: AwsCredentials) -> Iterator[Counter[str]]:
    """Count the calls of each operation; filled when the context ends."""
    counts: Counter[str] = Counter()
    with called(credentials) as calls:
        yield counts
    counts.update(operation for operation, _ in calls)


def by_secret(pds: sandbox.Sandbox, account: sandbox.Account, aws: AwsCredentials) -> BlueskyCredentials:
    """The block of an account whose app password people keep in Secrets Manager."""
    return BlueskyCredentials(handle=account.handle, service_url=pds.url, aws_credentials=aws)


# What is asked of the store, and the operations of AWS that it takes; the last one is refused.
ASKED = {
    "load": ["get_secret_value"],
    "create": ["create_secret"],
    "replace": ["put_secret_value"],
    "move": ["put_secret_value", "update_secret_version_stage"],
}


MARKED = "You can't perform this operation on the secret because it was marked for deletion."
KMS = "Access to KMS is not allowed: not authorized to perform kms:Decrypt"
ANSWERS: dict[str, tuple[str, int, str, type[StoreError], AuthProblem | None]] = {
    "throttled": ("ThrottlingException", 400, "Rate exceeded", StoreUnavailable, AuthProblem.STORE_UNAVAILABLE),
    "too fast": ("TooManyRequestsException", 429, "", StoreUnavailable, AuthProblem.STORE_UNAVAILABLE),
    "failing": ("InternalServiceError", 500, "", StoreUnavailable, AuthProblem.STORE_UNAVAILABLE),
    "failing oddly": ("NobodyKnowsThis", 503, "", StoreUnavailable, AuthProblem.STORE_UNAVAILABLE),
    "denied": ("AccessDeniedException", 400, "not authorized", StoreDenied, AuthProblem.STORE_DENIED),
    "key denied": ("AccessDeniedException", 400, KMS, StoreDenied, AuthProblem.STORE_DENIED),
    "key unusable": ("DecryptionFailure", 400, "", StoreDenied, AuthProblem.STORE_DENIED),
    "key disabled": ("EncryptionFailure", 400, "", StoreDenied, AuthProblem.STORE_DENIED),
    "stale AWS token": ("ExpiredTokenException", 400, "", StoreDenied, AuthProblem.STORE_DENIED),
    "being deleted": (
        "InvalidRequestException",
        400,
        MARKED,
        StorePendingDeletion,
        AuthProblem.SECRET_PENDING_DELETION,
    ),
    "over a quota": ("LimitExceededException", 400, "", StoreError, None),
    "unheard of": ("NobodyKnowsThis", 400, "", StoreError, None),
}


class TestRefusals:
    """AWS's own answers, stubbed, as moto is milder."""

    @pytest.fixture
    def stubbed(self) -> Iterator[tuple[AwsCredentials, Stubber]]:
        """AWS that answers what it is told to, and fails a test that asks for more or less."""
        credentials = AwsCredentials(
            aws_access_key_id=uuid4().hex, aws_secret_access_key=SecretStr("testing"), region_name="eu-central-1"
        )
        with Stubber(credentials.get_secrets_manager_client()) as stubber:
            yield credentials, stubber
            stubber.assert_no_pending_responses()

    @staticmethod
    def ask(store: AwsSessionStore, what: str) -> object:
        """Ask something of the store that needs AWS."""
        match what:
            case "load":
                return store.load()
            case "create":
                return store.save(DOCUMENT, None)
            case _:
                return store.save(DOCUMENT, Saved(RENEWED, "v" * 32))

    @pytest.mark.parametrize("asked", ASKED)
    @pytest.mark.parametrize("answer", ANSWERS)
    def test_a_refusal_is_named_with_the_secret_and_its_cause(
        self, stubbed: tuple[AwsCredentials, Stubber], name: str, asked: str, answer: str
    ) -> None:
        credentials, stubber = stubbed
        code, status, message, kind, problem = ANSWERS[answer]
        *before, refused = ASKED[asked]
        for operation in before:
            stubber.add_response(operation, {"ARN": "a" * 20, "Name": name, "VersionId": "w" * 32})
        stubber.add_client_error(refused, code, message, status)
        with pytest.raises(StoreError) as failure:
            self.ask(AwsSessionStore(AwsSecret(credentials, name)), asked)
        error = failure.value
        assert type(error) is kind
        assert error.problem is problem
        assert error.retryable is (kind is StoreUnavailable)
        assert name in str(error)
        assert code in str(error)
        assert "eyJ" not in f"{error} {error!r}"

    def test_a_move_from_a_version_that_is_current_no_more_is_a_conflict(
        self, stubbed: tuple[AwsCredentials, Stubber], name: str
    ) -> None:
        credentials, stubber = stubbed
        stubber.add_response("put_secret_value", {"ARN": "a" * 20, "Name": name, "VersionId": "w" * 32})
        stubber.add_client_error("update_secret_version_stage", "InvalidParameterException", "not the version", 400)
        with pytest.raises(StoreConflict, match=name) as conflict:
            AwsSessionStore(AwsSecret(credentials, name)).save(DOCUMENT, Saved(RENEWED, "v" * 32))
        assert conflict.value.retryable

    def test_a_parameter_that_aws_does_not_take_is_no_conflict(
        self, stubbed: tuple[AwsCredentials, Stubber], name: str
    ) -> None:
        credentials, stubber = stubbed
        stubber.add_client_error("put_secret_value", "InvalidParameterException", "no", 400)
        with pytest.raises(StoreError) as failure:
            AwsSessionStore(AwsSecret(credentials, name)).save(DOCUMENT, Saved(RENEWED, "v" * 32))
        assert type(failure.value) is StoreError

    @pytest.mark.parametrize("asked", ASKED)
    def test_an_answer_that_is_not_of_aws_is_retryable(
        self, stubbed: tuple[AwsCredentials, Stubber], name: str, asked: str
    ) -> None:
        credentials, stubber = stubbed
        *before, strange = ASKED[asked]
        for operation in before:
            stubber.add_response(operation, {"ARN": "a" * 20, "Name": name, "VersionId": "w" * 32})
        stubber.add_response(strange, {})  # what botocore makes of a proxy's page
        with pytest.raises(StoreUnavailable, match="not AWS"):
            self.ask(AwsSessionStore(AwsSecret(credentials, name)), asked)

    def test_a_session_too_large_for_a_secret_is_refused_before_it_is_sent(
        self, stubbed: tuple[AwsCredentials, Stubber], name: str
    ) -> None:
        credentials, _ = stubbed
        huge = replace(DOCUMENT, session=session(refresh_token="a.b." + "c" * 65_536))
        for replacing in (None, Saved(DOCUMENT, "v" * 32)):
            with pytest.raises(StoreError, match="65536 bytes") as failure:
                AwsSessionStore(AwsSecret(credentials, name)).save(huge, replacing)
            assert not failure.value.retryable
            assert name in str(failure.value)
            assert "cccc" not in str(failure.value)

    def test_a_name_that_appeared_between_reading_and_saving_is_a_conflict(
        self, stubbed: tuple[AwsCredentials, Stubber], name: str
    ) -> None:
        credentials, stubber = stubbed
        stubber.add_client_error("create_secret", "ResourceExistsException", "it exists", 400)
        stubber.add_response(
            "get_secret_value",
            {"ARN": "a" * 20, "Name": name, "VersionId": "w" * 32, "SecretString": RENEWED.to_json()},
        )
        with pytest.raises(StoreConflict, match=name):
            AwsSessionStore(AwsSecret(credentials, name)).save(DOCUMENT, None)


LACKS = {
    "region": (AwsCredentials(), "region"),
    "credentials": (AwsCredentials(region_name="eu-central-1"), "credentials"),
    "profile": (AwsCredentials(profile_name="nobody", region_name="eu-central-1"), "nobody"),
}


class TestNoAnswer:
    """AWS that cannot be called, or does not answer."""

    @pytest.fixture(autouse=True)
    def bare_machine(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Nothing of this machine's own AWS configuration counts."""
        for variable in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "REGION", "DEFAULT_REGION"):
            monkeypatch.delenv(f"AWS_{variable}", raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))

    @pytest.mark.parametrize(("credentials", "lack"), LACKS.values(), ids=LACKS)
    def test_missing_aws_settings_are_named(self, name: str, credentials: AwsCredentials, lack: str) -> None:
        with pytest.raises(StoreDenied, match=lack) as failure:
            AwsSessionStore(AwsSecret(credentials, name)).load()
        assert failure.value.problem is AuthProblem.STORE_DENIED
        assert not failure.value.retryable
        assert name in str(failure.value)

    @pytest.mark.parametrize("asked", ["load", "create", "replace"])
    def test_an_endpoint_that_cannot_be_reached_is_retryable(self, name: str, asked: str) -> None:
        nowhere = AwsCredentials(
            aws_access_key_id=uuid4().hex,
            aws_secret_access_key=SecretStr("testing"),
            region_name="eu-central-1",
            aws_client_parameters=AwsClientParameters(
                endpoint_url="http://127.0.0.1:1", config={"retries": {"total_max_attempts": 1}}
            ),
        )
        with pytest.raises(StoreUnavailable, match=name) as failure:
            TestRefusals.ask(AwsSessionStore(AwsSecret(nowhere, name)), asked)
        assert failure.value.retryable
        assert "eyJ" not in f"{failure.value} {failure.value!r}"


class TestSecrets:
    """Secrets that other tools have made, and how a new one is made."""

    def test_the_secret_is_named_after_the_account_and_has_no_app_password(
        self, pds: sandbox.Sandbox, account: sandbox.Account, own_aws: AwsCredentials
    ) -> None:
        block(pds, account, aws_credentials=own_aws).ensure_session()
        found = own_aws.get_secrets_manager_client().get_secret_value(
            SecretId=f"prefect-bluesky/{account.handle}/session", VersionStage="AWSCURRENT"
        )
        assert json.loads(found["SecretString"])["did"] == account.did
        assert account.app_password not in found["SecretString"]

    @pytest.mark.parametrize(
        "theirs",
        [{"SecretString": '{"username": "admin"}'}, {"SecretString": "theirs"}, {"SecretBinary": b"\x00theirs"}],
    )
    def test_a_foreign_secret_is_refused_before_any_request_and_left_unchanged(
        self, pds: sandbox.Sandbox, account: sandbox.Account, own_aws: AwsCredentials, theirs: dict[str, Any]
    ) -> None:
        client, name = own_aws.get_secrets_manager_client(), f"prefect-bluesky/{account.handle}/session"
        client.create_secret(Name=name, **theirs)
        credentials = block(pds, account, aws_credentials=own_aws)
        store = credentials.session_store()
        with counted(pds) as requests:
            for use in (credentials.ensure_session, store.load, lambda: store.save(DOCUMENT, None)):
                with pytest.raises(StoreDamaged, match=name) as damage:
                    use()
                assert damage.value.problem is AuthProblem.STORE_UNREADABLE
        assert requests == {}
        found = client.get_secret_value(SecretId=name)
        assert {key: found[key] for key in theirs} == theirs

    def test_a_secret_without_a_value_is_filled(self, own_aws: AwsCredentials, name: str) -> None:
        own_aws.get_secrets_manager_client().create_secret(Name=name)
        store = AwsSessionStore(AwsSecret(own_aws, name))
        assert store.load() is None
        assert store.save(DOCUMENT, None) == store.load()

    def test_each_save_moves_awscurrent_and_the_version_before_stays_as_awsprevious(
        self, own_aws: AwsCredentials, name: str
    ) -> None:
        store = AwsSessionStore(AwsSecret(own_aws, name))
        saved = None
        for document in (DOCUMENT, RENEWED) * 2:
            saved = store.save(document, saved)
        client = own_aws.get_secrets_manager_client()
        previous = client.get_secret_value(SecretId=name, VersionStage="AWSPREVIOUS")["SecretString"]
        assert json.loads(previous)["session"]["access_token"] == session().access_token
        versions = client.list_secret_version_ids(SecretId=name)["Versions"]
        labels = [label for version in versions for label in version["VersionStages"]]
        assert labels.count("AWSCURRENT") == labels.count("AWSPREVIOUS") == 1

    def test_a_document_of_an_older_release_is_read_and_replaced_by_one_of_this(
        self, own_aws: AwsCredentials, name: str
    ) -> None:
        client = own_aws.get_secrets_manager_client()
        client.create_secret(Name=name, SecretString=VERSION_1)
        store = AwsSessionStore(AwsSecret(own_aws, name))
        saved = store.load()
        assert saved is not None
        assert saved.document == DOCUMENT
        store.save(RENEWED, saved)
        lying = json.loads(client.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"])
        assert lying["version"] == 2
        found = store.load()
        assert found is not None
        assert found.document == RENEWED

    def test_a_new_secret_has_the_key_and_the_tags_of_the_settings(
        self, own_aws: AwsCredentials, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_AWS_KMS_KEY_ID", "alias/bluesky")
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_AWS_TAGS", '{"team": "news", "cost": "7"}')
        AwsSessionStore(AwsSecret(own_aws, name)).save(DOCUMENT, None)
        described = own_aws.get_secrets_manager_client().describe_secret(SecretId=name)
        assert described["KmsKeyId"] == "alias/bluesky"
        assert described["Tags"] == [{"Key": "team", "Value": "news"}, {"Key": "cost", "Value": "7"}]

    def test_without_settings_a_new_secret_has_neither(self, own_aws: AwsCredentials, name: str) -> None:
        AwsSessionStore(AwsSecret(own_aws, name)).save(DOCUMENT, None)
        described = own_aws.get_secrets_manager_client().describe_secret(SecretId=name)
        assert not described.get("Tags")
        assert not described.get("KmsKeyId")


@dataclass(frozen=True)
class Line(AwsSecret):
    """A secret behind a line that breaks once: before a call arrives, or after it was done and before its answer."""

    breaks_at: int = 0
    answer_is_lost: bool = False
    calls: list[str] = field(default_factory=list)

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        self.calls.append(operation)
        breaks = len(self.calls) == self.breaks_at
        if breaks and not self.answer_is_lost:
            raise StoreUnavailable(self.place, "the line broke")
        answer = super().call(operation, **parameters)
        if breaks:
            raise StoreUnavailable(self.place, "the line broke on the way back")
        return answer


def gate_tried_twice(worker: Worker) -> str:
    """Pass the gate. Try it again if the first failure is retryable."""
    try:
        return worker.gate()
    except BlueskyError as trouble:
        if not trouble.retryable:
            raise
    return worker.gate()


def sign_in_and_refresh_twice(worker: Worker) -> None:
    """Sign in, refresh twice, and at last save what could not be saved at once."""
    assert gate_tried_twice(worker) == "logged_in"
    for _ in range(2):
        worker.passes(MINUTE)
        assert gate_tried_twice(worker) == "reused"
        worker.passes(111 * MINUTE)
        assert gate_tried_twice(worker) == "refreshed"
    worker.passes(MINUTE)
    assert gate_tried_twice(worker) == "reused"


UNBROKEN = [
    *("get_secret_value", "get_secret_value", "create_secret", "put_secret_value", "update_secret_version_stage"),
    *("get_secret_value", "put_secret_value", "update_secret_version_stage") * 2,
]


class TestLine:
    """A login and two refreshes, with one call of AWS failing: each in turn."""

    def test_without_trouble_they_take_these_calls(
        self, pds: sandbox.Sandbox, own_aws: AwsCredentials, name: str
    ) -> None:
        line = Line(own_aws, name)
        sign_in_and_refresh_twice(Worker(pds, AwsSessionStore(line)))
        assert line.calls == UNBROKEN

    @pytest.mark.parametrize("answer_is_lost", [False, True], ids=["not sent", "answer lost"])
    @pytest.mark.parametrize("breaks_at", range(1, len(UNBROKEN) + 1))
    def test_a_failing_store_costs_no_login_and_no_session(
        self, pds: sandbox.Sandbox, own_aws: AwsCredentials, name: str, breaks_at: int, answer_is_lost: bool
    ) -> None:
        worker = Worker(pds, AwsSessionStore(Line(own_aws, name, breaks_at, answer_is_lost)))
        with counted(pds) as requests:
            sign_in_and_refresh_twice(worker)
        assert requests == {LOGIN: 1, REFRESH: 2}
        stored = worker.store.load()
        assert stored is not None
        assert stored.document.session == worker.authenticator.session()
        assert worker.restarted().ensure().action == "reused"


FIRST_LOGIN = {"GetSecretValue": 2, "CreateSecret": 1, "PutSecretValue": 1, "UpdateSecretVersionStage": 1}
RENEWAL = {"GetSecretValue": 1, "PutSecretValue": 1, "UpdateSecretVersionStage": 1}


class TestCalls:
    """Calls of AWS cost money and are limited in number."""

    def test_a_first_login_takes_five(
        self, pds: sandbox.Sandbox, account: sandbox.Account, own_aws: AwsCredentials
    ) -> None:
        credentials = block(pds, account, aws_credentials=own_aws)
        with operations(own_aws) as calls:
            credentials.publish("first")
        assert calls == FIRST_LOGIN

    def test_a_refresh_takes_three(
        self, pds: sandbox.Sandbox, account: sandbox.Account, own_aws: AwsCredentials
    ) -> None:
        credentials = block(pds, account, aws_credentials=own_aws)
        credentials.ensure_session()
        pds.advance(timedelta(hours=3))
        with operations(own_aws) as calls, counted(pds) as requests:
            credentials.publish("through an expired token")
        assert requests == {WRITE: 2, REFRESH: 1}
        assert calls == RENEWAL

    @pytest.mark.parametrize("app_password_in", ["block", "secret"])
    def test_a_process_reads_the_session_once_however_many_gates_come(
        self, pds: sandbox.Sandbox, account: sandbox.Account, own_aws: AwsCredentials, app_password_in: str
    ) -> None:
        put_app_password(own_aws, account, account.app_password)
        credentials = block(pds, account, aws_credentials=own_aws)
        if app_password_in == "secret":
            credentials = by_secret(pds, account, own_aws)
        credentials.ensure_session()
        forget_processes_memory()
        with called(own_aws) as calls:
            for _ in range(5):
                assert credentials.ensure_session().action == "reused"
            credentials.publish("with what was read once")
        assert Counter(calls) == {
            ("GetSecretValue", f"prefect-bluesky/{account.handle}/{part}"): 1
            for part in (["session"] if app_password_in == "block" else ["session", "app-password"])
        }


def put_app_password(aws: AwsCredentials, account: sandbox.Account, text: str | bytes | None) -> None:
    """Keep a text in the secret of an account's app password, as people do."""
    client, name = aws.get_secrets_manager_client(), f"prefect-bluesky/{account.handle}/app-password"
    client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    if isinstance(text, bytes):
        client.create_secret(Name=name, SecretBinary=text)
    elif text is not None:
        client.create_secret(Name=name, SecretString=text)


UNUSABLE: dict[str, tuple[str | bytes | None, str]] = {
    "missing": (None, "there is no AWS secret prefect-bluesky/a[0-9a-f]+.test/app-password"),
    "blank": (" \n", "empty"),
    "of bytes": (b"hunter2", "empty"),
    "cut JSON": ('{"app_password": "hunter2', "JSON"),
    "JSON with a comma too many": ('{"app_password": "hunter2",}', "JSON"),
    "JSON without it": ('{"username": "hunter2"}', "app_password"),
    "JSON with an empty one": ('{"app_password": ""}', "app_password"),
    "JSON with a list": ('{"app_password": ["hunter2"]}', "app_password"),
    "quoted": ('"hunter2"', "quoted"),
    "masked": ("**********", "mask"),
    "masked in JSON": ('{"app_password": "********"}', "mask"),
    "two lines": ("hunter2\nhunter2", "line break"),
}


class TestAppPasswords:
    """App passwords that people keep in Secrets Manager."""

    @pytest.mark.parametrize(
        "form",
        [
            "{}",
            " {}\n",
            '{{"app_password": "{}"}}',
            '{{"password": "{}"}}',
            '{{"app_password": "{}", "password": "another"}}',
            '{{"username": "alice", "password": " {}"}}',
        ],
    )
    def test_each_usual_form_of_it_signs_in(
        self, pds: sandbox.Sandbox, account: sandbox.Account, own_aws: AwsCredentials, form: str
    ) -> None:
        put_app_password(own_aws, account, form.format(account.app_password))
        by_secret(pds, account, own_aws).publish("from a secret")
        assert texts(pds, account) == ["from a secret"]

    @pytest.mark.parametrize(("text", "reason"), UNUSABLE.values(), ids=UNUSABLE)
    def test_an_unusable_app_password_is_named_and_not_sent(
        self,
        pds: sandbox.Sandbox,
        account: sandbox.Account,
        own_aws: AwsCredentials,
        text: str | bytes | None,
        reason: str,
    ) -> None:
        put_app_password(own_aws, account, text)
        with counted(pds) as requests, pytest.raises(InvalidInput, match=reason) as failure:
            by_secret(pds, account, own_aws).ensure_session()
        assert requests == {}
        assert failure.value.field == "app_password"
        assert not failure.value.retryable
        assert "hunter2" not in f"{failure.value} {failure.value!r}"

    def test_a_missing_app_password_uses_no_login(
        self, pds: sandbox.Sandbox, account: sandbox.Account, own_aws: AwsCredentials
    ) -> None:
        credentials = by_secret(pds, account, own_aws)
        for _ in range(12):
            with pytest.raises(InvalidInput):
                credentials.ensure_session()
        put_app_password(own_aws, account, account.app_password)
        assert credentials.ensure_session().action == "logged_in"

    def test_an_unreadable_app_password_is_named_and_may_be_retried(
        self, pds: sandbox.Sandbox, account: sandbox.Account, own_aws: AwsCredentials, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_app_password(own_aws, account, account.app_password)
        credentials = by_secret(pds, account, own_aws)
        gone = StoreUnavailable("AWS secret x", "gone")

        def read(secret: AwsSecret) -> tuple[str, str] | None:
            if secret.name.endswith("app-password"):
                raise gone
            return None

        with monkeypatch.context() as patched, counted(pds) as requests:
            patched.setattr(AwsSecret, "read", read)
            with pytest.raises(StoreUnavailable) as failure:
                credentials.ensure_session()
        assert failure.value is gone
        assert requests == {}
        assert credentials.ensure_session().action == "logged_in"

    def test_a_replaced_app_password_is_used_by_the_next_publish(
        self, pds: sandbox.Sandbox, account: sandbox.Account, own_aws: AwsCredentials
    ) -> None:
        put_app_password(own_aws, account, account.app_password)
        credentials = by_secret(pds, account, own_aws)
        credentials.publish("1: with the old one")
        pds.revoke_app_password(account)
        put_app_password(own_aws, account, pds.create_app_password(account))
        pds.advance(timedelta(hours=3))
        with counted(pds) as requests:
            credentials.publish("2: with the new one")
        assert requests == {WRITE: 2, REFRESH: 1, LOGIN: 1}
        assert texts(pds, account) == ["1: with the old one", "2: with the new one"]

    def test_a_new_app_password_after_a_refusal_heals_the_account(
        self, pds: sandbox.Sandbox, account: sandbox.Account, own_aws: AwsCredentials
    ) -> None:
        put_app_password(own_aws, account, account.app_password)
        credentials = by_secret(pds, account, own_aws)
        pds.revoke_app_password(account)
        with counted(pds) as requests:
            for _ in range(3):
                with pytest.raises(AuthError):
                    credentials.publish("held")
        assert requests == {LOGIN: 1, RESOLVE: 1}
        put_app_password(own_aws, account, pds.create_app_password(account))
        credentials.publish("healed")
        assert texts(pds, account) == ["healed"]


# AWS asks for it where CreateSecret has tags; nothing calls it by itself.
IMPLIED = {"TagResource"}


class TestPolicy:
    """The IAM policy that operators are given."""

    @pytest.fixture
    def statements(self) -> dict[str, dict[str, Any]]:
        """The policy's statements by name."""
        policy = json.loads(POLICY.read_text())
        assert policy["Version"] == "2012-10-17"
        return {statement["Sid"]: statement for statement in policy["Statement"]}

    @staticmethod
    def allowed(statements: dict[str, dict[str, Any]], arn: str) -> set[str]:
        """The operations that the policy allows on a secret."""
        found: set[str] = set()
        for statement in statements.values():
            assert statement["Effect"] == "Allow"
            actions = statement["Action"]
            actions = [actions] if isinstance(actions, str) else actions
            if fnmatchcase(arn, statement["Resource"]):
                found |= {action for action in actions if action.startswith("secretsmanager:")}
        return {action.removeprefix("secretsmanager:") for action in found}

    def test_the_policy_allows_the_operations_that_are_called_and_no_others(
        self,
        pds: sandbox.Sandbox,
        account: sandbox.Account,
        own_aws: AwsCredentials,
        statements: dict[str, dict[str, Any]],
    ) -> None:
        put_app_password(own_aws, account, account.app_password)
        credentials = by_secret(pds, account, own_aws)
        with called(own_aws) as calls:
            credentials.publish("sign in")
            pds.advance(timedelta(hours=3))
            credentials.publish("refresh")
            forget_processes_memory()
            credentials.publish("in another process")
        used: dict[str, set[str]] = {}
        for operation, name in calls:
            used.setdefault(name, set()).add(operation)
        session, app_password = (f"prefect-bluesky/{account.handle}/{part}" for part in ("session", "app-password"))
        assert set(used) == {session, app_password}
        client = own_aws.get_secrets_manager_client()
        for name, implied in ((session, IMPLIED), (app_password, set())):
            arn = client.describe_secret(SecretId=name)["ARN"]
            assert self.allowed(statements, arn) == used[name] | implied

    @pytest.mark.parametrize(
        "name", ["database", "prefect-bluesky", "prefect-bluesky/a.test/other", "session", "x/session"]
    )
    def test_the_policy_allows_nothing_on_other_secrets(self, statements: dict[str, dict[str, Any]], name: str) -> None:
        arn = f"arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}-AbCdEf"
        assert self.allowed(statements, arn) == set()

    def test_the_policy_allows_keys_through_secrets_manager_only(self, statements: dict[str, dict[str, Any]]) -> None:
        keys = statements["UseTheKey"]
        assert set(keys["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
        assert keys["Condition"] == {"StringLike": {"kms:ViaService": "secretsmanager.*.amazonaws.com"}}
