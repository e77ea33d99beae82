"""Several posts in few commits: each goes out once, and what one of them has, no other has to bear."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from prefect_bluesky import BlueskyCredentials, BlueskyError, Post, PublishedPost, sandbox
from tests import proxy
from tests.proxy import Answer, Phase, Step
from tests.support import WRITE, Pds, block, counted, texts

LOOK = "com.atproto.repo.getRecord"


def numbered(count: int, size: int = 0) -> list[tuple[str, str]]:
    """Posts with their keys."""
    return [(f"{number:04}".ljust(size, "x"), f"key {number}") for number in range(count)]


def names(outcomes: list[PublishedPost | BlueskyError]) -> list[str]:
    return [type(each).__name__ for each in outcomes]


class TestOnBoth:
    """Commits on the sandbox and on a real PDS alike."""

    @pytest.fixture
    def pds(self, each_pds: Pds) -> Pds:
        return each_pds

    @pytest.mark.parametrize(("count", "commits"), [(0, 0), (1, 1), (200, 1), (201, 2)])
    def test_two_hundred_writes_share_a_commit(self, pds: Pds, count: int, commits: int) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        credentials.ensure_session()
        with counted(pds) as requests:
            done = credentials.publish_many(numbered(count))
        assert requests.get(WRITE, 0) == commits
        assert [post["value"]["text"] for post in sorted(pds.posts(account), key=written_at)] == [
            text for text, _ in numbered(count)
        ]
        assert len({each.uri for each in done if isinstance(each, PublishedPost)}) == count

    def test_a_commit_takes_a_megabyte(self, pds: Pds) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        credentials.ensure_session()
        hashtags = "#a " * 100  # each takes 130 bytes beside the text
        posts = [(hashtags, f"key {number}") for number in range(120)]
        with counted(pds) as requests:
            done = credentials.publish_many(posts)
        assert set(names(done)) == {"PublishedPost"}
        assert requests == {WRITE: 3}

    def test_published_again_they_are_found(self, pds: Pds) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        first = credentials.publish_many(numbered(3))
        assert credentials.publish_many(numbered(5))[:3] == first
        assert len(pds.posts(account)) == 5

    def test_a_thread_with_gates_goes_with_others(self, pds: Pds) -> None:
        account = pds.create_account()
        thread = Post(text="one", thread=("two",), replies_from=("nobody",), quotable=False)
        done = block(pds, account).publish_many([("before", "1"), (thread, "2"), ("after", "3")])
        assert set(names(done)) == {"PublishedPost"}
        assert texts(pds, account) == ["after", "before", "one", "two"]

    def test_a_refused_post_stops_no_other(self, pds: Pds, monkeypatch: pytest.MonkeyPatch) -> None:
        account = pds.create_account()
        monkeypatch.setattr("prefect_bluesky.posts.post.MAX_GRAPHEMES", 400)  # what we take and it does not
        posts = [("good", "1"), ("x" * 301, "2"), ("also good", "3")]
        done = block(pds, account).publish_many(posts)
        assert names(done) == ["PublishedPost", "RequestRefused", "PublishedPost"]
        assert texts(pds, account) == ["also good", "good"]


class TestTrouble:
    """Trouble of a commit on its way."""

    def test_an_answer_that_is_lost_is_made_good_by_a_look(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        pds.drop(WRITE)
        assert set(names(block(pds, account).publish_many(numbered(5)))) == {"PublishedPost"}
        assert len(pds.posts(account)) == 5

    @pytest.mark.parametrize("lost", [1, 2])
    def test_commits_that_never_arrive_are_sent_again(self, pds: sandbox.Sandbox, lost: int) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        credentials.ensure_session()
        pds.fail(WRITE, status=503, times=lost)
        done = credentials.publish_many(numbered(3))
        assert set(names(done)) == {"PublishedPost" if lost == 1 else "ServiceUnavailable"}
        assert len(pds.posts(account)) == (3 if lost == 1 else 0)

    def test_a_taken_key_stops_no_other_post(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        credentials.publish("something else", key="key 1")
        assert names(credentials.publish_many(numbered(3))) == ["PublishedPost", "KeyConflict", "PublishedPost"]

    def test_the_rest_of_a_deleted_thread_stops_no_other_post(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        published = credentials.publish(["one", "two"], key="thread")
        credentials.get_client().app.bsky.feed.post.delete(account.did, published.uri.rsplit("/", 1)[1])
        posts: list[tuple[Any, str]] = [("before", "1"), (["one", "two"], "thread"), ("after", "2")]
        assert names(credentials.publish_many(posts)) == ["PublishedPost", "KeyConflict", "PublishedPost"]

    def test_a_file_that_is_gone_stops_no_other(self, pds: sandbox.Sandbox) -> None:
        gone = Post.model_validate({"text": "picture", "images": [{"source": "/nowhere.png", "alt": "gone"}]})
        done = block(pds, pds.create_account()).publish_many([("before", "1"), (gone, "2"), ("after", "3")])
        assert names(done) == ["PublishedPost", "SourceUnavailable", "PublishedPost"]

    def test_a_refused_account_stops_all_remaining_posts(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        credentials.ensure_session()
        pds.deactivate(account)
        with counted(pds) as requests:
            done = credentials.publish_many(numbered(250))
        assert set(names(done)) == {"AuthError"}
        assert requests[WRITE] == 1

    def test_a_server_that_asks_to_wait_is_asked_no_more(self, pds: sandbox.Sandbox) -> None:
        credentials = block(pds, pds.create_account())
        credentials.ensure_session()
        pds.fail(WRITE, status=429, error="RateLimitExceeded", headers={"retry-after": "60"})
        with counted(pds) as requests:
            done = credentials.publish_many(numbered(250))
        assert set(names(done)) == {"RateLimited"}
        assert requests == {WRITE: 1}

    def test_a_server_that_fails_is_asked_no_more(self) -> None:
        with sandbox.run() as failing:
            credentials = block(failing, failing.create_account())
            credentials.ensure_session()
            failing.fail(WRITE, status=503, times=9)
            with counted(failing) as requests:
                done = credentials.publish_many(numbered(450))
        assert set(names(done)) == {"ServiceUnavailable"}
        assert requests[WRITE] == 2

    def test_a_post_that_the_server_fails_on_stops_no_other(self, pds: sandbox.Sandbox) -> None:
        poison = "always fails"

        def fail(step: Step, phase: Phase) -> Answer | None:
            if phase is Phase.BEFORE and step.method == WRITE and poison.encode() in step.body:
                return Answer(500, b'{"error": "InternalServerError", "message": "Internal Server Error"}')
            return None

        account = pds.create_account()
        with proxy.run(pds.url, fail) as url:
            credentials = BlueskyCredentials(
                handle=account.handle, app_password=SecretStr(account.app_password), service_url=url
            )
            done = credentials.publish_many([("before", "1"), (poison, "2"), ("after", "3"), ("last", "4")])
        assert names(done) == ["PublishedPost", "ServiceUnavailable", "PublishedPost", "PublishedPost"]


class TestKeys:
    """Differences between posts."""

    def test_the_same_twice_is_published_once(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        first, second = block(pds, account).publish_many([("once", "k"), ("once", "k")])
        assert first == second
        assert texts(pds, account) == ["once"]

    def test_two_posts_under_one_key_are_a_conflict(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        assert names(block(pds, account).publish_many([("one", "k"), ("two", "k")])) == ["PublishedPost", "KeyConflict"]
        assert texts(pds, account) == ["one"]

    def test_without_keys_each_call_publishes(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        for _ in range(2):
            block(pds, account).publish_many([("a", None), ("b", None)])
        assert texts(pds, account) == ["a", "a", "b", "b"]


def written_at(post: dict[str, Any]) -> str:
    """The time that a post says, by which a feed orders it."""
    time: str = post["value"]["createdAt"]
    return time
