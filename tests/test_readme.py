"""The Python examples of the README and of the pages work as they are written. The recipes are in test_recipes.py."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect_aws import AwsCredentials, S3Bucket

from prefect_bluesky import AIGenerator, AppriseService, AuthError, BlueskyOAuthClient, MastodonCredentials, sandbox
from prefect_bluesky.channels import Draft, channel_of
from prefect_bluesky.sandbox import Account, Sandbox
from tests import pages
from tests.support import (
    QuietHandler,
    block,
    forget_stored_session,
    http_server,
    picture,
    run_deployed,
    texts,
    web_page,
)

RECIPES = "docs/recipes.md"
Example = Callable[..., Any]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: str) -> Example:
    """An example as a module, by its page and its heading; it runs in a folder of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return partial(pages.run, tmp_path)


@pytest.fixture
def pds() -> Iterator[Sandbox]:
    with sandbox.run() as pds:
        yield pds


@pytest.fixture
def alice(prefect_api: str, pds: Sandbox) -> Account:
    """An account whose block is saved."""
    alice = pds.create_account("alice.test")
    credentials = block(pds, alice)
    credentials.save("alice", overwrite=True)
    forget_stored_session(credentials)
    return alice


@pytest.mark.parametrize("page", [page for page in pages.PAGES if page != RECIPES])
def test_each_is_run_here(page: str) -> None:
    tests = re.sub(r"\s+", " ", Path(__file__).read_text()).replace("( ", "(")
    assert [call for call in pages.calls(page) if f'example("{page}", {call}' not in tests] == []


def test_a_release_is_announced_once(example: Example, pds: Sandbox, alice: Account) -> None:
    announce = example("README.md", "Publish").announce
    announce("2.0")
    announce("2.0")
    assert texts(pds, alice) == ["2.0 is out! example.com #release"]


def test_the_gate_of_a_release_is_publish_post(example: Example, pds: Sandbox, alice: Account) -> None:
    announce = example("docs/publish.md", "Publish").announce
    announce("2.0")
    assert texts(pds, alice) == ["2.0 is out! #release"]


def test_a_notification_is_posted(example: Example, pds: Sandbox, alice: Account) -> None:
    with suppress(ValueError):
        Block.delete("bluesky-notification/news")
    example("docs/alerts.md", "Post what automations say")
    assert texts(pds, alice) == ["Release 2.0 is deployed\n\nIt is twice as fast."]


class TestGate:
    """A gate before long work."""

    @pytest.fixture
    def publish_chart(self, example: Example, tmp_path: Path) -> Any:
        (tmp_path / "chart.png").write_bytes(picture(40, 30))
        return example("docs/publish.md", "How to gate").publish_chart

    def test_the_chart_is_published(self, publish_chart: Any, pds: Sandbox, alice: Account) -> None:
        publish_chart("1 December")
        assert texts(pds, alice) == ["Downloads of 1 December"]

    def test_no_chart_is_drawn_for_an_account_that_cannot_sign_in(
        self, publish_chart: Any, pds: Sandbox, alice: Account
    ) -> None:
        pds.revoke_app_password(alice)
        state = publish_chart("1 December", return_state=True)
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
            )
        assert state.is_failed()
        assert [run.name.partition(" ")[0] for run in runs] == ["session"]


class TestBlock:
    """The block, saved in Python."""

    @pytest.fixture(autouse=True)
    def no_block(self, alice: Account) -> None:
        Block.delete("bluesky-credentials/alice")

    def test_the_readme_saves_it(self, example: Example) -> None:
        example("README.md", "Save an account")
        assert _handle() == "alice.bsky.social"

    def test_the_page_on_accounts_saves_it(self, example: Example) -> None:
        example("docs/accounts.md", "Save a block")
        assert _handle() == "alice.bsky.social"

    def test_the_page_on_oauth_saves_it_with_a_client(self, example: Example) -> None:
        BlueskyOAuthClient().save("bot")
        example("docs/oauth.md", "Set it up")
        saved: Any = Block.load("bluesky-credentials/alice")
        assert saved.app_password is None
        assert saved.oauth_client == BlueskyOAuthClient.load("bot")


def _handle() -> str:
    saved: Any = Block.load("bluesky-credentials/alice")
    return str(saved.handle)


def test_a_post_with_everything_is_published(
    example: Example,
    pds: Sandbox,
    alice: Account,
    aws_url: str,
    aws_credentials: AwsCredentials,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "chart.png").write_bytes(picture(40, 30))
    s3 = aws_credentials.get_s3_client()
    s3.create_bucket(Bucket="press", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.upload_fileobj(BytesIO(picture(40, 30)), "press", "logo.png")
    S3Bucket(bucket_name="press", credentials=aws_credentials).save("press", overwrite=True)
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_ALLOW_PRIVATE_ADDRESSES", "true")
    with web_page(b"<title>The story</title>") as url:
        example("docs/posts.md", "A post with everything", instead={"https://example.com": url})
    posts = [post["value"] for post in pds.posts(alice)]
    assert len(posts) == 3
    assert {post.get("embed", {}).get("$type") for post in posts} == {
        "app.bsky.embed.images",
        None,
        "app.bsky.embed.external",
    }


def test_the_blocks_of_other_channels_are_saved(example: Example) -> None:
    for there in ("mastodon-credentials/alice", "apprise-service/news", "ai-generator/drafts"):
        with suppress(ValueError):  # it was not
            Block.delete(there)
    example("docs/channels.md", "Save the accounts")
    example("docs/channels.md", "Drafts by a model")
    mastodon: Any = MastodonCredentials.load("alice")
    news: Any = AppriseService.load("news")
    drafts: Any = AIGenerator.load("drafts")
    assert (mastodon.instance_url, drafts.model) == ("https://mastodon.social", "openai:gpt-5-mini")
    assert news.url.get_secret_value().startswith("tgram://")


def test_a_flow_that_cannot_publish_is_held(example: Example, pds: Sandbox, alice: Account) -> None:
    pds.revoke_app_password(alice)
    remind = example("docs/alerts.md", "Hold a post in your own flow").remind
    given = {"account": "alice", "text": "Hello"}
    _, state = run_deployed(remind, given, **given)
    assert (state.name, state.is_failed()) == ("Held", True)
    with pytest.raises(AuthError):
        state.result()


def test_the_sandbox_takes_a_post(example: Example) -> None:
    example("docs/testing.md", "In your own tests")


def test_the_sandbox_takes_a_post_by_a_grant(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    example("docs/testing.md", "With a grant").test_a_release_is_announced_as_long_as_the_grant_lasts(monkeypatch)


def test_the_channel_that_a_page_adds_publishes(example: Example) -> None:
    keys: list[str | None] = []

    class Board(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802
            keys.append(self.headers["Idempotency-Key"])
            self.body()
            self.answer(201, Location="https://board.example/1")

    with http_server(Board) as port:
        page = example("docs/adding-a-channel.md", "Adding a channel")
        channel = channel_of(page.NoticeBoard(url=f"http://127.0.0.1:{port}", token="secret"))
        published = channel.publish(channel.fit(Draft(kind="hook", posts=("Hi",))), "key")
    assert (published.urls, keys) == (("https://board.example/1",), ["key"])
