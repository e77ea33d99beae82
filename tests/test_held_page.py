"""The page of a held run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow

from prefect_bluesky import AuthError, AuthProblem, hold
from prefect_bluesky.errors import BlueskyError, RateLimited, ServiceUnavailable
from prefect_bluesky.planning.held_page import held_page
from prefect_bluesky.posts import Post
from tests.held import Stopped
from tests.support import artifacts_of, run_deployed

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_a_held_run_has_a_page_that_says_why_and_what_to_do(
    stopped: Stopped, publish: Any, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_HELD_SPACING", "PT1M")
    (run,) = stopped.hold(publish, Post(text="Good morning"))
    (page,) = artifacts_of(run)
    until = datetime.now(UTC) + timedelta(days=7)
    block = f"{prefect_api.removesuffix('/api')}/blocks/block/{stopped.credentials._block_document_id}"
    for part in (
        f"**Why:** {stopped.account.handle}: The server does not accept this app password",
        "**What to do:** Create a new app password under Settings",
        f"[Open the account's block]({block})",
        "`refresh-sessions` signs in within 10 minutes",
        "sends the account's held posts, the oldest first, 1 min apart",
        f"**Until when:** {until:%Y-%m-%d %H}:",
        f"**To discard it:** `prefect-bluesky held drop {run}`",
    ):
        assert part in str(page.data)
    assert stopped.account.app_password not in str(page.data)


def test_a_held_run_of_another_teams_flow_says_that_it_starts_again(stopped: Stopped) -> None:
    @flow
    def announce() -> Any:
        return hold(AuthError(AuthProblem.APP_PASSWORD_REVOKED, "alice.test"), stopped.credentials)

    run, _ = run_deployed(announce, {})
    (page,) = artifacts_of(run.id)
    assert "`publish-held` starts this run again" in str(page.data)


@pytest.mark.parametrize(
    ("why", "parts"),
    [
        (
            ServiceUnavailable("https://pds.test", "com.atproto.repo.applyWrites", 503),
            ["Every 15 minutes `publish-held` sends", "run `publish-held`", "posts wait and are sent again"],
        ),
        (
            RateLimited("https://pds.test", "com.atproto.repo.applyWrites", 429),
            ["answered com.atproto.repo.applyWrites with 429", "Nothing, unless this goes on."],
        ),
        ("The block cannot be used: *gone*", ["\\*gone\\*", "Correct the account's block."]),
    ],
    ids=["no answer", "a limit", "a block"],
)
def test_the_page_says_what_happens_without_a_person(why: BlueskyError | str, parts: list[str]) -> None:
    page = held_page(uuid4(), why, None, starts_again=False)
    assert [part for part in parts if part not in page] == []
