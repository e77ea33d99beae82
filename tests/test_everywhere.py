"""One post for many accounts and channels, each by itself and once."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
from prefect.client.schemas.objects import State
from pydantic import SecretStr

from prefect_bluesky import (
    AppriseService,
    AuthError,
    Delivery,
    Image,
    LinkCard,
    MastodonCredentials,
    Post,
    apublish_everywhere,
    publish_everywhere,
    sandbox,
)
from prefect_bluesky.channels import everywhere
from prefect_bluesky.errors import DoesNotFit, Expired, InvalidInput, NotEverywhere, ServiceUnavailable, Unconfirmed
from tests import apprise_place, mastodon_server
from tests.apprise_place import Place
from tests.mastodon_server import MastodonServer
from tests.support import SavedAccount, block, picture

STATUSES = "POST /api/v1/statuses"


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everywhere._publish_to, "retry_delay_seconds", [0.0])


@pytest.fixture
def mastodon() -> Iterator[MastodonServer]:
    with mastodon_server.run() as instance:
        yield instance


@pytest.fixture
def place() -> Iterator[Place]:
    with apprise_place.run() as place:
        yield place


def on_mastodon(server: MastodonServer) -> MastodonCredentials:
    return MastodonCredentials(instance_url=server.url, access_token=SecretStr("good-token"))


def saved(unsaved: MastodonCredentials | AppriseService) -> str:
    """Save a block. Return its name with its type."""
    name = f"account-{uuid4().hex[:8]}"
    unsaved.save(name)
    return f"{unsaved.get_block_type_slug()}/{name}"


class Accounts:
    """Saved blocks of an account on each channel."""

    def __init__(self, pds: sandbox.Sandbox, mastodon: MastodonServer, place: Place) -> None:
        self.bluesky, self._mastodon, self._place = SavedAccount(pds), mastodon, place
        self.names = [f"bluesky-credentials/{self.bluesky.name}", saved(on_mastodon(mastodon)), saved(place.service)]

    @property
    def texts(self) -> list[list[str]]:
        """The texts of the posts on each."""
        return [self.bluesky.texts, self._mastodon.texts(), self._place.texts]


@pytest.fixture
def accounts(prefect_api: str, pds: sandbox.Sandbox, mastodon: MastodonServer, place: Place) -> Accounts:
    return Accounts(pds, mastodon, place)


def in_flow(call: Callable[[], Any]) -> Any:
    """Call in a flow."""
    return flow(call)()


def outside(call: Callable[[], Any]) -> Any:
    """Call outside a flow."""
    return call()


def in_async_flow(call: Callable[[], Any]) -> Any:
    """Call in an async flow, without await."""

    @flow
    async def team() -> Any:
        return call()

    return asyncio.run(team())


class TestEverywhere:
    """`publish_everywhere`."""

    @pytest.mark.parametrize("where", [in_flow, outside, in_async_flow])
    def test_a_post_goes_out_on_each_channel(self, accounts: Accounts, where: Callable[..., Any]) -> None:
        done = where(lambda: publish_everywhere("Hello", accounts.names))
        assert [each.to for each in done] == accounts.names
        assert [len(each.urls) for each in done] == [1, 1, 0]
        assert accounts.texts == [["Hello"], ["Hello"], ["Hello"]]

    def test_an_async_flow_awaits_its_twin(self, accounts: Accounts) -> None:
        @flow
        async def team() -> list[Delivery]:
            return await apublish_everywhere("Hello", accounts.names)

        assert [each.error for each in asyncio.run(team())] == [None, None, None]
        assert accounts.texts == [["Hello"], ["Hello"], ["Hello"]]

    def test_a_bare_name_is_a_bluesky_account_and_a_name_given_twice_counts_once(self, accounts: Accounts) -> None:
        name = accounts.bluesky.name
        (done,) = in_flow(lambda: publish_everywhere("Hello", [name, f"bluesky-credentials/{name}"]))
        assert done.to == f"bluesky-credentials/{name}"
        assert accounts.bluesky.texts == ["Hello"]

    def test_blocks_are_taken_as_they_are(
        self, accounts: Accounts, pds: sandbox.Sandbox, mastodon: MastodonServer, place: Place
    ) -> None:
        credentials = block(pds, accounts.bluesky.account)
        done = in_flow(lambda: publish_everywhere("Hello", [credentials, on_mastodon(mastodon), place.service]))
        handle = accounts.bluesky.account.handle
        assert [each.to for each in done] == [
            f"bluesky-credentials/{handle}",
            "mastodon-credentials",
            "apprise-service",
        ]
        assert accounts.texts == [["Hello"], ["Hello"], ["Hello"]]

    def test_each_account_is_a_task_with_its_name(self, accounts: Accounts) -> None:
        @flow
        def team() -> None:
            publish_everywhere("Hello", accounts.names)

        state: State[Any] = team(return_state=True)
        with get_client(sync_client=True) as client:
            of_it = TaskRunFilterFlowRunId(any_=[state.state_details.flow_run_id])
            names = {run.name for run in client.read_task_runs(task_run_filter=TaskRunFilter(flow_run_id=of_it))}
        assert names == {f"post on {name}" for name in accounts.names}

    @pytest.mark.parametrize("where", [in_flow, outside])
    def test_a_failure_stops_no_other_and_is_named(
        self, accounts: Accounts, pds: sandbox.Sandbox, where: Callable[..., Any]
    ) -> None:
        bob = SavedAccount(pds)
        pds.revoke_app_password(bob.account)
        to = [bob.name, "mastodon-credentials/nobody", *accounts.names]
        with pytest.raises(NotEverywhere) as failed:
            where(lambda: publish_everywhere("Hello", to))
        refused, missing, *others = failed.value.results
        assert isinstance(refused.error, AuthError)
        assert isinstance(missing.error, InvalidInput)
        assert [each.error for each in others] == [None, None, None]
        message = str(failed.value)
        assert message.startswith(
            f"The post is not out for 2 of 5. bluesky-credentials/{bob.name}: {bob.account.handle}: "
        )
        assert "mastodon-credentials/nobody: to: there is no block mastodon-credentials/nobody." in message
        assert not failed.value.retryable
        assert accounts.texts == [["Hello"], ["Hello"], ["Hello"]]

    def test_passing_trouble_is_retried_for_the_account_alone(
        self, accounts: Accounts, mastodon: MastodonServer
    ) -> None:
        mastodon.before = lambda request: (
            503 if request == STATUSES and mastodon.requests.count(STATUSES) == 1 else None
        )
        in_flow(lambda: publish_everywhere("Hello", accounts.names))
        assert accounts.texts == [["Hello"], ["Hello"], ["Hello"]]

    def test_a_run_that_is_retried_publishes_what_is_missing(
        self, accounts: Accounts, mastodon: MastodonServer
    ) -> None:
        attempts: list[int] = []
        mastodon.before = lambda request: 503 if request == STATUSES and len(attempts) == 1 else None

        @flow(retries=1)
        def team() -> list[Delivery]:
            attempts.append(1)
            return publish_everywhere("Hello", accounts.names, key="release 2.0")

        assert [each.error for each in team()] == [None, None, None]
        assert len(attempts) == 2
        assert accounts.texts == [["Hello"], ["Hello"], ["Hello"]]

    def test_two_accounts_of_a_channel_publish_under_one_key(self, accounts: Accounts, place: Place) -> None:
        with mastodon_server.run() as other, apprise_place.run() as other_place:
            to: list[Any] = [*accounts.names, on_mastodon(other), other_place.service]
            in_flow(lambda: publish_everywhere("Hello", to, key="release 2.0"))
            assert (other.texts(), other_place.texts) == (["Hello"], ["Hello"])
        assert accounts.texts == [["Hello"], ["Hello"], ["Hello"]]

    @pytest.mark.parametrize("to", [[], (), None])
    def test_no_account_is_an_error(self, to: Any) -> None:
        with pytest.raises(InvalidInput, match=r"to: no account is given\. Name saved blocks"):
            publish_everywhere("Hello", to)

    def test_what_is_no_account_is_refused_before_anything_is_sent(self, accounts: Accounts) -> None:
        to: Any = [*accounts.names, {"handle": "alice.test", "app_password": "hunter-2"}]
        with pytest.raises(InvalidInput) as refused:
            publish_everywhere("Hello", to)
        assert str(refused.value).startswith("to: a value of the type dict is no account.")
        assert accounts.texts == [[], [], []]

    def test_a_url_in_place_of_a_name_is_never_shown(self, accounts: Accounts) -> None:
        with pytest.raises(NotEverywhere) as failed:
            in_flow(lambda: publish_everywhere("Hello", ["tgram://hunter-2/@news", *accounts.names]))
        assert "hunter" not in f"{failed.value} {failed.value!r} {failed.value.results}"
        assert accounts.texts == [["Hello"], ["Hello"], ["Hello"]]

    def test_the_error_can_be_kept(self) -> None:
        error = NotEverywhere([Delivery("a", ("url",)), Delivery("b", error=ServiceUnavailable("b", "a status", 503))])
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.results[0], again.retryable) == (str(error), error.results[0], True)


@pytest.mark.usefixtures("prefect_api")
class TestDirectly:
    """`publish` of a block."""

    @pytest.mark.parametrize("where", [in_flow, outside])
    def test_a_thread_is_published_on_mastodon(self, mastodon: MastodonServer, where: Callable[..., Any]) -> None:
        published = where(lambda: on_mastodon(mastodon).publish(["One", Post(text="Two")]))
        assert mastodon.texts() == ["One", "Two"]
        assert published.urls == tuple(status["url"] for status in mastodon.statuses)

    def test_the_async_twins_publish(self, mastodon: MastodonServer, place: Place) -> None:
        asyncio.run(on_mastodon(mastodon).apublish("Hello"))
        asyncio.run(place.service.apublish("Hello"))
        assert (mastodon.texts(), place.texts) == (["Hello"], ["Hello"])

    def test_a_post_takes_its_images_link_and_language_along(self, mastodon: MastodonServer) -> None:
        post = Post(text="Look", images=[Image(source=picture(9, 9), alt="red")], languages=["de"])
        on_mastodon(mastodon).publish(post)
        on_mastodon(mastodon).publish(Post(text="Read", link_card=LinkCard(url="https://example.com")))
        assert mastodon.texts() == ["Look", "Read\n\nhttps://example.com"]
        assert [each["description"] for each in mastodon.statuses[0]["media_attachments"]] == ["red"]
        assert mastodon.statuses[0]["language"] == "de"

    def test_a_text_longer_than_on_bluesky_goes_out_whole(self, mastodon: MastodonServer, place: Place) -> None:
        text = "word " * 95
        on_mastodon(mastodon).publish(text)
        place.service.publish(text)
        assert (mastodon.texts(), place.texts) == ([text.strip()], [text.strip()])

    def test_a_long_text_is_split_at_the_channel_s_own_limit(self, mastodon: MastodonServer) -> None:
        on_mastodon(mastodon).publish(Post(text="A sentence of words. " * 40, split_long_text=True))
        assert [len(text) > 300 for text in mastodon.texts()] == [True, True]

    @pytest.mark.parametrize(
        ("post", "said"),
        [
            ("x" * 501, "it has 501 characters, 1 over the limit of 500. Shorten it."),
            (Post(text="a", video="a.mp4"), "video: Mastodon has no place for it here. Leave it out, or publish the"),
            (Post(text="a", reply_to="at://did:web:x.com/app.bsky.feed.post/3l6oveex3ii2l"), "reply_to: Mastodon"),
            (Post(text="a", quotable=False, tags=["b"]), "quotable: Mastodon .* tags: Mastodon"),
            (Post(text="a", thread=[Post(text="b", images=["b.png"])]), r"thread\[0\]\.images: Mastodon"),
            (Post(text="a", link_card=LinkCard(url="https://a.com", title="A")), "link_card: Mastodon"),
            ("", "there is no text"),
        ],
    )
    def test_what_does_not_fit_is_refused_and_not_cut(self, mastodon: MastodonServer, post: Any, said: str) -> None:
        with pytest.raises(DoesNotFit, match=said):
            on_mastodon(mastodon).publish(post)
        assert mastodon.texts() == []

    def test_a_service_without_threads_refuses_one(self, place: Place) -> None:
        with pytest.raises(DoesNotFit, match="The channel has no threads"):
            place.service.publish(["One", "Two"])
        assert place.texts == []

    @pytest.mark.parametrize("post", [7, None, {"txt": "a"}])
    def test_what_is_no_post_is_refused_in_plain_words(self, mastodon: MastodonServer, post: Any) -> None:
        with pytest.raises(InvalidInput) as refused:
            on_mastodon(mastodon).publish(post)
        assert "Input should" not in str(refused.value)

    def test_a_post_that_has_expired_is_not_sent(self, mastodon: MastodonServer) -> None:
        with pytest.raises(Expired):
            on_mastodon(mastodon).publish(Post(text="a", expires=datetime(2026, 1, 1, tzinfo=UTC)))
        assert mastodon.texts() == []

    @pytest.mark.parametrize("key", [None, "release 2.0"])
    def test_a_run_that_is_retried_publishes_once(
        self, mastodon: MastodonServer, place: Place, key: str | None
    ) -> None:
        attempts: list[int] = []

        @flow(retries=1)
        def team() -> None:
            on_mastodon(mastodon).publish("Hello", key)
            place.service.publish("Hello", key)
            attempts.append(1)
            if len(attempts) == 1:
                mastodon.an_hour_later()
                raise RuntimeError("the worker stumbles after the posts are out")

        team()
        assert (len(attempts), mastodon.texts(), place.texts) == (2, ["Hello"], ["Hello"])

    def test_a_text_whose_fate_is_not_known_is_told(self, place: Place) -> None:
        place.status = 500
        with pytest.raises(Unconfirmed):
            place.service.publish("Hello")

    def test_outside_a_run_each_call_without_a_key_is_another_post(self, mastodon: MastodonServer) -> None:
        for key in (None, None, "k", "k"):
            on_mastodon(mastodon).publish("Hello", key)
        assert mastodon.texts() == ["Hello"] * 3
