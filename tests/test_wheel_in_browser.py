"""A first post on a fresh machine: plain pip, no clone, and Prefect's UI.

`uv run pytest tests/test_wheel_in_browser.py --pictures DIR` makes pictures of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests import browser
from tests.browser import OlderUi, PrefectUi
from tests.installed import Installed, install_with_pip
from tests.pds.server import RealPds
from tests.support import picture

pytestmark = [pytest.mark.pds, pytest.mark.slow]


@pytest.fixture(scope="module")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A machine with the wheel alone, as the README sets it up: a server, `prefect-bluesky setup`, a worker."""
    made = install_with_pip(wheel, tmp_path_factory.mktemp("machine"))
    with made.server(ui=True):
        assert "Set up. Start a worker: prefect worker start --pool bluesky" in made.run("prefect-bluesky", "setup")
        # A file is named from where the worker was started.
        (made.folder / "red.png").write_bytes(picture(20, 10))
        with made.worker():
            yield made


@pytest.mark.parametrize(("kind", "name"), [(PrefectUi, "alice"), (OlderUi, "bob")], ids=["newer UI", "older UI"])
def test_the_wheel_alone_publishes_a_first_post_from_the_form(
    machine: Installed,
    chromium: Browser,
    real_pds: RealPds,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    kind: type[PrefectUi],
    name: str,
) -> None:
    account = real_pds.create_account()
    pictures: Path = request.config.getoption("--pictures") or tmp_path
    with browser.prefect_ui(chromium, machine.address, pictures=pictures, end=tmp_path / "end.png", kind=kind) as ui:
        ui.make_block(name, account, real_pds.url)
        ui.take_picture(f"wheel-block-{name}")
        form = ui.open_run_form("publish")
        ui.fill_in_run(form, name, "The first post")
        ui.add_picture(form, "red.png", "A red field")
        ui.take_picture(f"wheel-run-form-{name}", height=1050)
        ui.submit_run(form)
        ui.wait_for_state("Completed")
        ui.take_picture(f"wheel-run-{name}")
    (post,) = real_pds.posts(account)
    assert post["value"]["text"] == "The first post"
    (shown,) = post["value"]["embed"]["images"]
    assert shown["alt"] == "A red field"
