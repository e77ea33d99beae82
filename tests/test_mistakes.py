"""The mistakes of the first hour: each is answered in a sentence or two, with what to do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import TypeAdapter, ValidationError

from prefect_bluesky import BlueskyCredentials, PlannedPost, Post, sandbox
from prefect_bluesky.posts import OF_A_FORM
from prefect_bluesky.validation import explain_validation_error
from tests.support import Command, SavedAccount

_MOST = 3 * 160
"""Characters of three lines of a terminal."""

FILES: dict[str, str | bytes] = {
    "hello.txt": "Hello",
    "empty.yaml": "",
    "words.yaml": "Good morning",
    "open.yaml": "posts: [\n",
    "tabs.yaml": "posts:\n\t- account: alice\n",
    "bytes.yaml": b"\xff\xfe\x00binary",
    "column.csv": "acount,at,text\nalice,2027-01-01 08:00,Hello\n",
    "unknown.csv": "colour\nred\n",
    "beside.yaml": "timezones: UTC\nposts: []\n",
    "broken.json": '{"posts": [}',
    "braces.yaml": "posts:\n  - {account: alice, text: Hello #world}\n",
    "later.yaml": "posts: [{account: alice, at: 2100-01-01 08:00, text: Hello}]",
    "queued.yaml": "slots: daily 09:00\nposts: [{account: alice, text: Hello}]",
    "comma.yaml": "posts:\n  - {account: alice, text: Good, morning!}\n",
    "late.csv": "account,at,text,text\nalice,2027-01-01 08:00,Hello,again\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files as people have them, and an account that a person has set."""
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("BLUESKY_HANDLE", "alice.test")
    monkeypatch.setenv("BLUESKY_APP_PASSWORD", "aaaa-bbbb-cccc-dddd")
    monkeypatch.delenv("BLUESKY_SERVICE_URL", raising=False)
    return tmp_path


NO_SERVER = "Start a server with `prefect server start`, and set it to http://127.0.0.1:4200/api."


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        # a post
        (["publish", ""], "text: the post is empty. Write something."),
        (["publish", " \t "], "text: the post is empty. Write something."),
        (
            ["publish", "x" * 310],
            "text: it has 310 characters, 10 over the limit of 300."
            " Shorten it, or pass --split to make a thread of it.",
        ),
        (["publish", "Hi", "--image", "nope.png"], "--image: there is no file nope.png. Correct the path."),
        (["publish", "Hi", "--image", "folder"], "--image: there is no file folder. Correct the path."),
        (
            ["publish", "Hi", "--link-card", "example"],
            "link_card: url: it is not a web address. Begin it with https:// or http://, without a password.",
        ),
        (
            ["publish", "Hi", "--hold"],
            "--hold: PREFECT_API_URL is not set, so nothing can send the post later. Set it.",
        ),
        # a calendar
        (
            ["publish-batch", "nope.yaml", "--dry-run"],
            "calendar, nope.yaml: there is no such file on the machine that publishes. Correct the path.",
        ),
        (
            ["publish-batch", "hello.txt", "--dry-run"],
            "calendar: hello.txt ends with none of .yaml, .yml, .json, .csv, .md, .markdown."
            " Give the file the suffix of its format.",
        ),
        (
            ["publish-batch", "folder", "--dry-run"],
            "calendar: folder ends with none of .yaml, .yml, .json, .csv, .md, .markdown."
            " Give the file the suffix of its format.",
        ),
        (
            ["publish-batch", "empty.yaml", "--dry-run"],
            "calendar: there are no posts in the file. Write a list of posts.",
        ),
        (
            ["publish-batch", "words.yaml", "--dry-run"],
            "calendar: the file is not a list of posts. Start each post with a dash.",
        ),
        (
            ["publish-batch", "open.yaml", "--dry-run"],
            "calendar: line 2: expected the node content, but found '<stream end>'. Correct the YAML there.",
        ),
        (
            ["publish-batch", "braces.yaml", "--dry-run"],
            "calendar: line 2: YAML drops “#world}” as a comment. Put the text in quotes.",
        ),
        (
            ["publish-batch", "comma.yaml", "--dry-run"],
            "calendar: line 2: the comma before “morning!” ends the text. Put the text in quotes.",
        ),
        (["publish-batch", "bytes.yaml", "--dry-run"], "calendar: line 1 is not UTF-8. Save the file as UTF-8."),
        (["publish-batch", "column.csv", "--dry-run"], "calendar: there is no column 'acount'. Did you mean account?"),
        (
            ["publish-batch", "late.csv", "--dry-run"],
            "calendar: the column 'text' appears twice. Number images: image, image 2.",
        ),
        (
            ["publish-batch", "open.yaml", "--timezone", "Europa/Berlin"],
            "timezone: there is no time zone 'Europa/Berlin'. Did you mean Europe/Berlin?",
        ),
        # an idea
        (["compose", "--dry-run"], "idea: nothing is given. Write an idea, or name a file with one."),
        (
            ["compose", "Hi", "--file", "hello.txt", "--dry-run"],
            "idea: an idea and a file are given. Leave one of them out.",
        ),
        (
            ["compose", "--file", "nope.md", "--dry-run"],
            "file, nope.md: there is no such file on the machine that publishes. Correct the path.",
        ),
        (["compose", "Hi"], "channels: no channel is given. Name saved blocks, such as bluesky-credentials/alice."),
        (
            ["compose", "Hi", "--channel", "bluesky-credentials/alice"],
            "PREFECT_API_URL: the URL is not set, so nobody can review. Set PREFECT_API_URL, or pass --no-review or"
            " --dry-run.",
        ),
        # a server
        (["setup"], f"PREFECT_API_URL: it is not set, so there is no server to set up. {NO_SERVER}"),
        (["setup", "--check"], f"PREFECT_API_URL: it is not set, so there is no server to set up. {NO_SERVER}"),
        (
            ["planned", "list"],
            f"PREFECT_API_URL: it is not set, so there is no server that has planned posts. {NO_SERVER}",
        ),
        (
            ["planned", "drop", "x"],
            f"PREFECT_API_URL: it is not set, so there is no server that has planned posts. {NO_SERVER}",
        ),
        *(
            (
                ["publish-batch", calendar],
                "PREFECT_API_URL: it is not set, so there is no server that publishes the posts for later."
                f" {NO_SERVER}",
            )
            for calendar in ("later.yaml", "queued.yaml")
        ),
        (["held", "list"], f"PREFECT_API_URL: it is not set, so there is no server that holds posts. {NO_SERVER}"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_a_mistake_is_answered_before_anything_is_started(command: Command, typed: list[str], said: str) -> None:
    code, output, _ = command(*typed)
    assert (code, output) == (said, "")
    assert len(said) < _MOST


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"BLUESKY_HANDLE": ""}, "BLUESKY_HANDLE: missing in the environment. Set them, or name a saved account."),
        (
            {"BLUESKY_HANDLE": "alice test"},
            "handle: 'alice test' is not a handle: it has no domain."
            " Write it in full, such as alice.bsky.social, or use the account's DID.",
        ),
        (
            {"BLUESKY_SERVICE_URL": "bsky.social/x"},
            "service_url: 'bsky.social/x' is not the URL of a server. Write it like https://bsky.social.",
        ),
        (
            {"BLUESKY_SERVICE_URL": "ftp://bsky.social"},
            "service_url: 'ftp://bsky.social' is not the URL of a server. Write it like https://bsky.social.",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("typed", [["publish", "Hi"], ["diagnose"]], ids=" ".join)
def test_an_account_that_cannot_be_used_is_named_by_its_field(
    command: Command, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], typed: list[str], said: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert command(*typed)[0] == said


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"txt": "Hi"}, "txt: there is no such field. Did you mean text?"),
        ({"text": "Hi", "langauges": ["en"]}, "langauges: there is no such field. Did you mean languages?"),
        ({"text": "Hi", "imges": ["a.png"]}, "imges: there is no such field. Did you mean images?"),
        ({"text": "Hi", "languages": ["en", "de", "fr", "es"]}, "post.languages: there are 4, and the limit is 3."),
        ({"text": "Hi", "quotable": "perhaps"}, "post.quotable: it is neither true nor false."),
        ({"text": 7}, "post.text: it is not a text. Write one, in quotes."),
        ({"text": "Hi", "at": "tomorrow"}, "at: 'tomorrow' is not a time. Write a time such as 2026-12-01 08:00."),
        ({"text": "Hi", "repeat": "often", "at": "2027-01-01 08:00"}, "repeat: 'often' "),
    ],
    ids=str,
)
def test_a_mistake_in_a_calendar_is_named_by_its_field(entry: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        PlannedPost.model_validate({"account": "alice", **entry})
    explained = explain_validation_error(refused.value)
    assert explained.startswith(said)
    assert len(explained) < _MOST
    assert "\n" not in explained


def test_a_long_text_in_a_form_is_told_which_form_can_split_it() -> None:
    read = TypeAdapter(Annotated[Post, OF_A_FORM]).validate_python({"text": "x" * 310})
    assert str(read) == (
        "text: it has 310 characters, 10 over the limit of 300."
        " Shorten it, or tick Split a long text (in publish-advanced) to make a thread of it."
    )


def test_a_url_that_is_no_servers_is_named(command: Command) -> None:
    with temporary_settings({PREFECT_API_URL: "localhost"}):
        code, *_ = command("planned", "list")
    url = "PREFECT_API_URL: 'localhost' is not the URL of a server. Write it like http://127.0.0.1:4200/api."
    assert code == url


class TestAServerThatIsNotThere:
    """PREFECT_API_URL names a server that does not answer."""

    @pytest.fixture(autouse=True)
    def away(self) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            url = f"http://127.0.0.1:{free.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: url}):
            yield url

    @pytest.mark.parametrize(
        "typed",
        [
            ["setup"],
            ["setup", "--check"],
            ["publish", "Hi"],
            ["publish", "Hi", "--account", "alice"],
            ["publish-batch", "column.yaml"],
            ["planned", "list"],
            ["held", "list"],
            ["report"],
            ["diagnose"],
        ],
        ids=" ".join,
    )
    def test_each_command_names_the_server_and_the_remedy(
        self, command: Command, folder: Path, away: str, typed: list[str]
    ) -> None:
        (folder / "column.yaml").write_text("posts: [{account: alice, text: Hi}]")
        code, *_ = command(*typed)
        start = "Start a server with `prefect server start`, or correct the URL."
        assert code == f"PREFECT_API_URL: the server at {away} does not answer. {start}"


class TestOnAServer:
    """PREFECT_API_URL names a server."""

    @pytest.mark.parametrize("typed", [["publish", "Hi", "--account"], ["diagnose"]], ids=" ".join)
    def test_a_misspelt_account_is_told_the_nearest_one(
        self, command: Command, prefect_api: str, pds: sandbox.Sandbox, typed: list[str]
    ) -> None:
        name = SavedAccount(pds).name
        wrong = f"{name}x"
        code, *_ = command(*typed, wrong)
        near = f"Did you mean bluesky-credentials/{name}?"
        assert code == f"account: there is no block bluesky-credentials/{wrong}. {near}"

    def test_a_report_of_an_account_that_is_not_saved_names_the_nearest_one(
        self, command: Command, prefect_api: str, pds: sandbox.Sandbox
    ) -> None:
        name = SavedAccount(pds).name
        assert command("report", f"{name}x")[0] == f"{name}x: no block {name}x is saved. Did you mean {name}?"

    def test_a_report_of_a_handle_that_nobody_has_names_the_handle_and_the_remedy(
        self, command: Command, prefect_api: str, pds: sandbox.Sandbox
    ) -> None:
        name = f"account-{uuid4().hex[:8]}"
        wrong = BlueskyCredentials(handle="bobb.test", app_password="aaaa-bbbb-cccc-dddd", service_url=pds.url)
        wrong.save(name)
        said = f"handle: {pds.url} knows no account bobb.test. Correct the handle in the account's block."
        assert command("report", name)[0] == f"{name}: {said}"

    def test_a_run_that_nobody_knows_is_told_how_to_list_them(self, command: Command, prefect_api: str) -> None:
        assert command("planned", "show", "nothing")[0] == (
            "run: 'nothing': no post that is still planned has such an id or key. List the planned posts:"
            " prefect-bluesky planned list."
        )
        assert command("held", "show", "nothing")[0] == (
            "run: 'nothing': no held run has such an id. List the held runs: prefect-bluesky held list."
        )

    def test_an_address_that_is_no_api_is_named(self, command: Command, prefect_api: str) -> None:
        url = prefect_api.removesuffix("/api")
        with temporary_settings({PREFECT_API_URL: url}):
            code, *_ = command("planned", "list")
        assert str(code).startswith(f"PREFECT_API_URL: the server at {url} answers 4")

    @pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "run"])
    def test_an_account_that_is_not_saved_is_told_the_nearest_one_and_its_posts_fail(
        self, command: Command, prefect_api: str, pds: sandbox.Sandbox, folder: Path, dry_run: bool
    ) -> None:
        name = SavedAccount(pds).name
        (folder / f"{folder.name}.yaml").write_text(f"posts: [{{account: {name}x, at: 2030-01-01 08:00, text: Hi}}]")
        code, said, _ = command("publish-batch", f"{folder.name}.yaml", *["--dry-run"] * dry_run)
        wrong = f"{name}x, post 1: no block {name}x is saved. Did you mean {name}?"
        last = [wrong, "1 failed"] if dry_run else [f"1 failed. {wrong}"]
        assert (code, said.splitlines()[-len(last) :]) == (1, last)

    @pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "run"])
    def test_a_wrong_time_zone_of_a_calendar_is_named_once(
        self, command: Command, prefect_api: str, folder: Path, dry_run: bool
    ) -> None:
        posts = [f"{{account: {name}, at: 2100-01-01 08:00, text: Hi}}" for name in ("ann", "ann", "ben", "ben", "ben")]
        content = f"timezone: Europa/Berlin\nposts: [{', '.join(posts)}]"
        (folder / f"{folder.name}.yaml").write_text(content)
        code, said, _ = command("publish-batch", f"{folder.name}.yaml", *["--dry-run"] * dry_run)
        wrong = (
            "ann, ben, post 1, post 2, post 3 and 2 more: timezone: there is no time zone 'Europa/Berlin'."
            " Did you mean Europe/Berlin?"
        )
        last = [wrong, "5 failed"] if dry_run else [f"5 failed. {wrong}"]
        assert (code, said.splitlines()[-len(last) :]) == (1, last)

    def test_a_preview_shows_no_post_as_added_that_would_not_go_out(
        self, command: Command, prefect_api: str, pds: sandbox.Sandbox, folder: Path
    ) -> None:
        name = SavedAccount(pds).name
        posts = [
            f"{{account: {name}, at: 2020-11-01 08:00, text: Too late}}",
            f"{{account: {name}x, at: 2100-01-01 08:00, text: Lost}}",
            f"{{account: {name}, at: 2100-01-01 08:00, text: Later}}",
        ]
        (folder / f"{folder.name}.yaml").write_text(f"posts: [{', '.join(posts)}]")
        _, said, _ = command("publish-batch", f"{folder.name}.yaml", "--dry-run")
        lines = [" ".join(line.split()) for line in said.splitlines()]
        assert f"! Sun 2020-11-01 08:00 UTC {name} Too late post 1" in lines
        assert [line for line in lines if line[:1] == "+"] == [f"+ Fri 2100-01-01 08:00 UTC {name} Later post 3"]
        assert lines[-1].startswith("1 failed, 1 too late")

    def test_an_entry_whose_account_is_unknown_is_named_by_its_place(
        self, command: Command, prefect_api: str, folder: Path
    ) -> None:
        (folder / f"{folder.name}.yaml").write_text("posts: [{acount: alice, text: Hi}]")
        code, said, _ = command("publish-batch", f"{folder.name}.yaml", "--dry-run")
        assert (code, said.splitlines()[-2:]) == (
            1,
            ["post 1: acount: there is no such field. Did you mean account?", "1 failed"],
        )
