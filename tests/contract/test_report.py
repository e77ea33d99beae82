"""The posts that a report counts, as the sandbox and a real PDS list them. Who counts is a stand-in for an AppView."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from prefect_bluesky.reports import read_counts
from tests.support import Pds, QuietHandler, block, http_server


class AppView(QuietHandler):
    """Says of each post that one person likes it."""

    def do_GET(self) -> None:  # noqa: N802 (the base class calls it so)
        posts = [{"uri": uri, "likeCount": 1} for uri in parse_qs(urlsplit(self.path).query)["uris"]]
        self.answer(200, json.dumps({"posts": posts}).encode())


@pytest.fixture(autouse=True)
def _appview(pds: Pds, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", pds.plc_url)
    with http_server(AppView) as port:
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_APPVIEW_URL", f"http://127.0.0.1:{port}")
        yield


def test_posts_with_and_without_a_planned_time_are_found_by_the_time_that_they_state(pds: Pds) -> None:
    credentials = block(pds, pds.create_account())
    client, now = credentials.get_client(), datetime.now(UTC)
    # Posts without a planned time have record keys of an earlier year.
    credentials.publish_many([(f"Post {number}", f"key {number}") for number in range(120)])
    client.send_post("By hand")
    old = {"$type": "app.bsky.feed.post", "text": "Old", "createdAt": "2024-06-01T00:00:00Z"}
    did = str(client.me.did) if client.me else ""
    where = {"repo": did, "collection": "app.bsky.feed.post", "rkey": "3ktsx2d2lbc2a"}
    client.com.atproto.repo.create_record({**where, "record": old})
    found = read_counts(credentials, now - timedelta(days=1), now + timedelta(minutes=5))
    assert len(found) == 121
    assert {post.likes for post in found} == {1}
    assert "Old" not in {post.text for post in found}
