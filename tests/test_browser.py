"""The package as a person sees it in Prefect's UI.

`uv run pytest tests/test_browser.py --pictures docs/pictures` makes the pictures in the README.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests import browser
from tests.browser import PrefectUi
from tests.pds.server import RealPds
from tests.support import texts
from tests.world import World, world_with_ui

pytestmark = [pytest.mark.pds, pytest.mark.slow]


@pytest.fixture(scope="module")
def prefect(no_prefect_api: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A Prefect server with its UI, set up, and a worker."""
    with world_with_ui(tmp_path_factory.mktemp("prefect")) as made:
        yield made


@pytest.fixture
def ui(prefect: World, chromium: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PrefectUi]:
    """The UI. Its pictures go where `--pictures` says."""
    pictures: Path = request.config.getoption("--pictures") or tmp_path
    address = prefect.server.url.removesuffix("/api")
    with browser.prefect_ui(chromium, address, pictures=pictures, end=tmp_path / "end.png") as opened:
        yield opened


def test_an_account_is_saved_in_one_form_and_a_post_published_from_another(ui: PrefectUi, real_pds: RealPds) -> None:
    alice = real_pds.create_account("alice.test")

    form = ui.open_block_form()
    fields = ["Name", "Handle", "App password", "Service URL", "AWS credentials", "Secret prefix"]
    expect(form.locator("label")).to_contain_text(fields)
    expect(form.get_by_label("Service URL")).to_have_value("https://bsky.social")
    ui.fill_in_block(form, "alice", alice)
    # The picture shows the service that most accounts are on.
    ui.take_picture("block", height=880)
    form.get_by_label("Service URL").fill(real_pds.url)
    ui.save_block(form)
    for value in (alice.handle, "********", real_pds.url):
        expect(ui.definition(value)).to_be_visible()

    form = ui.open_run_form("publish")
    expect(form).to_contain_text("Pick a saved account, or add one.")
    ui.fill_in_run(form, "alice", "Release 2.0 is out! https://example.com/releases/2.0 #release")
    ui.take_picture("run-form")
    ui.submit_run(form)
    ui.wait_for_state("Completed")
    expect(ui.main.get_by_role("navigation", name="breadcrumb")).to_contain_text("publish as alice.test")
    (post,) = real_pds.posts(alice)
    # A link that is left out of the form is no card of the text's link.
    assert "embed" not in post["value"]
    # The link as readers see it: where it leads stands beside the text.
    assert post["value"]["text"] == "Release 2.0 is out! example.com/releases/2.0 #release"

    artifact = ui.open_tab("Artifacts").get_by_role("link").filter(has_text="Published as alice.test.")
    expect(artifact).to_contain_text("Release 2.0 is out!")
    ui.take_picture("published", height=850)
    # At its corner: the post's own link lies in the middle.
    artifact.click(position={"x": 20, "y": 20})
    rkey = post["uri"].rpartition("/")[2]
    link = ui.main.get_by_role("link", name="See the post")
    expect(link).to_be_visible()
    expect(link).to_have_attribute("href", f"https://bsky.app/profile/alice.test/post/{rkey}")


def test_the_page_of_a_held_run_says_why_it_is_held_and_what_to_do(ui: PrefectUi, real_pds: RealPds) -> None:
    bob = real_pds.create_account("bob.test")
    real_pds.revoke_app_password(bob)
    ui.make_block("bob", bob, real_pds.url)
    ui.run("publish", "bob", "Good morning!")
    ui.wait_for_state("Held")
    expect(ui.main.get_by_role("navigation", name="breadcrumb")).to_contain_text("publish as bob.test")
    details = ui.open_tab("Details")
    expect(details).to_contain_text("bob.test: The server does not accept this app password for this account")
    expect(details).to_contain_text("Create a new app password under Settings > Privacy and security > App passwords")
    ui.hide_graph()
    ui.take_picture("held", height=620)
    ui.open_tab("Artifacts").get_by_role("link").first.click(position={"x": 20, "y": 20})
    for part in ("This post is held", "Open the account's block", "To discard it"):
        expect(ui.main).to_contain_text(part)
    ui.take_picture("held-page")
    assert texts(real_pds, bob) == []


def test_the_page_of_a_run_whose_text_is_too_long_says_by_how_much(ui: PrefectUi, real_pds: RealPds) -> None:
    carol = real_pds.create_account("carol.test")
    ui.make_block("carol", carol, real_pds.url)
    ui.run("publish", "carol", "x" * 307)
    ui.wait_for_state("Failed")
    details = ui.open_tab("Details")
    expect(details).to_contain_text("text: it has 307 characters, 7 over the limit of 300. Shorten it")
    assert texts(real_pds, carol) == []


def test_a_changed_calendar_is_looked_at_and_then_applied(ui: PrefectUi, real_pds: RealPds, tmp_path: Path) -> None:
    erin = real_pds.create_account("erin.test")
    ui.make_block("erin", erin, real_pds.url)
    posts = [f"- {{account: erin, at: 2030-12-{day:02} 08:00, text: Door {day} is open}}" for day in range(1, 21)]
    calendar = tmp_path / "advent.yaml"
    calendar.write_text("\n".join(posts))
    ui.plan(calendar)
    expect(ui.open_tab("Details")).to_contain_text("20 scheduled")

    changed = [line.replace("is open", "has been opened") for line in posts[:5]]
    changed += [line.replace("08:00", "09:30") for line in posts[5:10]]
    changed += [
        *posts[15:],
        *(f"- {{account: erin, at: 2030-12-2{day} 08:00, text: New {day}}}" for day in range(1, 6)),
    ]
    calendar.write_text("\n".join(changed))
    ui.plan(calendar, "dry_run", "prune")
    expect(ui.open_tab("Details")).to_contain_text("5 unchanged, 5 due later, 10 to change, 5 to remove")
    ui.open_tab("Artifacts").get_by_role("link").first.click(position={"x": 20, "y": 20})
    for line in (
        "Door 1 has been opened",
        "text (was “Door 1 is open”)",
        "time (was Fri 2030-12-06 08:00 UTC)",
        "New 5",
    ):
        expect(ui.main).to_contain_text(line)
    ui.take_picture("calendar-preview", height=1500)

    ui.plan(calendar, "prune")
    expect(ui.open_tab("Details")).to_contain_text("5 scheduled, 10 changed, 5 removed, 5 unchanged")
    ui.plan(calendar, "prune")
    expect(ui.open_tab("Details")).to_contain_text("20 unchanged")


def test_no_page_shows_an_app_password(ui: PrefectUi, real_pds: RealPds) -> None:
    dave = real_pds.create_account("dave.test")
    ui.make_block("dave", dave, real_pds.url)
    shown = {"the block": ui.page.content()}
    ui.run("publish", "dave", "Hello")
    ui.wait_for_state("Completed")
    # Each tab with something that it shows once it has loaded.
    tabs = {"Details": "Run Count", "Logs": "Published", "Parameters": "Hello", "Job Variables": "HEARTBEAT"}
    for tab, text in tabs.items():
        expect(ui.open_tab(tab)).to_contain_text(text)
        shown[f"the run's tab {tab}"] = ui.page.content()
    # By name only: nothing here may print the password.
    assert [name for name, page in shown.items() if dave.app_password in page] == []
