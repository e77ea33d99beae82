"""The servers that tests share, once a session, and the quiet in which each test begins."""

import os
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from hypothesis import settings
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateName
from prefect.context import SettingsContext, get_settings_context
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    Settings,
    temporary_settings,
)
from prefect_aws import AwsCredentials

from prefect_bluesky import aensure_session, apublish_post, ensure_session, publish_post, sandbox
from prefect_bluesky.__main__ import main
from prefect_bluesky.planning import HELD
from tests import aws, warm
from tests.held import Stopped
from tests.installed import build_wheel
from tests.pds import server as pds_server
from tests.prefect_server import FOR_ALL, PrefectServer, postgresql
from tests.support import Command, Pds, SavedAccount, block_schemas_made_once
from tests.worker import StartWorkers, Worker

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The first example pays for what is imported late, and a busy machine for all: nothing is timed.
settings.register_profile("full", deadline=None, max_examples=100)
settings.register_profile("quick", deadline=None, max_examples=30)
# CI looks for what is rare. Elsewhere: --hypothesis-profile=full
settings.load_profile("full" if os.environ.get("CI") else "quick")

_FLOWS = Path(__file__).parents[1] / "flows"

_HELD_RUNS = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[HELD])))

_LONGEST = (
    "test_incidents_end_to_end",
    "test_compose",
    "test_held",
    "test_on_time",
    "test_browser",
    "test_wheel_in_browser",
    "test_oauth_in_browser",
    "test_many_workers",
    "test_package",
)
"""The files of tests that take over a minute, the longest first."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--held-posts", type=int, default=4, help="how many posts the tests of incidents hold")
    parser.addoption("--batch-accounts", type=int, default=8, help="how many accounts two workers share")
    parser.addoption("--pictures", type=Path, metavar="DIR", help="where tests in a browser put their pictures")


def pytest_configure(config: pytest.Config) -> None:
    """Start the Python that forks, once for all processes of pytest-xdist."""
    if not hasattr(config, "workerinput"):
        stack = ExitStack()
        stack.enter_context(warm.running(FOR_ALL))
        config.add_cleanup(stack.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that at the end no process has one of them to itself."""
    items.sort(key=lambda item: _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST))


@pytest.fixture
def batch_accounts(request: pytest.FixtureRequest) -> int:
    """The number of accounts that the workers share."""
    count: int = request.config.getoption("--batch-accounts")
    return count


@pytest.fixture
def held_posts(request: pytest.FixtureRequest) -> int:
    """The number of posts after the refused one: a run of each takes 10 s of CPU."""
    count: int = request.config.getoption("--held-posts")
    return count


@pytest.fixture(scope="session", autouse=True)
def no_prefect_api() -> Iterator[None]:
    """Unless a test asks for `prefect_api`, there is none, and what would start one fails.

    Once a session: changing Prefect's settings takes a tenth of a second, and most tests take less.
    """
    # After each run, Prefect waits up to a second for the thread of its heartbeats. Workers of `World` have them.
    # And each of its clients asks for a token first, which its server does not want.
    settings = {
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
    }
    with temporary_settings(settings, restore_defaults={PREFECT_API_URL}):
        yield


@pytest.fixture(scope="session", autouse=True)
def block_schemas() -> Iterator[None]:
    """Make the JSON schema of a block class once."""
    with block_schemas_made_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def aws_descriptions() -> Iterator[None]:
    """Read boto's descriptions of AWS once: each of its sessions reads them again, a tenth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_internet() -> Iterator[None]:
    """What lies outside by default lies on a closed port here; a test that wants one of them brings its own."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("DID_DIRECTORY_URL", "VIDEO_SERVICE_URL"):
            environment.setenv(f"PREFECT_INTEGRATIONS_BLUESKY_{name}", "http://127.0.0.1:1")
        yield


@pytest.fixture(scope="session", autouse=True)
def no_spacing() -> Iterator[None]:
    """Held posts of an account go out one after the other, without the minute between them."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_INTEGRATIONS_BLUESKY_HELD_SPACING", "PT0S")
        yield


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server on a fresh PostgreSQL; its API URL.

    With SQLite, whoever writes while another does may wait for a minute (Prefect's `busy_timeout`).
    """
    with postgresql() as database, PrefectServer(tmp_path_factory.mktemp("prefect"), database).running() as url:
        yield url


@pytest.fixture
def prefect_api(no_prefect_api: None, prefect_server: str) -> Iterator[str]:
    """A Prefect API at hand. What a test has held is no other test's: its PDS may be gone by then."""
    with SettingsContext(profile=get_settings_context().profile, settings=_settings_with_api(prefect_server)):
        yield prefect_server
        with get_client(sync_client=True) as client:
            for run in client.read_flow_runs(flow_run_filter=_HELD_RUNS):
                client.delete_flow_run(run.id)


@cache
def _settings_with_api(url: str) -> Settings:
    """Prefect's settings with an API, made once: it takes a tenth of a second."""
    with temporary_settings({PREFECT_API_URL: url}) as settings:
        return settings


@pytest.fixture(scope="module")
def publish() -> Flow[Any, Any]:
    """The flow `publish` as a deployment loads it."""
    return load_flow_from_entrypoint(f"{_FLOWS / 'publish.py'}:publish")


@pytest.fixture(scope="module")
def publish_held() -> Flow[Any, Any]:
    """The flow `publish_held` as a deployment loads it."""
    return load_flow_from_entrypoint(f"{_FLOWS / 'publish_held.py'}:publish_held")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    """A headless Chromium."""
    # Most sessions of tests open no browser, and importing its driver takes a third of a second.
    from tests import browser

    with browser.chromium() as started:
        yield started


@pytest.fixture
def alice(pds: sandbox.Sandbox) -> SavedAccount:
    """An account of the sandbox, whose block is saved."""
    return SavedAccount(pds)


@pytest.fixture
def bob(pds: sandbox.Sandbox) -> SavedAccount:
    """Another one."""
    return SavedAccount(pds)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str]]:
    """Run a script of `flows/` in this process by its name, with arguments; its exit (None: well) and its output."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(name: str, *arguments: str) -> tuple[object, str]:
        path = str(_FLOWS / name)
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        capsys.readouterr()
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as ended:
            return ended.code, capsys.readouterr().out
        return None, capsys.readouterr().out

    return call


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command `prefect-bluesky` in this process; its exit (None: well), its output and its errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["prefect-bluesky", *arguments])
        capsys.readouterr()
        code: object = None
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture(scope="module")
def publish_batch() -> Flow[Any, Any]:
    """The flow `publish_batch` as a deployment loads it."""
    return load_flow_from_entrypoint(f"{_FLOWS / 'publish_batch.py'}:publish_batch")


@pytest.fixture(scope="session")
def sandbox_pds() -> Iterator[sandbox.Sandbox]:
    """The package's own PDS on loopback."""
    with sandbox.run() as pds:
        yield pds


@pytest.fixture(scope="session")
def real_pds() -> Iterator[pds_server.RealPds]:
    """A real PDS. Where it cannot be fetched its tests are skipped; not in CI."""
    try:
        pds_server.installed()
    except pds_server.PdsUnavailable as why:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no real PDS here: {why}")
    with pds_server.run() as pds:
        yield pds


@pytest.fixture(scope="module")
def pds() -> Iterator[sandbox.Sandbox]:
    """Run a sandbox for one module, which may move its clock and let it fail."""
    with sandbox.run() as own:
        yield own


@pytest.fixture
def workers() -> Iterator[StartWorkers]:
    """Starts worker processes that know nothing yet."""
    with ExitStack() as running:

        def start(count: int) -> list[Worker]:
            started = [Worker() for _ in range(count)]
            for worker in started:
                running.callback(worker.close)
            return started

        yield start


@pytest.fixture
def stopped(pds: sandbox.Sandbox) -> Stopped:
    """An account whose app password is dead."""
    return Stopped(pds)


@pytest.fixture
def loopback_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read files and pages of servers on this machine, as those of the tests are."""
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_ALLOW_PRIVATE_ADDRESSES", "true")


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry a passing trouble at once: the tasks' pauses take 42 s."""
    for each in (aensure_session, apublish_post, ensure_session, publish_post):
        monkeypatch.setattr(each, "retry_delay_seconds", [0.0])


@pytest.fixture(params=["sandbox", pytest.param("real", marks=pytest.mark.pds)])
def each_pds(request: pytest.FixtureRequest) -> Pds:
    """Return the sandbox, then a real PDS: both must behave alike."""
    found: Pds = request.getfixturevalue(f"{request.param}_pds")
    return found


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    """AWS, played by moto over HTTP."""
    with aws.run() as url:
        yield url


@pytest.fixture
def aws_credentials(aws_url: str) -> AwsCredentials:
    """A block for it that no other test has saved."""
    return aws.credentials(aws_url)
