"""Prefect's UI in a headless Chromium, and what a person does there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Error, Locator, Page, Response, Route, expect, sync_playwright

from tests import OUTSIDE
from tests.support import Account

_PATIENCE = 120_000
"""Milliseconds: on a busy machine the UI's first page takes half a minute, and so does a run."""

_MOMENT, _PAUSES = 10_000, 30
"""Milliseconds for a page that was loaded to show what it has, and how often it is loaded for the next pause."""

_PRESSES = 3
"""How often a link is pressed."""

_WIDTH, _HEIGHT = 1200, 750

_LOOPBACK = "MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1"
"""No other name is looked up, also where a redirect leads, which no route of Playwright sees."""

_LOGO = "https://bsky.app/static/apple-touch-icon.png"
_BUTTERFLY = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 32 32"><path fill="#1185fe" d="'
    "M12 10.8c-1.087-2.114-4.046-6.053-6.798-7.995C2.566.944 1.561 1.266.902 1.565.139 1.908 0 3.08 0 3.768c0 .69.3"
    "78 5.65.624 6.479.815 2.736 3.713 3.66 6.383 3.364.136-.02.275-.039.415-.056-.138.022-.276.04-.415.056-3.912.5"
    "8-7.387 2.005-2.83 7.078 5.013 5.19 6.87-1.113 7.823-4.308.953 3.195 2.05 9.271 7.733 4.308 4.267-4.308 1.172-"
    "6.498-2.74-7.078a8.741 8.741 0 0 1-.415-.056c.14.017.279.036.415.056 2.67.297 5.568-.628 6.383-3.364.246-.828."
    "624-5.79.624-6.478 0-.69-.139-1.861-.902-2.206-.659-.298-1.664-.62-4.3 1.24C16.046 4.748 13.087 8.687 12 10.8Z"
    '"/></svg>'
)


@contextmanager
def chromium(hosts: Mapping[str, int] | None = None) -> Iterator[Browser]:
    """A Chromium. While it runs, Prefect's sync API does not work in this thread, which has an event loop by then.

    Args:
        hosts: names that lead to loopback, each with its port.
    """
    program = _installed()
    rules = [*(f"MAP {name} 127.0.0.1:{port}" for name, port in (hosts or {}).items()), _LOOPBACK]
    with sync_playwright() as playwright:
        expect.set_options(timeout=_PATIENCE)
        # Its sandbox does not start for root, as which CI runs; it opens no page but ours.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", f"--host-resolver-rules={' , '.join(rules)}"]
        )
        try:
            yield browser
        finally:
            browser.close()


def _installed() -> str:
    """Debian's Chromium. Playwright's own would be fetched from a server that not every network lets through."""
    if (found := shutil.which("chromium")) is not None:
        return found
    # Another package manager may be at work.
    install = "apt-get install -y -o DPkg::Lock::Timeout=300 --no-install-recommends chromium fonts-dejavu-core"
    commands = ("apt-get update", install)
    if os.geteuid() or shutil.which("apt-get") is None:
        remedy = " && ".join(commands)
        raise RuntimeError(f"There is no chromium on the PATH. Install it, as root on Debian: {remedy}")
    for command in commands:
        done = subprocess.run(
            command.split(),
            env=OUTSIDE | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"There is no chromium, and `{command}` failed:\n{done.stdout[-2000:]}")
    found = shutil.which("chromium")
    assert found is not None
    return found


def _stay_here(route: Route) -> None:
    """Let nothing but loopback be reached."""
    url = route.request.url
    if url == _LOGO:
        # What stands in for it makes the pictures look as they do elsewhere.
        route.fulfill(body=_BUTTERFLY, content_type="image/svg+xml")
    elif urlsplit(url).hostname == "127.0.0.1":
        route.continue_()
    else:
        route.abort()


class PrefectUi:
    """The UI as somebody sees it who opens the server's address and has chosen nothing."""

    _answers_by = "Resume"

    def __init__(self, page: Page, url: str, pictures: Path) -> None:
        self.page = page
        self.main = page.get_by_role("main")
        self._pictures = pictures
        page.goto(url)

    def _menu(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).click()

    def open_block_form(self) -> Locator:
        """The form of a new Bluesky Credentials block."""
        self._menu("Blocks")
        # A plus sign without a name.
        self.main.locator("a[href$='/blocks/catalog']").first.click()
        self.main.locator("a[href$='/bluesky-credentials/create']").click()
        return self.main.locator("form")

    def fill_in_block(self, form: Locator, name: str, account: Account) -> None:
        """All that an account on bsky.social needs."""
        form.get_by_label("Name", exact=True).fill(name)
        form.get_by_label("Handle").fill(account.handle)
        form.locator("input[type=password]").focus()
        # Not `fill`, whose text would stand in the message of an error.
        self.page.keyboard.insert_text(account.app_password)

    def make_block(self, name: str, account: Account, service_url: str) -> None:
        """Save a block by its form, and see it."""
        form = self.open_block_form()
        self.fill_in_block(form, name, account)
        self.fill_in_service(form, service_url)
        self.save_block(form)
        expect(self.definition(account.handle)).to_be_visible()

    def fill_in_service(self, form: Locator, url: str) -> None:
        """Write where the account signs in."""
        form.get_by_label("Service URL").fill(url)

    def save_block(self, form: Locator) -> None:
        """Save it, and go to its page."""
        self._create(form.get_by_role("button", name="Save"), "/block_documents/")

    def _create(self, button: Locator, call: str) -> None:
        """Press a button, and press it again if the server is busy, as one on SQLite is now and then (docs/ui.md)."""

        def decides(response: Response) -> bool:
            if response.request.method != "POST":
                return False
            path = urlsplit(response.url).path
            return path.endswith(call) or ("/schemas/validate" in path and not response.ok)

        for _ in range(5):
            with self.page.expect_response(decides) as answer:
                button.click()
            if answer.value.ok:
                return
        raise AssertionError(f"{answer.value.url} answers {answer.value.status}: {answer.value.text()}")

    def definition(self, text: str) -> Locator:
        """A value in the list of a block's fields, whose order on PostgreSQL is that of their names' lengths."""
        return self.main.get_by_role("definition").filter(has_text=text)

    def open_run_form(self, deployment: str) -> Locator:
        """The form of a custom run of a deployment."""
        name = re.compile(f"^{re.escape(deployment)}$")
        run = self.page.get_by_role("button", name="Run", exact=True)
        for _ in range(_PRESSES):
            self._menu("Deployments")
            self.main.locator("a[href*='/deployments/deployment/']").filter(has_text=name).click()
            # On a busy machine a press on the link leads nowhere now and then: the list is drawn again meanwhile.
            with suppress(AssertionError):
                expect(run).to_be_visible(timeout=_PATIENCE / _PRESSES)
                break
        run.click()
        self._custom_run()
        return self.main.locator("form")

    def _custom_run(self) -> None:
        self.page.get_by_role("menuitem", name="Custom run").click()

    def pick_account(self, form: Locator, block: str, label: str = "Account") -> None:
        """Pick the saved block of an account."""
        form.get_by_role("button", name="Select a block").click()
        self.page.get_by_role("option", name=block, exact=True).click()

    def fill_in_run(self, form: Locator, block: str, text: str) -> None:
        """Pick an account, and write."""
        self.pick_account(form, block)
        form.get_by_role("textbox", name="Text", exact=True).fill(text)

    def add_picture(self, form: Locator, file: str, alt: str) -> None:
        """Add a picture to the post, with a description."""
        form.get_by_role("button", name="Add item").click()
        form.get_by_role("textbox", name="File", exact=True).fill(file)
        form.get_by_role("textbox", name="Alt text (Optional)", exact=True).fill(alt)

    def plan(self, calendar: Path, *switches: str) -> None:
        """Run `publish-batch` for a calendar by its form, with some switches on, and go to the run's page."""
        form = self.open_run_form("publish-batch")
        form.get_by_role("textbox", name="calendar (Optional)", exact=True).fill(str(calendar))
        for switch in switches:
            form.get_by_role("switch", name=f"{switch} (Optional)", exact=True).click()
        self.submit_run(form)
        self.wait_for_state("Completed")

    def submit_run(self, form: Locator) -> None:
        """Start it, and go to its page."""
        self._create(form.get_by_role("button", name="Submit"), "/create_flow_run")
        self.page.get_by_role("link", name="View run").click()
        # Until then, the page shows the states of other runs.
        expect(self.main.get_by_role("tab", name="Logs")).to_be_visible()

    def run(self, deployment: str, block: str, text: str) -> None:
        """Run `publish` by its form, and go to the run's page."""
        form = self.open_run_form(deployment)
        self.fill_in_run(form, block, text)
        self.submit_run(form)

    def open_resume_form(self, *, shown_before: str | None = None) -> Locator:
        """Wait until the run on this page is paused, and open the form that resumes it.

        Args:
            shown_before: the link in the form of the run's last pause, which this page may still know.
        """
        for _ in range(_PAUSES):
            # Prefect stores a paused run's form a moment after its state.
            self.page.reload()
            with suppress(Error, AssertionError):
                expect(self.main.get_by_text("Paused", exact=True)).to_be_visible(timeout=_MOMENT)
                self._resume()
                form = self.page.get_by_role("dialog")
                link = form.get_by_role("link")
                expect(link).to_be_visible(timeout=_MOMENT)
                if link.get_attribute("href") != shown_before:
                    return form
        raise AssertionError("the run does not ask")

    def _resume(self) -> None:
        self.main.locator("button[aria-haspopup=menu]").first.click()
        self.page.get_by_role("menuitem", name="Resume").click(timeout=_MOMENT)

    def answer(self, form: Locator, text: str) -> None:
        """Resume the run with a text."""
        form.locator("textarea").fill(text)
        self._create(form.get_by_role("button", name=self._answers_by), "/resume")

    def wait_for_state(self, name: str) -> None:
        """Wait until the run on this page is in a state that is its last."""
        expect(self.main.get_by_text(name, exact=True)).to_be_visible(timeout=5 * _PATIENCE)
        # Once a run has ended, its page asks for nothing any more, and lacks what came last.
        self.page.reload()
        expect(self.main.get_by_text(name, exact=True)).to_be_visible()

    def open_tab(self, name: str) -> Locator:
        """Open a tab of a run's page and return its text."""
        self.main.get_by_role("tab", name=name).click()
        return self.main.get_by_role("tabpanel", name=name)

    def hide_graph(self) -> None:
        """Leave the graph of tasks out of a picture that is about something else, and would be twice as high."""
        around = self.main.locator("div", has=self.page.locator("canvas"))
        graph = around.filter(has_not=self.page.get_by_role("tablist")).first
        graph.evaluate("element => { element.style.display = 'none' }")

    def take_picture(self, name: str, *, height: int = _HEIGHT) -> None:
        """Take a picture of the page, higher than usual where it has more to show."""
        self.page.set_viewport_size({"width": _WIDTH, "height": height})
        # Nothing lights up because a pointer happens to be above it.
        self.page.mouse.move(0, 0)
        self.page.wait_for_load_state("networkidle")
        # What popped up is gone.
        expect(self.page.locator("[data-sonner-toast], .p-toast__card")).to_have_count(0)
        self.page.screenshot(path=self._pictures / f"{name}.png", animations="disabled", caret="hide")


class OlderUi(PrefectUi):
    """The UI of Prefect's earlier versions, which Prefect still serves. A browser does not know its fields' labels."""

    _answers_by = "Submit"

    def __init__(self, page: Page, url: str, pictures: Path) -> None:
        super().__init__(page, url, pictures)
        self.main = page.locator("body")

    def _menu(self, name: str) -> None:
        self.page.locator(".p-context-nav-item", has_text=re.compile(rf"^\s*{name}\s*$")).click()

    def _field(self, form: Locator, label: str) -> Locator:
        # The innermost: a post's field lies in the field of the post.
        around = form.locator(".p-label").filter(has=self.page.get_by_text(label, exact=True)).last
        return around.locator("input, textarea, button.p-select-button__control").last

    def fill_in_block(self, form: Locator, name: str, account: Account) -> None:
        self._field(form, "Block Name").fill(name)
        self._field(form, "Handle").fill(account.handle)
        self._field(form, "App password (Optional)").focus()
        self.page.keyboard.insert_text(account.app_password)

    def fill_in_service(self, form: Locator, url: str) -> None:
        self._field(form, "Service URL (Optional)").fill(url)

    def save_block(self, form: Locator) -> None:
        self._create(form.get_by_role("button", name="Create"), "/block_documents/")

    def definition(self, text: str) -> Locator:
        return self.main.locator(".p-key-value").filter(has_text=text)

    def _custom_run(self) -> None:
        self.page.locator(".p-overflow-menu-item", has_text="Custom run").click()

    def pick_account(self, form: Locator, block: str, label: str = "Account") -> None:
        self._field(form, label).focus()
        self.page.keyboard.press("ArrowDown")
        self.page.get_by_role("option", name=block, exact=True).click()

    def fill_in_run(self, form: Locator, block: str, text: str) -> None:
        self.pick_account(form, block)
        self._field(form, "Text").fill(text)

    def add_picture(self, form: Locator, file: str, alt: str) -> None:
        form.get_by_role("button", name="Add item").click()
        self._field(form, "File").fill(file)
        self._field(form, "Alt text (Optional)").fill(alt)

    def open_tab(self, name: str) -> Locator:
        self.main.locator(".p-tab", has_text=re.compile(f"^{name}$")).click()
        return self.main.locator(f"#{name.lower().replace(' ', '-')}-content")

    def _resume(self) -> None:
        self.page.get_by_role("button", name="Resume").first.click(timeout=_MOMENT)

    def submit_run(self, form: Locator) -> None:
        self._create(form.get_by_role("button", name="Submit"), "/create_flow_run")
        # While the message slides in, the page has two of it.
        self.page.get_by_role("button", name="View run").last.click()
        expect(self.main.get_by_text("Job Variables", exact=True)).to_be_visible()


@contextmanager
def prefect_ui(
    browser: Browser, url: str, *, pictures: Path, end: Path, kind: type[PrefectUi] = PrefectUi
) -> Iterator[PrefectUi]:
    """The UI in a window of its own.

    Args:
        browser: whose window it is.
        url: the server's address.
        pictures: the directory for the pictures that are taken.
        end: the file for a picture of how it looked in the end, for whoever wonders why a test has failed.
        kind: which of Prefect's two UIs.
    """
    context = browser.new_context(
        viewport={"width": _WIDTH, "height": _HEIGHT}, locale="en-US", timezone_id="UTC", color_scheme="light"
    )
    try:
        context.set_default_timeout(_PATIENCE)
        context.route("**/*", _stay_here)
        if kind is OlderUi:
            context.add_cookies([{"name": "prefect_ui_version", "value": "v1", "url": url}])
        page = context.new_page()
        try:
            yield kind(page, url, pictures)
        finally:
            # It must not hide why a test has failed.
            with suppress(Error):
                page.screenshot(path=end, timeout=10_000)
    finally:
        context.close()
