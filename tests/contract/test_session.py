"""The life of a session, on the sandbox and on a real PDS."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime

import pytest
from prefect_aws import AwsCredentials

from prefect_bluesky import AuthError, AuthProblem
from prefect_bluesky.errors import RequestRefused
from prefect_bluesky.sessions.login import refresh_session
from tests.support import (
    LOGIN,
    REFRESH,
    RESOLVE,
    STATUS,
    WRITE,
    Pds,
    block,
    counted,
    expire_access_token,
    expired,
    forget_processes_memory,
    texts,
)


@pytest.fixture(params=["memory", "Prefect", "AWS"])
def aws(request: pytest.FixtureRequest) -> AwsCredentials | None:
    """Return the AWS block of an account, or None for one whose session is stored in Prefect or in this process."""
    if request.param == "Prefect":
        request.getfixturevalue("prefect_api")
    return request.getfixturevalue("aws_credentials") if request.param == "AWS" else None


def test_the_first_gate_signs_in_and_the_next_one_asks_nobody(pds: Pds) -> None:
    credentials = block(pds, pds.create_account())
    with counted(pds) as requests:
        actions = [credentials.ensure_session().action for _ in range(3)]
    assert actions == ["logged_in", "reused", "reused"]
    assert requests == {LOGIN: 1}


def test_a_status_names_the_account_and_its_pds(pds: Pds) -> None:
    account = pds.create_account()
    status = block(pds, account).ensure_session()
    assert (status.did, status.handle, status.pds_url) == (account.did, account.handle, pds.url)


def test_a_session_outlives_the_worker_that_made_it(pds: Pds, aws: AwsCredentials | None) -> None:
    account = pds.create_account()
    with counted(pds) as requests:
        for number in range(3):
            block(pds, account, aws_credentials=aws).publish(f"post {number}")
            forget_processes_memory()
        assert block(pds, account, aws_credentials=aws).ensure_session().action == "reused"
    assert requests == {LOGIN: 1, WRITE: 3}


def test_an_account_may_be_named_by_its_did(pds: Pds, aws: AwsCredentials | None) -> None:
    account = pds.create_account()
    credentials = block(pds, account, aws_credentials=aws).model_copy(update={"handle": account.did})
    assert credentials.ensure_session().handle == account.handle
    forget_processes_memory()
    assert credentials.ensure_session().action == "reused"


def test_a_value_that_is_no_app_password_gives_a_warning_and_is_not_shown(
    pds: Pds, caplog: pytest.LogCaptureFixture
) -> None:
    account = pds.create_account()
    credentials = block(pds, account, app_password=account.password)
    assert credentials.ensure_session().action == "logged_in"
    assert "does not look like an app password" in caplog.text
    assert account.password not in caplog.text


def test_an_expired_access_token_costs_one_refresh_that_is_stored_and_one_replay(
    pds: Pds, aws: AwsCredentials | None
) -> None:
    account, credentials = expired(pds, aws_credentials=aws)
    with counted(pds) as requests:
        credentials.publish("after the expiry")
    assert requests == {WRITE: 2, REFRESH: 1}
    forget_processes_memory()
    with counted(pds) as requests:
        credentials.publish("later")
    assert requests == {WRITE: 1}
    assert texts(pds, account) == ["after the expiry", "later"]


def test_twenty_threads_at_the_moment_of_expiry_share_one_refresh(pds: Pds) -> None:
    account, credentials = expired(pds)
    with counted(pds) as requests, ThreadPoolExecutor(20) as threads:
        # A plain thread has no context, and would see another Prefect API than the test.
        posts = [threads.submit(copy_context().run, credentials.publish, f"post {number:02}") for number in range(20)]
        for post in posts:
            post.result()
    assert requests[REFRESH] == 1
    assert LOGIN not in requests
    assert texts(pds, account) == [f"post {number:02}" for number in range(20)]


def test_a_changed_main_password_ends_the_session_but_not_the_app_password(pds: Pds) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    credentials.ensure_session()
    pds.change_password(account, "a new main password")
    expire_access_token(pds, account, credentials)
    with counted(pds) as requests:
        credentials.publish("still here")
    assert requests == {WRITE: 2, REFRESH: 1, LOGIN: 1}


def test_a_revoked_app_password_is_named_after_one_refresh_and_one_login(pds: Pds) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    credentials.ensure_session()
    pds.revoke_app_password(account)
    expire_access_token(pds, account, credentials)
    with counted(pds) as requests, pytest.raises(AuthError) as failure:
        credentials.publish("never seen")
    assert failure.value.problem is AuthProblem.APP_PASSWORD_REVOKED
    assert account.handle in str(failure.value)
    assert requests == {WRITE: 1, REFRESH: 1, LOGIN: 1, RESOLVE: 1, STATUS: 1}
    assert texts(pds, account) == []


def test_a_wrong_app_password_does_not_get_the_session_of_the_right_one_and_leaves_it_alone(
    pds: Pds, aws: AwsCredentials | None
) -> None:
    account = pds.create_account()
    block(pds, account, aws_credentials=aws).ensure_session()
    with pytest.raises(AuthError) as failure:
        block(pds, account, app_password="aaaa-bbbb-cccc-dddd", aws_credentials=aws).publish("never seen")
    assert failure.value.problem is AuthProblem.APP_PASSWORD_REJECTED
    assert texts(pds, account) == []
    forget_processes_memory()
    assert block(pds, account, aws_credentials=aws).ensure_session().action == "reused"


def test_a_new_app_password_signs_in_and_takes_the_place_of_the_old_one(pds: Pds) -> None:
    account = pds.create_account()
    block(pds, account).ensure_session()
    second = pds.create_app_password(account, "second")
    assert block(pds, account, app_password=second).ensure_session().action == "logged_in"
    forget_processes_memory()
    assert block(pds, account, app_password=second).ensure_session().action == "reused"


@pytest.mark.parametrize(
    ("blow", "problem"),
    [("take_down", AuthProblem.ACCOUNT_TAKEN_DOWN), ("deactivate", AuthProblem.ACCOUNT_DEACTIVATED)],
)
def test_an_account_that_may_not_write_is_told_so(pds: Pds, blow: str, problem: AuthProblem) -> None:
    account = pds.create_account()
    credentials = block(pds, account)
    credentials.ensure_session()
    getattr(pds, blow)(account)
    with counted(pds) as requests, pytest.raises(AuthError) as failure:
        credentials.publish("never seen")
    assert failure.value.problem is problem
    assert requests == {WRITE: 1}


def test_a_stored_session_of_another_account_is_refused_each_time_and_left_alone(
    pds: Pds, aws: AwsCredentials | None
) -> None:
    alice, bob = pds.create_account(), pds.create_account()
    bobs = block(pds, bob, aws_credentials=aws)
    bobs.ensure_session()
    found = bobs.session_store().load()
    assert found is not None
    by_did = block(pds, alice, aws_credentials=aws).model_copy(update={"handle": alice.did})
    saved = by_did.session_store().save(found.document, None)
    with counted(pds) as requests:
        for _ in range(2):
            with pytest.raises(AuthError) as failure:
                by_did.ensure_session()
            assert failure.value.problem is AuthProblem.WRONG_ACCOUNT
    assert requests == {}
    assert by_did.session_store().load() == saved


def test_after_signing_out_no_token_is_good_and_the_next_publish_signs_in(
    pds: Pds, aws_credentials: AwsCredentials
) -> None:
    account = pds.create_account()
    credentials = block(pds, account, aws_credentials=aws_credentials)
    credentials.ensure_session()
    saved = credentials.session_store().load()
    assert saved
    before = saved.document.session
    assert before
    credentials.sign_out()
    with pytest.raises(RequestRefused):
        refresh_session(before, pds.plc_url, received_at=datetime.now(UTC))
    credentials.sign_out()
    assert credentials.ensure_session().action == "logged_in"
