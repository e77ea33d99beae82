"""The tasks as other teams' flows call them: by a block or its name, in sync and async flows, mapped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, task, unmapped
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
from prefect.client.schemas.objects import State
from pydantic import SecretStr

from prefect_bluesky import (
    BlueskyCredentials,
    MastodonCredentials,
    Post,
    PublishedPost,
    aensure_session,
    apublish_post,
    ensure_session,
    publish_post,
    sandbox,
)
from prefect_bluesky.errors import InvalidInput
from tests.support import LOGIN, WRITE, SavedAccount, block, counted

pytestmark = pytest.mark.usefixtures("prefect_api", "without_pauses")

MASTODON = MastodonCredentials(instance_url="https://social.test", access_token=SecretStr("hunter-2"))


def in_flow(call: Callable[[], Any]) -> Any:
    """Call in a flow."""
    return flow(call)()


def in_async_flow(call: Callable[[], Any]) -> Any:
    """Await what a call returns, in an async flow."""

    @flow
    async def team() -> Any:
        return await call()

    return asyncio.run(team())


class TestAnAccount:
    """An account is a block, or the name of a saved one."""

    @pytest.mark.parametrize("kind", ["", "bluesky-credentials/"])
    def test_the_name_of_a_saved_block_publishes(self, alice: SavedAccount, kind: str) -> None:
        in_flow(lambda: (ensure_session(kind + alice.name), publish_post(kind + alice.name, "by name")))
        assert alice.texts == ["by name"]

    def test_the_runs_are_named_after_what_was_given(self, pds: sandbox.Sandbox, alice: SavedAccount) -> None:
        credentials = block(pds, alice.account)

        @flow
        def team() -> None:
            publish_post(alice.name, "by name")
            publish_post(credentials, "by block")

        state: State[Any] = team(return_state=True)
        with get_client(sync_client=True) as client:
            of_it = TaskRunFilterFlowRunId(any_=[state.state_details.flow_run_id])
            names = {run.name for run in client.read_task_runs(task_run_filter=TaskRunFilter(flow_run_id=of_it))}
        assert names == {f"post as {alice.name}", f"post as {alice.account.handle}"}

    def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(self, alice: SavedAccount) -> None:
        wrong, right = f"bluesky-credentials/{alice.name}x", f"bluesky-credentials/{alice.name}"
        with pytest.raises(InvalidInput) as refused:
            in_flow(lambda: publish_post(f"{alice.name}x", "Hello"))
        assert str(refused.value) == f"credentials: there is no block {wrong}. Did you mean {right}?"

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("nobody-at-all", "there is no block bluesky-credentials/nobody-at-all. Create the block, or name another"),
            ({"handle": "alice.test", "app_password": "hunter-2"}, "it is of the type dict, not a Bluesky Credentials"),
            (None, "it is empty, not a Bluesky Credentials block. Give a Bluesky Credentials block, or the name of a"),
            ("", "it is empty"),
            (MASTODON, "it is a Mastodon Credentials block, not a Bluesky Credentials block"),
            ("https://alice:hunter-2@bsky.social", "there is no block of that name"),
            ("hunt-ter2-hunt-ter2", "there is no block of that name"),
        ],
        ids=["no block", "dict", "None", "no name", "another block", "url", "app password"],
    )
    @pytest.mark.parametrize(
        "publish",
        [
            lambda given: in_flow(lambda: publish_post(given, "Hello")),
            lambda given: in_async_flow(lambda: apublish_post(given, "Hello")),
        ],
        ids=["publish_post", "apublish_post"],
    )
    def test_what_is_no_account_is_refused_at_once_in_plain_words(
        self, given: Any, said: str, publish: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(InvalidInput) as refused:
            publish(given)
        assert str(refused.value).startswith(f"credentials: {said}")
        assert "hunt" not in str(refused.value)
        assert "Retry 1" not in caplog.text

    def test_a_saved_block_of_another_type_is_refused_by_its_type(self) -> None:
        name = f"account-{uuid4().hex[:8]}"
        MASTODON.save(name)
        with pytest.raises(InvalidInput, match="it is a Mastodon Credentials block"):
            in_flow(lambda: ensure_session(f"mastodon-credentials/{name}"))


class TestAsync:
    """The twins for async flows."""

    def test_an_async_flow_awaits_them(self, alice: SavedAccount) -> None:
        async def both() -> PublishedPost:
            await aensure_session(alice.name)
            return await apublish_post(alice.name, "from an async flow")

        published = in_async_flow(both)
        assert [post["uri"] for post in alice.pds.posts(alice.account)] == [published.uri]

    def test_they_retry_what_passes(self, pds: sandbox.Sandbox, alice: SavedAccount) -> None:
        pds.fail(LOGIN, status=502)
        pds.fail(WRITE, status=502, times=2)
        with counted(pds) as requests:
            in_async_flow(lambda: aensure_session(alice.name))
            in_async_flow(lambda: apublish_post(alice.name, "after all"))
        assert (requests[LOGIN], requests[WRITE]) == (2, 3)
        assert alice.texts == ["after all"]

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (publish_post, "publish_post is not awaited. Call it without await, or await apublish_post."),
            (ensure_session, "ensure_session is not awaited. Call it without await, or await aensure_session."),
        ],
        ids=["publish_post", "ensure_session"],
    )
    def test_a_flow_that_awaits_the_other_one_is_told_which_to_take(
        self, alice: SavedAccount, call: Any, said: str
    ) -> None:
        given = ["Hello"] if call is publish_post else []
        with pytest.raises(TypeError) as refused:
            in_async_flow(lambda: call(alice.name, *given))
        assert str(refused.value) == said

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (apublish_post, "apublish_post is awaited, in an async flow. In other flows, call publish_post."),
            (aensure_session, "aensure_session is awaited, in an async flow. In other flows, call ensure_session."),
        ],
        ids=["apublish_post", "aensure_session"],
    )
    def test_a_flow_that_cannot_await_is_told_which_to_take(self, alice: SavedAccount, call: Any, said: str) -> None:
        given = ["Hello"] if call is apublish_post else []
        with pytest.raises(TypeError) as refused:
            in_flow(lambda: call(alice.name, *given))
        assert str(refused.value) == said

    def test_a_flow_that_cannot_await_may_submit_and_map_them(self, alice: SavedAccount, bob: SavedAccount) -> None:
        def team() -> None:
            submitted: Any = apublish_post.submit(alice.name, "submitted")
            submitted.result()
            apublish_post.map([alice.name, bob.name], "mapped").result()

        in_flow(team)
        assert (alice.texts, bob.texts) == (["mapped", "submitted"], ["mapped"])

    def test_a_script_may_run_one_without_a_flow(self, alice: SavedAccount) -> None:
        asyncio.run(apublish_post(alice.name, "from a script"))
        assert alice.texts == ["from a script"]


class TestMap:
    """A list has a value for each call; anything else is the same for each call."""

    @pytest.fixture
    def accounts(self, alice: SavedAccount, bob: SavedAccount) -> list[SavedAccount]:
        return [alice, bob]

    @pytest.mark.parametrize("task", [publish_post, apublish_post], ids=["publish_post", "apublish_post"])
    @pytest.mark.parametrize(
        ("post", "published"),
        [
            ("hi", [["hi"], ["hi"]]),
            (Post(text="hi"), [["hi"], ["hi"]]),
            (Post(text="hi", thread=["there"]), [["hi", "there"], ["hi", "there"]]),
            (unmapped(["hi", "there"]), [["hi", "there"], ["hi", "there"]]),
            (["hi", "there"], [["hi"], ["there"]]),
        ],
        ids=["a text", "a post", "a thread", "an unmapped list", "a list"],
    )
    def test_accounts_publish(
        self, accounts: list[SavedAccount], task: Any, post: Any, published: list[list[str]]
    ) -> None:
        in_flow(lambda: task.map([account.name for account in accounts], post).result())
        assert [account.texts for account in accounts] == published

    def test_one_account_publishes_several_posts(self, pds: sandbox.Sandbox, alice: SavedAccount) -> None:
        credentials = block(pds, alice.account)
        in_flow(lambda: publish_post.map(credentials, ["one", "two"]).result())
        in_flow(lambda: publish_post.map(alice.name, [Post(text="three"), "four"]).result())
        assert alice.texts == ["four", "one", "three", "two"]

    def test_a_post_that_a_task_makes_is_one_value(self, accounts: list[SavedAccount]) -> None:
        @task
        def write() -> Post:
            return Post(text="made")

        def team() -> None:
            blocks = [BlueskyCredentials.load(account.name) for account in accounts]
            publish_post.with_options(retries=1).map(blocks, write.submit()).result()

        in_flow(team)
        assert [account.texts for account in accounts] == [["made"], ["made"]]


class TestArguments:
    """What `publish` takes, in plain words."""

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (
                {"reply_to": "at://x"},
                "reply_to: it is a field of Post, not an argument of publish. Write Post(text=..., reply_to=...).",
            ),
            ({"kye": "k"}, "kye: publish has no such argument. Did you mean key?"),
            ({"zzz": 1}, "zzz: publish has no such argument. The arguments are post, key, dry_run, as_draft."),
        ],
    )
    @pytest.mark.parametrize(
        "publish",
        [
            lambda credentials, given: credentials.publish("re", **given),
            lambda credentials, given: asyncio.run(credentials.apublish("re", **given)),
        ],
        ids=["publish", "apublish"],
    )
    def test_an_unknown_argument_is_refused_with_what_was_meant(
        self,
        pds: sandbox.Sandbox,
        alice: SavedAccount,
        given: dict[str, Any],
        said: str,
        publish: Callable[[Any, dict[str, Any]], Any],
    ) -> None:
        credentials = block(pds, alice.account)
        with pytest.raises(InvalidInput) as refused:
            publish(credentials, given)
        assert str(refused.value) == said

    @pytest.mark.parametrize(
        "publish",
        [
            lambda **given: publish_post("alice", "re", **given),
            lambda **given: publish_post.submit("alice", "re", **given),
            lambda **given: asyncio.run(apublish_post("alice", "re", **given)),
        ],
        ids=["call", "submit", "await"],
    )
    def test_a_task_says_where_a_field_of_a_post_goes(self, publish: Callable[..., Any]) -> None:
        with pytest.raises(InvalidInput, match=r"reply_to: .*publish_post\. Write Post\(text=\.\.\., reply_to="):
            publish(reply_to="at://x")

    def test_a_text_that_does_not_fit_is_refused_in_plain_words(self, alice: SavedAccount) -> None:
        with pytest.raises(InvalidInput, match=r"^text: it has 301 characters, 1 over the limit of 300"):
            in_flow(lambda: publish_post(alice.name, "x" * 301))
        assert alice.texts == []
