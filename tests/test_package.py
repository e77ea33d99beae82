"""What is shipped, what it exports, and what importing it costs."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

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
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.pds
def test_the_wheel_holds_the_package_alone_and_publishes_from_another_environment(
    tmp_path: Path, real_pds: Pds
) -> None:
    _run("uv", "build", "--wheel", "--out-dir", str(tmp_path / "dist"), cwd=ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "prefect_bluesky",
        f"prefect_bluesky-{prefect_bluesky.__version__}.dist-info",
    }
    assert "prefect_bluesky/py.typed" in names

    python = tmp_path / "env" / "bin" / "python"
    _run("uv", "venv", "--python", sys.executable, str(tmp_path / "env"))
    _run("uv", "pip", "install", "--python", str(python), str(wheel))
    environment = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    }
    registered = _run(
        str(python.with_name("prefect")), "block", "register", "-m", "prefect_bluesky", cwd=tmp_path, **environment
    )
    assert "Bluesky Credentials" in registered
    account = real_pds.create_account()
    code = f"""
from prefect_bluesky import BlueskyCredentials
credentials = BlueskyCredentials(
    handle={account.handle!r}, app_password={account.app_password!r}, service_url={real_pds.url!r}
)
print(credentials.publish("from the wheel").uri)
"""
    published = _run(str(python), "-c", code, cwd=tmp_path, **environment)
    assert real_pds.posts(account)[0]["uri"] == published.strip().splitlines()[-1]


def _run(*command: str, cwd: Path | None = None, **environment: str) -> str:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env={**outside, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
