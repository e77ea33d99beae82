"""The session in AWS Secrets Manager (moto over HTTP), on the sandbox and on a real PDS."""

import json

import pytest
from prefect_aws import AwsCredentials

from prefect_bluesky import AuthError, AuthProblem
from prefect_bluesky.errors import StoreDamaged
from tests.support import (
    LOGIN,
    REFRESH,
    WRITE,
    Pds,
    block,
    counted,
    expire_access_token,
    forget_processes_memory,
    texts,
)


def test_a_session_outlives_the_worker_that_made_it(pds: Pds, aws_credentials: AwsCredentials) -> None:
    account = pds.create_account()
    with counted(pds) as requests:
        for number in range(3):
            block(pds, account, aws_credentials=aws_credentials).publish(f"post {number}")
            forget_processes_memory()
    assert requests == {LOGIN: 1, WRITE: 3}


def test_the_secret_is_named_after_the_account_and_holds_the_session(pds: Pds, aws_credentials: AwsCredentials) -> None:
    account = pds.create_account()
    block(pds, account, aws_credentials=aws_credentials).ensure_session()
    found = aws_credentials.get_secrets_manager_client().get_secret_value(
        SecretId=f"prefect-bluesky/{account.handle}/session", VersionStage="AWSCURRENT"
    )
    assert json.loads(found["SecretString"])["did"] == account.did
    assert account.app_password not in found["SecretString"]


def test_an_account_named_by_its_did_has_a_secret_too(pds: Pds, aws_credentials: AwsCredentials) -> None:
    account = pds.create_account()
    by_did = block(pds, account, aws_credentials=aws_credentials).model_copy(update={"handle": account.did})
    by_did.ensure_session()
    forget_processes_memory()
    assert by_did.ensure_session().action == "reused"


def test_a_refresh_is_stored_at_once_over_the_stale_session(pds: Pds, aws_credentials: AwsCredentials) -> None:
    account = pds.create_account()
    credentials = block(pds, account, aws_credentials=aws_credentials)
    credentials.ensure_session()
    expire_access_token(pds, account, credentials)
    credentials.publish("one")
    forget_processes_memory()
    with counted(pds) as requests:
        credentials.publish("two")
    assert requests == {WRITE: 1}


def test_a_wrong_app_password_never_gets_the_session(pds: Pds, aws_credentials: AwsCredentials) -> None:
    account = pds.create_account()
    block(pds, account, aws_credentials=aws_credentials).ensure_session()
    wrong = block(pds, account, app_password="aaaa-bbbb-cccc-dddd", aws_credentials=aws_credentials)
    with pytest.raises(AuthError) as failure:
        wrong.publish("never seen")
    assert failure.value.problem is AuthProblem.APP_PASSWORD_REJECTED
    assert texts(pds, account) == []


def test_a_secret_that_is_not_ours_is_refused_before_any_request_and_left_as_it_is(
    pds: Pds, aws_credentials: AwsCredentials
) -> None:
    account = pds.create_account()
    client = aws_credentials.get_secrets_manager_client()
    name = f"prefect-bluesky/{account.handle}/session"
    client.create_secret(Name=name, SecretString='{"username": "admin"}')
    with counted(pds) as requests, pytest.raises(StoreDamaged, match=name):
        block(pds, account, aws_credentials=aws_credentials).ensure_session()
    assert requests == {}
    assert client.get_secret_value(SecretId=name)["SecretString"] == '{"username": "admin"}'


def test_a_refresh_moves_awscurrent_and_keeps_one_pending_label(pds: Pds, aws_credentials: AwsCredentials) -> None:
    account = pds.create_account()
    credentials = block(pds, account, aws_credentials=aws_credentials)
    credentials.ensure_session()
    with counted(pds) as requests:
        for _ in range(3):
            expire_access_token(pds, account, credentials)
            credentials.publish("again")
    assert requests[REFRESH] == 3
    versions = aws_credentials.get_secrets_manager_client().list_secret_version_ids(
        SecretId=f"prefect-bluesky/{account.handle}/session"
    )["Versions"]
    labels = sorted(label for version in versions for label in version["VersionStages"])
    assert labels.count("AWSCURRENT") == labels.count("AWSPREVIOUS") == 1
