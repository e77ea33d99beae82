"""The shipped package: its contents, its exports and the cost of importing it."""

import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import run

import pytest

import prefect_bluesky
from tests.installed import Installed, install
from tests.support import Pds, picture


def test_the_public_names_are_these() -> None:
    assert set(prefect_bluesky.__all__) == {
        "AIGenerator",
        "AppriseService",
        "AuthError",
        "AuthProblem",
        "BlueskyCredentials",
        "BlueskyError",
        "BlueskyNotification",
        "BlueskyOAuthClient",
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


@pytest.fixture(scope="module", params=["prefect==3.8.8", "prefect"], ids=["oldest", "newest"])
def installed(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Installed]:
    """The wheel beside the oldest and the newest Prefect, and a Prefect server of it."""
    made = install(wheel, tmp_path_factory.mktemp("installed"), prefect=request.param)
    with made.server():
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
    check = installed.attempt("prefect-bluesky", "setup", "--check")
    assert check.stdout == without_alerts, check.stderr
    # A file is named from where the worker was started.
    (installed.folder / "red.png").write_bytes(picture(20, 10))
    account = real_pds.create_account()
    with installed.worker():
        code = _FORM.format(handle=account.handle, app_password=account.app_password, url=real_pds.url)
        ended = installed.run("python", "-c", code).strip().splitlines()[-1]
    assert ended.startswith("COMPLETED"), installed.log("worker")
    (post,) = real_pds.posts(account)
    assert post["value"]["text"] == "the first hour"
