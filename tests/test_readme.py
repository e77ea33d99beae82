"""The examples of the README and of docs/ work as they are written."""

import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect_aws import AwsCredentials, S3Bucket

from prefect_bluesky import AIGenerator, AuthError, MastodonCredentials, sandbox
from prefect_bluesky.sandbox import Account, Sandbox
from tests import pages
from tests.pages import ROOT
from tests.support import block, forget_stored_session, picture, run_deployed, texts, web_page

PAGE = "README.md"
PAGES = sorted(
    str(page.relative_to(ROOT)) for folder in (".", "docs", "deployments") for page in (ROOT / folder).glob("*.md")
)
Example = Callable[..., Any]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: str) -> Example:
    """An example of the README as a module, by its heading; it runs in a folder of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return partial(pages.run, PAGE, tmp_path)


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


class TestReadme:
    """The README's Python examples."""

    def test_each_is_run_here(self) -> None:
        tests = Path(__file__).read_text()
        assert [call for call in pages.calls(PAGE) if f"example({call}" not in tests] == []

    def test_a_release_is_announced_once(self, example: Example, pds: Sandbox, alice: Account) -> None:
        announce = example("prefect-bluesky").announce
        announce("2.0")
        announce("2.0")
        assert texts(pds, alice) == ["2.0 is out! example.com #release"]

    def test_the_block_is_saved(self, example: Example, alice: Account) -> None:
        Block.delete("bluesky-credentials/alice")
        example("In your own flows")
        saved: Any = Block.load("bluesky-credentials/alice")
        assert saved.handle == "alice.bsky.social"

    def test_a_notification_is_posted(self, example: Example, pds: Sandbox, alice: Account) -> None:
        with suppress(ValueError):
            Block.delete("bluesky-notification/news")
        example("Post what automations say")
        assert texts(pds, alice) == ["Release 2.0 is deployed\n\nIt is twice as fast."]

    def test_a_post_with_everything_is_published(
        self,
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
            example("What a post can be", instead={"https://example.com": url})
        posts = [post["value"] for post in pds.posts(alice)]
        assert len(posts) == 3
        assert {post.get("embed", {}).get("$type") for post in posts} == {
            "app.bsky.embed.images",
            None,
            "app.bsky.embed.external",
        }

    def test_the_blocks_of_other_channels_are_saved(self, example: Example) -> None:
        for there in ("mastodon-credentials/alice", "ai-generator/drafts"):
            with suppress(ValueError):  # it was not
                Block.delete(there)
        example("From one idea to every channel")
        mastodon: Any = MastodonCredentials.load("alice")
        drafts: Any = AIGenerator.load("drafts")
        assert (mastodon.instance_url, drafts.model) == ("https://mastodon.social", "openai:gpt-5-mini")

    def test_a_flow_that_cannot_publish_is_held(self, example: Example, pds: Sandbox, alice: Account) -> None:
        pds.revoke_app_password(alice)
        remind = example("Alerts and held posts").remind
        given = {"account": "alice", "text": "Hello"}
        _, state = run_deployed(remind, given, **given)
        assert (state.name, state.is_failed()) == ("Held", True)
        with pytest.raises(AuthError):
            state.result()

    def test_the_sandbox_takes_a_post(self, example: Example) -> None:
        example("In your own tests")


class TestPages:
    """All pages."""

    @pytest.mark.parametrize("page", PAGES)
    def test_the_linked_files_exist(self, page: str) -> None:
        missing = []
        for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
            if "://" in link:
                continue
            target, _, anchor = link.partition("#")
            path = (ROOT / page).parent / target if target else ROOT / page
            if not path.exists() or (anchor and anchor not in _anchors(path)):
                missing.append(link)
        assert missing == []

    @pytest.mark.parametrize("page", PAGES)
    def test_the_scripts_that_it_names_take_the_options_that_it_gives(self, page: str) -> None:
        wrong = []
        for command in _commands((ROOT / page).read_text()):
            name, *arguments = command
            options = [each.partition("=")[0] for each in arguments if each.startswith("--")]
            if not (ROOT / name).exists() or not set(options) <= _options(name):
                wrong.append(command)
        assert wrong == []

    def test_the_problems_are_those_of_the_code(self) -> None:
        made = runpy.run_path(str(ROOT / "docs" / "problems.py"))
        assert made["PAGE"].read_text() == made["page"](), "Run it: uv run docs/problems.py"


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub names them."""
    headings = re.findall(r"(?m)^#+ (.*)", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _commands(text: str) -> Iterator[list[str]]:
    """The commands that run a script of ours, without what stands before its name."""
    for line in re.findall(r"(?m)^(?:.*&& )?uv run (?:--group \w+ )?(\S+\.py.*)$", text):
        yield shlex.split(line, comments=True)
    for inline in re.findall(r"`uv run (\S+\.py[^`]*)`", text):
        yield shlex.split(inline)


def _options(script: str) -> set[str]:
    """The options that a script knows: each is named where its parser is made."""
    return set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', (ROOT / script).read_text()))
