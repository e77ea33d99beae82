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
from tests import OUTSIDE
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
        "BlueskyNotification",
        "Captions",
        "Diagnosis",
        "Image",
        "LinkCard",
        "MastodonCredentials",
        "PlannedPost",
        "PostingSchedule",
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("dist")
    _run("uv", "build", "--wheel", "--out-dir", str(folder), cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "prefect_bluesky",
        f"prefect_bluesky-{prefect_bluesky.__version__}.dist-info",
    }
    assert "prefect_bluesky/py.typed" in names


_TEAM = """
from datetime import timedelta
from time import monotonic, sleep

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect_bluesky import BlueskyCredentials, publish_post

@flow
def announce():
    return publish_post(BlueskyCredentials.load("alice"), "from the wheel").uri

BlueskyCredentials(handle={handle!r}, app_password={app_password!r}, service_url={url!r}).save("alice")
with get_client(sync_client=True) as client:
    hourly = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(hours=1)))
    deployment = client.create_deployment(client.create_flow(announce), "hourly", schedules=[hourly])
    of_it = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    deadline = monotonic() + 300
    while not client.read_flow_runs(flow_run_filter=of_it):
        assert monotonic() < deadline, "the server scheduled no run"
        sleep(0.5)
print(announce())
"""


@pytest.mark.pds
@pytest.mark.slow
@pytest.mark.parametrize("prefect", ["prefect==3.8.8", "prefect"], ids=["oldest", "newest"])
def test_the_wheel_publishes_beside_a_plain_prefect_that_schedules(
    wheel: Path, tmp_path: Path, real_pds: Pds, prefect: str
) -> None:
    programs = tmp_path / "env" / "bin"
    _run("uv", "venv", "--quiet", "--python", sys.executable, str(tmp_path / "env"))
    # One after the other, as for somebody who has that Prefect already.
    for wanted in (prefect, str(wheel)):
        _run("uv", "pip", "install", "--quiet", "--python", str(programs / "python"), wanted)
    environment = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    account = real_pds.create_account()
    code = _TEAM.format(handle=account.handle, app_password=account.app_password, url=real_pds.url)
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
    return {
        name: value for name, value in OUTSIDE.items() if not name.startswith(("PREFECT_", "VIRTUAL_ENV", "PYTHONDONT"))
    }


def _run(*command: str, cwd: Path | None = None, **environment: str) -> str:
    done = run(command, cwd=cwd, env=_outside() | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
