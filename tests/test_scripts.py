"""The scripts, as a person starts them."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.support import LOGIN, WRITE, Pds, block, counted, picture, texts

ROOT = Path(__file__).parents[1]


def script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of flows/ in a process of its own, with nothing of Prefect's or ours in its environment."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "BLUESKY_"))}
    return subprocess.run(
        [warm.python(), ROOT / "flows" / name, *arguments],
        env={**outside, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def exit_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """Return the exit of publish.py, run in this process."""
    path = ROOT / "flows" / "publish.py"
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(path), run_name="__main__")
    return done.value.code


class TestPublish:
    """prefect-bluesky publish "Hello"."""

    def test_help_explains_where_the_account_comes_from(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert exit_of(monkeypatch, "--help") == 0
        said = capsys.readouterr().out
        assert all(name in said for name in ("BLUESKY_HANDLE", "BLUESKY_APP_PASSWORD", "BLUESKY_SERVICE_URL"))

    @pytest.mark.parametrize(
        ("text", "environment", "said"),
        [
            ("Hello", {}, "BLUESKY_HANDLE and BLUESKY_APP_PASSWORD: missing in the environment."),
            (
                "Hello",
                {"BLUESKY_HANDLE": "alice", "BLUESKY_APP_PASSWORD": "hunter2"},
                "handle: 'alice' is not a handle",
            ),
            ("", {"BLUESKY_HANDLE": "alice.test", "BLUESKY_APP_PASSWORD": "hunter2"}, "text: the post is empty."),
        ],
        ids=["no account", "no handle", "no text"],
    )
    def test_bad_input_is_refused_in_a_sentence(
        self, monkeypatch: pytest.MonkeyPatch, text: str, environment: dict[str, str], said: str
    ) -> None:
        for name in ("BLUESKY_HANDLE", "BLUESKY_APP_PASSWORD"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert str(exit_of(monkeypatch, text)).startswith(said)

    @pytest.mark.pds
    @pytest.mark.slow
    def test_a_second_process_does_not_sign_in_and_a_wrong_app_password_gets_no_session(
        self, real_pds: Pds, prefect_api: str, tmp_path: Path
    ) -> None:
        pds = real_pds
        account, friend = pds.create_account(), pds.create_account()
        environment = {
            "PREFECT_API_URL": prefect_api,
            "BLUESKY_HANDLE": account.handle,
            "BLUESKY_APP_PASSWORD": account.app_password,
            "BLUESKY_SERVICE_URL": pds.url,
        }
        with counted(pds) as requests:
            first = script("publish.py", f"See https://example.com/é with @{friend.handle} #Prefect", **environment)
            (tmp_path / "red.png").write_bytes(picture(20, 10))
            image = ("--image", str(tmp_path / "red.png"), "--alt", "A red picture")
            second = script("publish.py", "From another process", *image, **environment)
        assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
        assert requests[LOGIN] == 1
        assert requests[WRITE] == 2
        assert sorted(_features(post) for post in pds.posts(account)) == [[], ["link", "mention", "tag"]]
        assert sorted(_alt_texts(post) for post in pds.posts(account)) == [[], ["A red picture"]]

        wrong = script("publish.py", "Never seen", **{**environment, "BLUESKY_APP_PASSWORD": "aaaa-bbbb-cccc-dddd"})
        assert wrong.returncode == 1
        assert "app_password_rejected" in wrong.stderr.splitlines()[-2]
        assert "App passwords and set BLUESKY_APP_PASSWORD to it." in wrong.stderr.splitlines()[-2]
        assert wrong.stderr.splitlines()[-1] == "To check the account: prefect-bluesky diagnose"
        assert len(texts(pds, account)) == 2
        shown = "".join(done.stdout + done.stderr for done in (first, second, wrong))
        assert account.app_password not in shown
        assert "eyJ" not in shown
        assert block(pds, account).ensure_session().action == "reused"


def _features(post: dict[str, Any]) -> list[str]:
    facets = post["value"].get("facets", [])
    return [facet["features"][0]["$type"].rsplit("#", 1)[1] for facet in facets]


def _alt_texts(post: dict[str, Any]) -> list[str]:
    return [image["alt"] for image in post["value"].get("embed", {}).get("images", [])]


class TestCompose:
    """prefect-bluesky compose "idea" --dry-run."""

    IDEA = "Release 2.0 is out. It is twice as fast, and half as large. https://example.com/2.0"

    def test_a_dry_run_shows_each_channel_s_posts_without_account_model_and_server(self) -> None:
        done = script("compose.py", self.IDEA, "--dry-run", COLUMNS="100")
        assert done.returncode == 0, done.stderr
        shown = [line.strip("╭╮─ ") for line in done.stdout.splitlines() if line.startswith("╭")]
        assert shown == [f"{channel} {kind}" for channel in ("Bluesky", "Mastodon") for kind in ("hook", "link")]
        counts = re.findall(r"([\d,]+) of ([\d,]+) characters", done.stdout)
        assert {limit for _, limit in counts} == {"300", "500"}
        assert all(int(count) <= int(limit) for count, limit in counts)
        assert "Beginning flow run" not in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "channels: no channel is given."),
            (("--dry-run",), "idea: nothing is given."),
            (("Hi", "--dry-run", "--channel", "nobody"), "nobody: channels: 'nobody' is no channel."),
        ],
    )
    def test_bad_input_is_refused_by_its_field(self, arguments: tuple[str, ...], said: str) -> None:
        done = script("compose.py", *arguments)
        assert said in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
