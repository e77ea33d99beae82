"""The shipped package: its contents, its exports and the cost of importing it."""

import os
import signal
import socket
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, run

import httpx
import pytest

import prefect_bluesky
from tests.support import Pds

ROOT = Path(__file__).parents[1]


def test_the_public_names_are_these() -> None:
    assert set(prefect_bluesky.__all__) == {
        "AIGenerator",
        "AppriseService",
        "AuthError",
        "AuthProblem",
        "BlueskyCredentials",
        "BlueskyError",
        "Captions",
        "Diagnosis",
        "Image",
        "LinkCard",
        "MastodonCredentials",
        "PlannedPost",
        "Post",
        "Preview",
        "PublishedPost",
        "SessionStatus",
        "ThreadPost",
        "Video",
        "ensure_session",
        "hold",
        "publish_post",
    }
    assert all(hasattr(prefect_bluesky, name) for name in prefect_bluesky.__all__)


def test_prefect_finds_the_collection() -> None:
    assert "prefect_bluesky" in {point.value for point in entry_points(group="prefect.collections")}


@pytest.mark.parametrize("heavy", ["atproto", "PIL"])
def test_importing_it_does_not_import_what_only_some_posts_need(heavy: str) -> None:
    code = f"import sys, prefect_bluesky; print(*[name for name in sys.modules if name.startswith({heavy!r})])"
    found = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.pds
@pytest.mark.slow
def test_the_wheel_holds_the_package_alone_and_publishes_beside_a_plain_prefect(tmp_path: Path, real_pds: Pds) -> None:
    _run("uv", "build", "--wheel", "--out-dir", str(tmp_path / "dist"), cwd=ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "prefect_bluesky",
        f"prefect_bluesky-{prefect_bluesky.__version__}.dist-info",
    }
    assert "prefect_bluesky/py.typed" in names

    # As somebody does who has never heard of uv, beside the Prefect that they have.
    programs = tmp_path / "env" / "bin"
    _run(sys.executable, "-m", "venv", str(tmp_path / "env"))
    _run(str(programs / "pip"), "install", "--quiet", "--disable-pip-version-check", "prefect")
    _run(str(programs / "pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel))
    environment = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    }
    account = real_pds.create_account()
    code = f"""
from prefect import flow
from prefect_bluesky import BlueskyCredentials, publish_post

@flow
def announce():
    return publish_post(BlueskyCredentials.load("alice"), "from the wheel").uri

BlueskyCredentials(
    handle={account.handle!r}, app_password={account.app_password!r}, service_url={real_pds.url!r}
).save("alice")
print(announce())
"""
    with _prefect_server(programs / "prefect", tmp_path, environment) as url:
        environment["PREFECT_API_URL"] = url
        register = ("block", "register", "-m", "prefect_bluesky")
        registered = _run(str(programs / "prefect"), *register, cwd=tmp_path, **environment)
        assert "Bluesky Credentials" in registered
        published = _run(str(programs / "python"), "-c", code, cwd=tmp_path, **environment)
    assert real_pds.posts(account)[0]["uri"] == published.strip().splitlines()[-1]


@contextmanager
def _prefect_server(prefect: Path, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run `prefect server start`; its API."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    with (folder / "server.log").open("wb") as log:
        server = Popen(
            [prefect, "server", "start", "--port", str(port), "--no-ui"],
            cwd=folder,
            env=_outside() | environment,
            stdin=DEVNULL,
            stdout=log,
            stderr=STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300
        while not _answers(f"{url}/health"):
            has_failed = server.poll() is not None or time.monotonic() > deadline
            assert not has_failed, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        # The command starts the server as a child of its own.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _outside() -> dict[str, str]:
    """The environment without what is set for this one."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "VIRTUAL_ENV"))}


def _run(*command: str, cwd: Path | None = None, **environment: str) -> str:
    done = run(command, cwd=cwd, env=_outside() | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
