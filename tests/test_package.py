"""The shipped package: its contents, its exports and the cost of importing it."""

import os
import signal
import socket
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, run

import httpx
import pytest

import prefect_bluesky
from tests import OUTSIDE
from tests.support import Pds, picture

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
        "Delivery",
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
        "aensure_session",
        "apublish_everywhere",
        "apublish_post",
        "ensure_session",
        "hold",
        "publish_everywhere",
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
    assert "prefect_bluesky/flows/publish.py" in names
    assert "prefect_bluesky/deployments/prefect.yaml" in names
    assert not [name for name in names if "__pycache__" in name]


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


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, beside a Prefect that was there before, and a Prefect server of it."""

    folder: Path
    environment: dict[str, str]

    def program(self, name: str) -> str:
        return str(self.folder / "env" / "bin" / name)

    def run(self, name: str, *arguments: str) -> str:
        """Run a program of the environment, in a folder without a clone; its output."""
        return _run(self.program(name), *arguments, cwd=self.folder, **self.environment)


@pytest.fixture(scope="module", params=["prefect==3.8.8", "prefect"], ids=["oldest", "newest"])
def installed(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Installed]:
    """The wheel beside the oldest and the newest Prefect."""
    folder = tmp_path_factory.mktemp("installed")
    _run("uv", "venv", "--quiet", "--python", sys.executable, str(folder / "env"))
    # One after the other, as for somebody who has that Prefect already.
    for wanted in (request.param, str(wheel)):
        _run("uv", "pip", "install", "--quiet", "--python", str(folder / "env" / "bin" / "python"), wanted)
    made = Installed(folder, {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"})
    with _prefect_server(Path(made.program("prefect")), folder, made.environment) as url:
        made.environment["PREFECT_API_URL"] = url
        yield made


@pytest.mark.pds
@pytest.mark.slow
def test_the_wheel_publishes_beside_a_plain_prefect_that_schedules(installed: Installed, real_pds: Pds) -> None:
    account = real_pds.create_account()
    assert "Bluesky Credentials" in installed.run("prefect", "block", "register", "-m", "prefect_bluesky")
    code = _TEAM.format(handle=account.handle, app_password=account.app_password, url=real_pds.url)
    published = installed.run("python", "-c", code)
    assert real_pds.posts(account)[0]["uri"] == published.strip().splitlines()[-1]


_FORM = """
from prefect.deployments import run_deployment
from prefect_bluesky import BlueskyCredentials

BlueskyCredentials(handle={handle!r}, app_password={app_password!r}, service_url={url!r}).save("bob")
reference = {{"$ref": {{"block_document_id": str(BlueskyCredentials.load("bob")._block_document_id)}}}}
post = {{"text": "the first hour", "images": [{{"source": "red.png", "alt": "Red"}}]}}
run = run_deployment("publish/publish", parameters={{"credentials": reference, "post": post}}, timeout=300)
print(run.state.type.value, run.state.message)
"""


@pytest.mark.pds
@pytest.mark.slow
def test_the_wheel_alone_sets_a_server_up_and_a_worker_publishes_what_a_form_says(
    installed: Installed, real_pds: Pds
) -> None:
    said = installed.run("prefect-bluesky", "setup")
    assert "Set up. Start a worker: prefect worker start --pool bluesky" in said
    without_alerts = "Nobody is notified if an account cannot sign in. Pass --notify, such as slack-webhook/alerts.\n"
    check = run(
        [installed.program("prefect-bluesky"), "setup", "--check"],
        env=_outside() | installed.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert check.stdout == without_alerts, check.stderr
    # A file is named from where the worker was started.
    (installed.folder / "red.png").write_bytes(picture(20, 10))
    account = real_pds.create_account()
    with (installed.folder / "worker.log").open("wb") as log:
        worker = Popen(
            [installed.program("prefect"), "worker", "start", "--pool", "bluesky"],
            cwd=installed.folder, env=_outside() | installed.environment, stdin=DEVNULL, stdout=log, stderr=STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        code = _FORM.format(handle=account.handle, app_password=account.app_password, url=real_pds.url)
        ended = installed.run("python", "-c", code).strip().splitlines()[-1]
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait()
    assert ended.startswith("COMPLETED"), (installed.folder / "worker.log").read_text()
    (post,) = real_pds.posts(account)
    assert post["value"]["text"] == "the first hour"


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
