"""Mastodon as a channel: what its own counter takes, each once, however an attempt ends."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prefect import flow, task
from pydantic import SecretStr

from prefect_bluesky import Image
from prefect_bluesky.channels import MastodonChannel, MastodonCredentials, Published, Variant
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.channels.mastodon import COUNTED, RULES
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.compose.templates import TemplateGenerator
from prefect_bluesky.errors import DoesNotFit, InvalidInput, RateLimited, RequestRefused, ServiceUnavailable
from tests import mastodon_server
from tests.mastodon_server import MastodonServer, countable_length
from tests.support import picture

LINK = "https://example.com/2026/11/a-long-story-about-a-release?from=feed#top"
STATUSES = "POST /api/v1/statuses"

words = st.sampled_from(
    [
        "a",
        "word",
        "x" * 510,
        LINK,
        "http://a.io",
        "https://no-such.tld-at-all/with/a/long/path/to/it",
        f"({LINK})",
        f"{LINK}。",
        f"{LINK},{LINK}",
        f"é{LINK}",
        f"@{LINK}",
        "https://example.comé",
        "@alice@social.example.com",
        "x@alice@social.example.com",
        "@alice",
        "👩\u200d👩\u200d👧",
        "\n\n",
    ]
)
texts = st.lists(words | st.text(st.characters(codec="utf-8"), max_size=20), max_size=40).map(" ".join)
drafts = st.builds(
    Draft,
    kind=st.sampled_from(["hook", "link", "thread"]),
    posts=st.lists(texts, min_size=1, max_size=3).map(tuple),
    link=st.none() | st.just(LINK),
)


@pytest.fixture
def server() -> Iterator[MastodonServer]:
    with mastodon_server.run() as instance:
        yield instance


def credentials(server: MastodonServer, token: str = "good-token") -> MastodonCredentials:
    return MastodonCredentials(instance_url=server.url, access_token=SecretStr(token))


@pytest.fixture
def channel(server: MastodonServer) -> MastodonChannel:
    return MastodonChannel(credentials(server))


def thread(*posts: str) -> Variant:
    return Variant(kind="thread", posts=posts)


class TestCount:
    """The length of a status."""

    @given(texts)
    def test_no_text_counts_less_than_on_mastodon(self, text: str) -> None:
        assert RULES.length(text) >= countable_length(text)

    @pytest.mark.parametrize(
        ("text", "length"),
        [
            ("Hello 👩\u200d👩\u200d👧", 7),
            (f"Read {LINK}", 28),
            (f"Read ({LINK}) now", 34),
            ("http://a.io", 23),
            ("Thank you, @alice@social.example.com!", 18),
            ("#tag", 4),
        ],
    )
    def test_the_limits_are_the_instance_s(self, text: str, length: int) -> None:
        assert (RULES.length(text), countable_length(text)) == (length, length)

    def test_a_link_is_never_cut(self) -> None:
        assert COUNTED.find(f"See {LINK} here")[0].value == LINK


class TestRules:
    """The limits of an instance."""

    def test_they_are_the_instance_s_own(self, server: MastodonServer, channel: MastodonChannel) -> None:
        server.max_characters = 5000
        assert channel.rules.max_length == 5000
        assert (channel.rules.max_images, channel.rules.max_alt_length) == (4, 1500)

    def test_an_instance_without_limits_has_mastodon_s_own(
        self, server: MastodonServer, channel: MastodonChannel
    ) -> None:
        server.tells_limits = False
        assert channel.rules == RULES

    def test_a_long_alt_text_is_refused_with_its_limit(self, channel: MastodonChannel) -> None:
        draft = Draft(kind="hook", posts=("Hi",), images=(Image(source="cat.jpg", alt="x" * 1501),))
        with pytest.raises(DoesNotFit, match=r"images\[0\].alt: it has 1,501 characters, and the limit is 1,500"):
            channel.fit(draft)


class TestPublish:
    """The published statuses."""

    # One server and account for all examples.
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(draft=drafts)
    def test_every_variant_that_leaves_the_fitter_is_taken(
        self, server: MastodonServer, channel: MastodonChannel, draft: Draft
    ) -> None:
        try:
            variant = channel.fit(draft)
        except DoesNotFit:
            return
        before = len(server.statuses)
        channel.publish(variant, uuid4().hex)
        assert server.texts()[before:] == [text.strip() for text in variant.posts]

    def test_a_thread_is_a_chain_of_replies(self, server: MastodonServer, channel: MastodonChannel) -> None:
        published = channel.publish(thread("One.", "Two.", "Three."), "key")
        first, second, third = server.statuses
        assert [each["in_reply_to_id"] for each in (first, second, third)] == [None, first["id"], second["id"]]
        assert published.urls == (first["url"], second["url"], third["url"])

    def test_images_have_their_alt_text(self, server: MastodonServer, channel: MastodonChannel) -> None:
        image = Image(source=picture(40, 30), alt="A red field")
        channel.publish(Variant(kind="hook", posts=("Look",), images=(image,)), "key")
        (media,) = server.statuses[0]["media_attachments"]
        assert media["description"] == "A red field"

    def test_its_language_is_told_without_a_region(self, server: MastodonServer, channel: MastodonChannel) -> None:
        channel.publish(Variant(kind="hook", posts=("Olá",), languages=("pt-BR", "en")), "key")
        assert server.statuses[0]["language"] == "pt"

    def test_an_article_becomes_posts_that_are_there_once(
        self, server: MastodonServer, channel: MastodonChannel
    ) -> None:
        idea = Idea(title="Release 2.0", text="It is twice as fast.\n\nIt took a year.", link=LINK)
        variants = [channel.fit(draft) for draft in TemplateGenerator().generate(idea, channel.rules, 9)]
        for number, variant in enumerate(variants):
            assert channel.publish(variant, f"{number}") == channel.publish(variant, f"{number}")
        assert server.texts() == [text for variant in variants for text in variant.posts]


class TestTrouble:
    """Refusals of an instance, and the errors that they become."""

    @pytest.mark.parametrize(
        ("status", "error", "retryable"),
        [
            (401, InvalidInput, False),
            (403, InvalidInput, False),
            (404, RequestRefused, False),
            (422, RequestRefused, False),
            (429, RateLimited, True),
            (500, ServiceUnavailable, True),
            (503, ServiceUnavailable, True),
            (520, ServiceUnavailable, True),
        ],
    )
    def test_an_answer_is_an_error_that_knows_if_it_may_be_tried_again(
        self, server: MastodonServer, channel: MastodonChannel, status: int, error: type[Exception], retryable: bool
    ) -> None:
        server.before = lambda request: status if request == STATUSES else None
        with pytest.raises(error) as refused:
            channel.publish(thread("Hi"), "key")
        assert getattr(refused.value, "retryable") is retryable  # noqa: B009 (of each of our errors)

    @pytest.mark.parametrize("status", [200, 401, 403, 404, 422, 502])
    def test_a_firewall_s_page_blames_no_token_and_no_post(
        self, server: MastodonServer, channel: MastodonChannel, status: int
    ) -> None:
        server.before, server.is_masked = lambda request: status if request == STATUSES else None, True
        with pytest.raises(ServiceUnavailable, match=f"Something before {server.url} answered") as passing:
            channel.publish(thread("Hi"), "key")
        assert passing.value.retryable
        assert server.texts() == []

    def test_a_replay_that_is_answered_with_an_error_finds_the_status(
        self, server: MastodonServer, channel: MastodonChannel
    ) -> None:
        server.replays = False
        published = channel.publish(thread("One.", "Two."), "key")
        again = MastodonChannel(credentials(server)).publish(thread("One.", "Two."), "key")
        assert again == published
        assert server.texts() == ["One.", "Two."]

    def test_an_answer_that_is_lost_outside_a_run_costs_no_second_status(
        self, server: MastodonServer, channel: MastodonChannel
    ) -> None:
        server.after = lambda request: request == STATUSES and server.requests.count(STATUSES) == 1
        assert len(channel.publish(thread("Hi"), "key").urls) == 1
        assert server.texts() == ["Hi"]

    def test_a_refused_token_is_said_with_the_remedy_and_never_shown(self, server: MastodonServer) -> None:
        channel = MastodonChannel(credentials(server, "secret-token"))
        with pytest.raises(InvalidInput, match=r"access_token: .* refuses it: The access token is invalid") as refused:
            channel.publish(thread("Hi"), "key")
        assert "secret-token" not in repr(refused.value) + repr(credentials(server, "secret-token"))

    def test_a_server_that_is_away_may_be_asked_again(self, server: MastodonServer) -> None:
        channel = MastodonChannel(MastodonCredentials(instance_url="http://127.0.0.1:1", access_token=SecretStr("a")))
        with pytest.raises(ServiceUnavailable, match="did not answer") as away:
            channel.publish(thread("Hi"), "key")
        assert away.value.retryable

    @pytest.mark.parametrize("token", ["", "two words", "****", "a\nb"])
    def test_a_token_that_is_none_is_refused_by_the_block(self, token: str) -> None:
        with pytest.raises(InvalidInput, match="access_token"):
            MastodonCredentials(instance_url="https://social.test", access_token=SecretStr(token))


@pytest.mark.usefixtures("prefect_api")
class TestAttempts:
    """A run that is tried again publishes what is missing, and nothing twice."""

    @staticmethod
    def publish(server: MastodonServer, variant: Variant) -> Published:
        """In a task that is tried again once."""

        @task(retries=1)
        def step() -> Published:
            return MastodonChannel(credentials(server)).publish(variant, "key")

        @flow
        def run() -> Published:
            return step()

        return run()

    @pytest.mark.parametrize("late", [False, True], ids=["at once", "an hour later"])
    @pytest.mark.parametrize("lost", [1, 2, 3])
    def test_a_lost_answer_costs_no_second_status(self, server: MastodonServer, lost: int, late: bool) -> None:
        def after(request: str) -> bool:
            if request != STATUSES or len(server.statuses) != lost or server.requests.count(STATUSES) != lost:
                return False
            if late:
                server.an_hour_later()
            return True

        server.after = after
        published = self.publish(server, thread("One.", f"Two {LINK}", "Three."))
        assert server.texts() == ["One.", f"Two {LINK}", "Three."]
        assert published.urls == tuple(status["url"] for status in server.statuses)

    def test_two_posts_with_the_same_text_are_two(self, server: MastodonServer) -> None:
        channel = MastodonChannel(credentials(server))
        server.before = lambda request: 503 if request == STATUSES and server.requests.count(STATUSES) == 2 else None

        @flow
        def run() -> None:
            channel.publish(thread("Release 2.0"), "hook")
            with pytest.raises(ServiceUnavailable):
                channel.publish(thread("Release 2.0", "It is fast."), "thread")
            channel.publish(thread("Release 2.0", "It is fast."), "thread")

        run()
        hook, first, second = server.statuses
        assert [each["text"] for each in (hook, first, second)] == ["Release 2.0", "Release 2.0", "It is fast."]
        assert second["in_reply_to_id"] == first["id"]

    def test_a_status_from_before_the_run_is_another_status(self, server: MastodonServer) -> None:
        MastodonChannel(credentials(server)).publish(thread("Good morning"), "yesterday")
        server.statuses[0]["created_at"] = "2026-11-01T08:00:00+00:00"
        server.before = lambda request: 503 if request == STATUSES and server.requests.count(STATUSES) == 2 else None
        self.publish(server, thread("Good morning"))
        assert server.texts() == ["Good morning", "Good morning"]
