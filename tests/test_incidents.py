"""Incidents as Prefect hears of them: each once, from however many workers, and none lost with a worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.events import AutomationCore, EventTrigger, ReceivedEvent, ResourceSpecification, SendNotification
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws import AwsCredentials

from prefect_bluesky import AuthError, AuthProblem, BlueskyCredentials, sandbox
from prefect_bluesky.alerts import events, lost_alerts
from prefect_bluesky.alerts.lost_alerts import ALERT, lost_alert
from prefect_bluesky.errors import StoreDamaged
from prefect_bluesky.sessions.refusals import incident_of
from tests.support import (
    LOGIN,
    RESOLVE,
    block,
    counted,
    forget_processes_memory,
    forget_stored_session,
    run_deployed,
    saved_block,
)
from tests.worker import Worker, together
from tests.world import Receiver, wait_for

pytestmark = pytest.mark.usefixtures("prefect_api")

FAILED, RECOVERED = events.AUTH_FAILED, events.AUTH_RECOVERED


def heard(account: sandbox.Account) -> list[ReceivedEvent]:
    """Return the events of an account's incidents, the oldest first."""
    about = EventResourceFilter(labels=ResourceSpecification({"handle": account.handle}))
    wanted = EventFilter(event=EventNameFilter(name=[FAILED, RECOVERED]), resource=about)
    with get_client(sync_client=True) as client:
        found = client.read_events(wanted, limit=50).events
    return sorted(found, key=lambda event: event.occurred)


def names(account: sandbox.Account) -> list[str]:
    return [event.event for event in heard(account)]


def after_all_were_heard(account: sandbox.Account, expected: list[str]) -> list[str]:
    """The events of an account, once there are as many as expected and time for one more."""
    wait_for(lambda: len(heard(account)) >= len(expected), "the events")
    return names(account)


def refused(credentials: BlueskyCredentials) -> str:
    """Meet a closed gate; the problem."""
    with pytest.raises(AuthError) as refusal:
        credentials.ensure_session()
    return refusal.value.problem.value


def gate_that_is_closed(credentials: BlueskyCredentials) -> str:
    """Meet a closed gate on a worker; the problem."""
    try:
        credentials.ensure_session()
    except AuthError as refusal:
        return refusal.problem.value
    return "open"


def test_a_failure_says_who_why_since_when_and_what_to_do(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    block(pds, account).ensure_session()
    refused(saved_block(pds, account, app_password="aaaa-bbbb-cccc-dddd"))
    wait_for(lambda: heard(account), "the event")
    (event,) = heard(account)
    problem = AuthProblem.APP_PASSWORD_REJECTED
    assert event.resource.id == f"bluesky.account.{account.did}"
    assert dict(event.resource.root) | {"handle": account.handle, "did": account.did} == dict(event.resource.root)
    assert event.payload["problem"] == problem.value
    assert event.payload["explanation"] == problem.explanation
    assert event.payload["remedy"] == problem.remedy
    assert (event.payload["http_status"], event.payload["xrpc_error"]) == (401, "AuthenticationRequired")
    assert event.payload["first_seen"].startswith(f"{event.occurred:%Y-%m-%dT%H:}")
    assert event.payload["link"].startswith("http")
    assert "aaaa-bbbb" not in event.model_dump_json()


@pytest.mark.slow
def test_an_incident_over_many_workers_is_one_failure_and_one_recovery(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    workers = [Worker() for _ in range(3)]
    try:
        credentials = saved_block(pds, account)
        pds.revoke_app_password(account)
        with counted(pds) as requests:
            assert together(workers, gate_that_is_closed, [[credentials]] * 3) == ["app_password_rejected"] * 3
        assert requests == {LOGIN: 1, RESOLVE: 1}
        mended = saved_block(pds, account, app_password=pds.create_app_password(account, "new"))
        assert together(workers, gate_that_is_closed, [[mended]] * 3) == ["open"] * 3
    finally:
        for worker in workers:
            worker.close()
    assert after_all_were_heard(account, [FAILED, RECOVERED]) == [FAILED, RECOVERED]
    failure, recovery = heard(account)
    assert recovery.resource["incident"] == failure.resource["incident"]


def test_a_new_app_password_that_is_refused_too_is_told_of(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    for app_password in ("aaaa-bbbb-cccc-dddd", "eeee-ffff-gggg-hhhh"):
        for _ in range(2):
            refused(saved_block(pds, account, app_password=app_password))
    saved_block(pds, account).ensure_session()
    assert after_all_were_heard(account, [FAILED, FAILED, RECOVERED]) == [FAILED, FAILED, RECOVERED]


def refused_and_killed(credentials: BlueskyCredentials, *, is_told: bool) -> str:
    """Meet a closed gate, and get killed before, or right after, Prefect is told of it."""
    deliver = events.deliver

    def deadly(event: Any) -> bool:
        if is_told:
            deliver(event)
        os.kill(os.getpid(), signal.SIGKILL)
        return True

    events.deliver = deadly
    return gate_that_is_closed(credentials)


def refused_and_killed_before(credentials: BlueskyCredentials) -> str:
    return refused_and_killed(credentials, is_told=False)


def refused_and_killed_after(credentials: BlueskyCredentials) -> str:
    return refused_and_killed(credentials, is_told=True)


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_tells_leaves_it_to_the_next(pds: sandbox.Sandbox) -> None:
    accounts = [pds.create_account() for _ in range(2)]
    blocks = [saved_block(pds, account, app_password="aaaa-bbbb-cccc-dddd") for account in accounts]
    for credentials, deed in zip(blocks, (refused_and_killed_before, refused_and_killed_after), strict=True):
        worker = Worker()
        worker.prepare(deed, credentials)
        worker.go()
        assert worker.exit_code() == -signal.SIGKILL
        worker.close()
    # Both at a time: each waits until the lock of the dead worker opens.
    with counted(pds) as requests, ThreadPoolExecutor(2) as threads:
        gates = [threads.submit(copy_context().run, refused, credentials) for credentials in blocks]
        assert [gate.result() for gate in gates] == ["app_password_rejected"] * 2
    assert requests == {}
    for account, credentials in zip(accounts, blocks, strict=True):
        assert refused(credentials) == "app_password_rejected"
        assert after_all_were_heard(account, [FAILED]) == [FAILED]


def test_a_report_that_failed_is_sent_later(
    pds: sandbox.Sandbox, aws_credentials: AwsCredentials, prefect_api: str
) -> None:
    account = pds.create_account()
    credentials = saved_block(pds, account, app_password="aaaa-bbbb-cccc-dddd", aws_credentials=aws_credentials)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert refused(credentials) == "app_password_rejected"
    forget_processes_memory()
    with counted(pds) as requests:
        assert refused(credentials) == "app_password_rejected"
    assert requests == {}
    assert after_all_were_heard(account, [FAILED]) == [FAILED]


def test_a_store_that_cannot_be_read_is_an_incident_too(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    credentials = saved_block(pds, account)
    credentials.ensure_session()
    saved = credentials.session_store().load()
    assert saved is not None
    Secret(value="damaged").save(credentials._name, overwrite=True)
    for _ in range(3):
        forget_processes_memory()
        with pytest.raises(StoreDamaged):
            credentials.ensure_session()
    Secret(value=saved.document.to_json()).save(credentials._name, overwrite=True)
    credentials.ensure_session()
    assert after_all_were_heard(account, [FAILED, RECOVERED]) == [FAILED, RECOVERED]
    assert heard(account)[0].payload["problem"] == "store_unreadable"


def test_the_end_of_a_stores_incident_is_told_by_whichever_worker_meets_it(pds: sandbox.Sandbox) -> None:
    account = pds.create_account()
    credentials = saved_block(pds, account)
    Secret(value="damaged").save(credentials._name, overwrite=True)
    for _ in range(2):
        forget_processes_memory()
        with pytest.raises(StoreDamaged):
            credentials.ensure_session()
        after_all_were_heard(account, [FAILED])
    forget_stored_session(credentials)
    assert credentials.ensure_session().action == "logged_in"
    assert after_all_were_heard(account, [FAILED, RECOVERED]) == [FAILED, RECOVERED]
    failure, recovery = heard(account)
    assert recovery.resource["incident"] == failure.resource["incident"]


class TestOfBlocksThatAreNotSaved:
    """A refused login of a script says nothing about the account's saved block."""

    def test_a_wrong_app_password_alerts_nobody(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        saved = saved_block(pds, account)
        with counted(pds) as requests:
            for _ in range(2):
                forget_processes_memory()
                assert refused(block(pds, account, app_password="aaaa-bbbb-cccc-dddd")) == "app_password_rejected"
        assert requests == {LOGIN: 1, RESOLVE: 1}
        saved.ensure_session()
        forget_processes_memory()
        saved.ensure_session()
        assert names(account) == []

    def test_an_app_password_that_the_saved_block_has_too_alerts_once_that_one_meets_it(
        self, pds: sandbox.Sandbox
    ) -> None:
        account = pds.create_account()
        saved = saved_block(pds, account)
        pds.revoke_app_password(account)
        with counted(pds) as requests:
            assert refused(block(pds, account)) == "app_password_rejected"
            assert names(account) == []
            assert refused(saved) == "app_password_rejected"
        assert requests == {LOGIN: 1, RESOLVE: 1}
        assert after_all_were_heard(account, [FAILED]) == [FAILED]

    @pytest.mark.parametrize(("is_saved", "expected"), [(False, [FAILED]), (True, [])])
    def test_in_a_deployment_they_alert_where_the_account_has_no_saved_block(
        self, pds: sandbox.Sandbox, is_saved: bool, expected: list[str]
    ) -> None:
        account = pds.create_account()
        if is_saved:
            saved_block(pds, account)

        @flow
        def announce() -> str:
            return refused(block(pds, account, app_password="aaaa-bbbb-cccc-dddd"))

        run_deployed(announce, {})
        assert after_all_were_heard(account, expected) == expected


class TestLostAlerts:
    """Alerts that reached nobody are repeated."""

    @pytest.fixture
    def receiver(self) -> Iterator[Receiver]:
        """A receiver of an automation's messages about failures."""
        receiver = Receiver()
        receiver.start()
        name = f"alerts-{uuid4().hex[:8]}"
        document = CustomWebhookNotificationBlock(
            name=name,
            url=receiver.url,
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
            allow_private_urls=True,
        ).save(name)
        with get_client(sync_client=True) as client:
            automation = client.create_automation(
                AutomationCore(
                    name=ALERT,
                    trigger=EventTrigger(expect={FAILED}, for_each={"incident", "attempt"}, within=3600),
                    actions=[SendNotification(block_document_id=document, subject="s", body="{{ event.resource.id }}")],
                )
            )
            yield receiver
            client.delete_automation(automation)
        receiver.stop()

    def test_an_alert_that_arrived_is_not_repeated(
        self, pds: sandbox.Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lost_alerts, "_FIRST_WAIT", lost_alerts._FIRST_WAIT * 0)
        account = pds.create_account()
        credentials = saved_block(pds, account, app_password="aaaa-bbbb-cccc-dddd")
        refused(credentials)
        wait_for(lambda: receiver.messages, "the alert")
        wait_for(lambda: self.attempt(credentials) is None, "the note that the alert arrived")
        with pytest.raises(AuthError):
            credentials.keep_alive()
        assert names(account) == [FAILED]

    def test_an_alert_that_met_a_dead_receiver_is_repeated_until_it_arrives(
        self, pds: sandbox.Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account = pds.create_account()
        credentials = saved_block(pds, account, app_password="aaaa-bbbb-cccc-dddd")
        receiver.stop()
        refused(credentials)
        wait_for(lambda: heard(account), "the event")
        assert self.attempt(credentials) is None  # it may still be on its way
        monkeypatch.setattr(lost_alerts, "_FIRST_WAIT", lost_alerts._FIRST_WAIT * 0)
        wait_for(lambda: self.attempt(credentials) == 2, "the second attempt")
        receiver.start()
        with pytest.raises(AuthError):
            credentials.keep_alive()
        wait_for(lambda: receiver.messages, "the alert")
        wait_for(lambda: self.attempt(credentials) is None, "the note that the alert arrived")
        assert [event.resource["attempt"] for event in heard(account)] == ["1", "2"]
        assert len(receiver.messages) == 1

    def test_without_an_automation_that_alerts_nothing_is_repeated(
        self, pds: sandbox.Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lost_alerts, "_FIRST_WAIT", lost_alerts._FIRST_WAIT * 0)
        credentials = saved_block(pds, pds.create_account(), app_password="aaaa-bbbb-cccc-dddd")
        refused(credentials)
        assert self.attempt(credentials) is None

    @staticmethod
    def attempt(credentials: BlueskyCredentials) -> int | None:
        """The attempt that is due."""
        state = credentials._authenticator().state
        assert state.refusal is not None
        return lost_alert(incident_of(state, state.refusal), datetime.now(UTC))
