"""Automations post to Bluesky: the notification block, alone and on a Prefect server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.blocks.abstract import NotificationError
from prefect.client.orchestration import get_client
from prefect.events import AutomationCore, Event, EventTrigger, Resource
from prefect.events.actions import SendNotification
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.events.schemas.automations import Posture
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from prefect_bluesky import BlueskyNotification, sandbox
from prefect_bluesky.channels import notification
from tests.prefect_server import PrefectServer
from tests.support import LOGIN, WRITE, block, counted, texts
from tests.world import wait_for

WORDS = " ".join(f"word{number}" for number in range(100))


def notifier(pds: sandbox.Sandbox, account: Any, **fields: Any) -> BlueskyNotification:
    """A notification block of an account."""
    return BlueskyNotification(credentials=block(pds, account), **fields)


class TestText:
    """What is posted."""

    @pytest.mark.parametrize(
        ("subject", "body", "text"),
        [
            ("Release 2.0", "It is deployed.", "Release 2.0\n\nIt is deployed."),
            (None, "It is deployed.", "It is deployed."),
            ("", "  It is deployed.\n", "It is deployed."),
            ("Release 2.0", "", "Release 2.0"),
            ("Null", "a\0b", "Null\n\nab"),
        ],
    )
    def test_a_post_is_the_subject_and_the_body(
        self, pds: sandbox.Sandbox, subject: str | None, body: str, text: str
    ) -> None:
        account = pds.create_account()
        notifier(pds, account).notify(body, subject)
        assert texts(pds, account) == [text]

    @pytest.mark.parametrize(
        ("body", "end"),
        [
            (WORDS, " word43…"),
            ("x" * 400, "xxx…"),
            (f"{'y' * 270}, https://example.com/a {'z' * 40}", " example.com/a …"),
            (f"{'👩‍👩‍👧 ' * 200}", "👩‍👩‍👧…"),
        ],
        ids=["words", "one long word", "a link", "wide characters"],
    )
    def test_a_text_that_is_too_long_is_cut_after_a_word(self, pds: sandbox.Sandbox, body: str, end: str) -> None:
        account = pds.create_account()
        notifier(pds, account).notify(body)
        (text,) = texts(pds, account)
        assert text.endswith(end)

    def test_a_text_that_is_too_long_becomes_a_thread_if_wanted(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        notifier(pds, account, as_thread=True, languages=["en"]).notify(WORDS)
        posts = [post["value"] for post in sorted(pds.posts(account), key=lambda post: post["value"]["createdAt"])]
        assert " ".join(post["text"] for post in posts) == WORDS
        assert [post["langs"] for post in posts] == [["en"]] * 3

    def test_a_thread_that_is_too_long_ends_with_an_ellipsis(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        notifier(pds, account, as_thread=True).notify(" ".join(f"word{number}" for number in range(5000)))
        assert len(pds.posts(account)) == 100
        assert sum(text.endswith("…") for text in texts(pds, account)) == 1


class TestSending:
    """How often it is posted, and what is said if it is not."""

    @pytest.fixture
    def at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Retry temporary errors without a pause."""
        monkeypatch.setattr(notification, "_PAUSES", [pause * 0 for pause in notification._PAUSES])

    def test_two_calls_are_two_posts(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        for _ in range(2):
            notifier(pds, account).notify("again")
        assert texts(pds, account) == ["again", "again"]

    def test_async_code_awaits_it(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()

        async def call() -> None:
            awaitable: Any = notifier(pds, account).notify("from async code")
            await awaitable

        asyncio.run(call())
        assert texts(pds, account) == ["from async code"]

    @pytest.mark.usefixtures("prefect_api")
    def test_a_retried_flow_run_posts_once(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        attempts = []

        @flow(retries=1, retry_delay_seconds=0)
        def deploy() -> None:
            notifier(pds, account).notify("deployed")
            attempts.append(1)
            if len(attempts) == 1:
                raise RuntimeError("the worker stumbles")

        deploy()
        assert texts(pds, account) == ["deployed"]

    @pytest.mark.usefixtures("at_once")
    def test_after_a_lost_answer_it_is_posted_once(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        pds.drop(WRITE)
        pds.fail("com.atproto.repo.getRecord", status=503)
        notifier(pds, account).notify("once")
        assert texts(pds, account) == ["once"]

    @pytest.mark.usefixtures("at_once")
    def test_trouble_that_lasts_is_named(self, pds: sandbox.Sandbox) -> None:
        with sandbox.run() as failing:
            account = failing.create_account()
            failing.fail(LOGIN, status=503, times=99)
            with pytest.raises(NotificationError) as failure:
                notifier(failing, account).notify("never")
        assert "answered com.atproto.server.createSession with 503" in failure.value.log

    def test_a_refused_app_password_is_named_and_not_shown(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        pds.revoke_app_password(account)
        with pytest.raises(NotificationError) as failure:
            notifier(pds, account).notify("never")
        assert "app_password_rejected" in failure.value.log
        assert account.app_password not in f"{failure.value.log} {failure.value!r} {failure.value.__cause__!r}"

    def test_a_notification_without_words_says_so(self, pds: sandbox.Sandbox) -> None:
        with pytest.raises(NotificationError) as failure:
            notifier(pds, pds.create_account()).notify(" ", "")
        assert failure.value.log == "text: the post is empty. Write something."

    def test_an_unusable_block_shows_no_secret(self) -> None:
        given = {"credentials": {"handle": "no handle", "app_password": "aaaa-bbbb-cccc-dddd"}}
        with pytest.raises(Exception) as failure:  # noqa: PT011 - whatever Prefect's server would show
            BlueskyNotification.model_validate(given)
        assert "aaaa-bbbb" not in f"{failure.value!r} {failure.value}"


@pytest.mark.slow
class TestOnAServer:
    """An automation of a Prefect server that has no API URL, as servers have none."""

    @pytest.fixture
    def server(self, no_prefect_api: None, tmp_path: Path) -> Iterator[str]:
        """A Prefect server that wants a password, at hand for this test; its API's URL."""
        made = PrefectServer(tmp_path, tmp_path / "prefect.db", settings={"PREFECT_SERVER_API_AUTH_STRING": "me:pw"})
        password = temporary_settings({PREFECT_API_AUTH_STRING: "me:pw"})
        with password, made.running() as url, temporary_settings({PREFECT_API_URL: url}):
            yield url

    def test_each_event_is_one_post_with_a_session_that_workers_share(self, pds: sandbox.Sandbox, server: str) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        credentials.save("alice")
        automate(BlueskyNotification(credentials=type(credentials).load("alice")).save("news"))
        with counted(pds) as requests:
            fire_until_heard()
            for version in ("2.0", "2.1"):
                fire(version)
            wanted = {f"deployed\n\n{version} is out" for version in ("2.0", "2.1")}
            wait_for(lambda: wanted <= set(texts(pds, account)), "the posts")
            wait_for(lambda: len(pds.posts(account)) == len(events("prefect.automation.triggered")), "a post for each")
            credentials.publish("by a worker")
        posts = texts(pds, account)
        assert [posts.count(text) for text in wanted] == [1, 1]
        assert requests == {LOGIN: 1, WRITE: len(posts)}
        assert events("bluesky.post.published")

    def test_an_action_that_fails_says_why_and_alerts(self, pds: sandbox.Sandbox, server: str) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        credentials.save("alice")
        automate(BlueskyNotification(credentials=type(credentials).load("alice")).save("news"))
        pds.revoke_app_password(account)
        fire_until_heard()
        wait_for(lambda: events("prefect.automation.action.failed"), "the end of the action")
        failed, *_ = events("prefect.automation.action.failed")
        assert "app_password_rejected" in failed.payload["notification_log"]
        assert account.app_password not in failed.model_dump_json()
        wait_for(lambda: events("bluesky.auth.failed"), "the event of the incident")


def automate(notification_block: Any) -> None:
    """Let a server post each event `app.deployed` by a saved block."""
    trigger = EventTrigger(expect={"app.deployed"}, posture=Posture.Reactive, threshold=1)
    body = "{{ event.payload.version }} is out"
    action = SendNotification(block_document_id=UUID(str(notification_block)), subject="deployed", body=body)
    with get_client(sync_client=True) as client:
        client.create_automation(AutomationCore(name=f"tell {uuid4()}", trigger=trigger, actions=[action]))


def fire(version: str) -> None:
    """Send the event."""
    event = Event(event="app.deployed", resource=Resource({"prefect.resource.id": "app"}), payload={"version": version})
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])


def fire_until_heard() -> None:
    """Send the event again and again until the automation has begun to hear it, a moment after it was made."""
    wait_for(lambda: fire("1.0") or events("prefect.automation.triggered"), "the automation")  # type: ignore[func-returns-value]


def events(name: str) -> list[Any]:
    """Return a server's events of a name."""
    with get_client(sync_client=True) as client:
        return client.read_events(EventFilter(event=EventNameFilter(name=[name])), limit=50).events
