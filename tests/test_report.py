"""How posts did: `flows/report.py`, on the sandbox, which counts as an AppView does, as no real one can be run here."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.flows import Flow, load_flow_from_entrypoint

from prefect_bluesky import BlueskyCredentials, Image, Post, ThreadPost, sandbox
from prefect_bluesky.reports import Group, PostCounts, by_hour, by_kind, read_counts
from tests.support import SavedAccount, block, counted, picture, run_to_state

COUNTS = "app.bsky.feed.getPosts"
FLOWS = Path(__file__).parents[1] / "flows"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def _appview(pds: sandbox.Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_APPVIEW_URL", pds.url)
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", pds.url)


@pytest.fixture
def credentials(pds: sandbox.Sandbox) -> BlueskyCredentials:
    return block(pds, pds.create_account())


def read(credentials: BlueskyCredentials, days: int = 7) -> list[PostCounts]:
    now = datetime.now(UTC)
    return read_counts(credentials, now - timedelta(days=days), now + timedelta(minutes=1))


def test_each_post_is_counted_with_its_kind(pds: sandbox.Sandbox, credentials: BlueskyCredentials) -> None:
    image = Post(text="A picture", images=(Image(source=picture(8, 8), alt="Red"),))
    posts = {
        "text": credentials.publish("Hello"),
        "link": credentials.publish("See https://example.com"),
        "images": credentials.publish(image),
        "thread": credentials.publish(Post(text="One", thread=(ThreadPost(text="Two"),))),
    }
    pds.react(posts["images"].uri, likes=5, reposts=2, replies=1, quotes=3)
    found = {post.kind: post for post in read(credentials)}
    assert {kind: post.uri for kind, post in found.items()} == {kind: post.uri for kind, post in posts.items()}
    best = found["images"]
    assert (best.likes, best.reposts, best.replies, best.quotes, best.total) == (5, 2, 1, 3, 11)
    assert best.url == posts["images"].url
    assert found["text"].total == 0


def test_posts_of_other_times_and_replies_are_left_out(credentials: BlueskyCredentials) -> None:
    other = credentials.publish("Another's")
    credentials.publish(Post(text="A reply", reply_to=other.uri))
    client = credentials.get_client()
    old = {"$type": "app.bsky.feed.post", "text": "Old", "createdAt": "2026-01-01T00:00:00Z"}
    record: Any = {"repo": other.uri.split("/")[2], "collection": "app.bsky.feed.post", "record": old}
    client.com.atproto.repo.create_record(record)
    assert [post.text for post in read(credentials)] == ["Another's"]


def test_no_account_signs_in_and_25_posts_are_asked_for_at_a_time(
    pds: sandbox.Sandbox, credentials: BlueskyCredentials
) -> None:
    credentials.publish_many([(f"Post {number}", f"key {number}") for number in range(60)])
    with counted(pds) as requests:
        assert len(read(credentials)) == 60
    assert requests[COUNTS] == 3
    assert not any("server." in name for name in requests)


def test_an_appview_that_is_away_is_named(pds: sandbox.Sandbox, credentials: BlueskyCredentials) -> None:
    credentials.publish("Hello")
    pds.fail(COUNTS, status=503)
    with pytest.raises(Exception, match=r"app.bsky.feed.getPosts.*503") as trouble:
        read(credentials)
    assert getattr(trouble.value, "retryable", False)


def counted_post(hour: int, total: int, kind: str = "text") -> PostCounts:
    """A post of an hour of a day in winter, in UTC."""
    return PostCounts("alice.test", "at://x/y/z", datetime(2026, 12, 1, hour, tzinfo=UTC), "", kind, total, 0, 0, 0)


def test_hours_and_kinds_are_compared_by_median_with_their_numbers() -> None:
    posts = [counted_post(8, 1), counted_post(8, 100), counted_post(8, 3), counted_post(20, 4, "images")]
    assert by_hour(posts, BERLIN) == [Group("21:00", 1, 4.0), Group("09:00", 3, 3.0)]
    assert by_kind(posts) == [Group("images", 1, 4.0), Group("text", 3, 3.0)]


@pytest.mark.usefixtures("prefect_api")
class TestFlow:
    """The flow and its script."""

    @pytest.fixture
    def report(self) -> Flow[Any, Any]:
        """The flow as a deployment loads it."""
        return load_flow_from_entrypoint(f"{FLOWS / 'report.py'}:report")

    @pytest.fixture
    def alice(self, pds: sandbox.Sandbox) -> SavedAccount:
        account = SavedAccount(pds)
        post = block(pds, account.account).publish("Good *morning*")
        pds.react(post.uri, likes=7)
        return account

    def test_the_artifact_has_a_table_and_a_picture(self, report: Flow[Any, Any], alice: SavedAccount) -> None:
        state = run_to_state(report, accounts=[alice.name, "nobody"], timezone="Europe/Berlin")
        assert str(state.message).startswith("1 posts are counted. Not counted: nobody: ")
        with get_client(sync_client=True) as client:
            (page,) = client.read_artifacts(
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["bluesky-report"])),
                sort=ArtifactSort.CREATED_DESC,
                limit=1,
            )
        assert "**1 posts in 28 days: 7 likes, 0 reposts, 0 replies, 0 quotes.**" in str(page.data)
        assert "![What readers did with a post, by the hour in Europe/Berlin](data:image/png;base64," in str(page.data)
        assert r"[Good \*morning\*](<https://bsky.app/profile/" in str(page.data)

    def test_an_appview_that_is_away_costs_the_report_alone(self, report: Flow[Any, Any], alice: SavedAccount) -> None:
        alice.pds.fail(COUNTS, status=503)
        state = run_to_state(report, accounts=[alice.name])
        assert (state.name, "503" in str(state.message)) == ("Failed", True)

    def test_the_script_prints_a_table_and_writes_a_csv(
        self, alice: SavedAccount, tmp_path: Path, script: Callable[..., tuple[object, str]]
    ) -> None:
        file = tmp_path / "posts.csv"
        ended, printed = script("report.py", alice.name, "--csv", str(file))
        assert ended == 0
        (row,) = [line for line in printed.splitlines() if "morning" in line]
        assert row.split()[-7:] == ["Good", "*morning*", "text", "7", "0", "0", "0"]
        assert "Best kinds: text (7 a post, of 1)" in printed
        with file.open(encoding="utf-8-sig") as opened:
            (written,) = csv.DictReader(opened)
        assert (written["text"], written["likes"]) == ("Good *morning*", "7")
