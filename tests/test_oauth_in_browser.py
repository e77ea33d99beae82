"""An owner grants access in a browser, from Prefect's UI to posts, on a real PDS.

`uv run pytest tests/test_oauth_in_browser.py --pictures DIR` makes pictures of it, such as the one in docs/oauth.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_bluesky import BlueskyCredentials, BlueskyOAuthClient, Image, Post
from prefect_bluesky.prefect_api import given_block
from tests import browser
from tests.browser import OlderUi, PrefectUi
from tests.contract.granted import POST, Granted, let_token_expire
from tests.pds.client_host import ClientHost
from tests.pds.consent import consent_in_browser
from tests.pds.server import Account, RealPds
from tests.support import Command, forget_processes_memory, picture, texts
from tests.world import World, world_with_ui

pytestmark = [pytest.mark.pds, pytest.mark.slow]


@pytest.fixture(scope="module")
def prefect(no_prefect_api: None, real_pds: RealPds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A Prefect server with its UI, set up, and a worker that knows the directory of the accounts."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", real_pds.plc_url)
        with (
            world_with_ui(tmp_path_factory.mktemp("prefect")) as made,
            temporary_settings({PREFECT_API_URL: made.server.url}),
        ):
            yield made


def grant_twice(ui: PrefectUi, chromium: Browser, block: str, account: Account, callback: str | None) -> None:
    """Run `authorize` by its form, and be the owner of the account at each link that the run shows.

    Args:
        callback: the page where the owner's browser ends; without one, the browser cannot open the address.
    """
    form = ui.open_run_form("authorize")
    ui.pick_account(form, block, "account")
    ui.submit_run(form)
    link = None
    for number in range(2):
        form = ui.open_resume_form(shown_before=link)
        if number == 0:
            ui.take_picture(f"authorize-{block}")
        link = form.get_by_role("link").get_attribute("href")
        assert link
        # The certificate of the client's host is its own.
        with chromium.new_page(ignore_https_errors=True) as owner:
            address = consent_in_browser(owner, link, account)
            if callback:
                expect(owner).to_have_url(re.compile(f"^{re.escape(callback)}"))
                address = owner.locator("textarea").input_value()
        ui.answer(form, address)
    ui.wait_for_state("Completed")


def refusals(granted: Granted, uri: str) -> dict[str, httpx.Response]:
    """What the server answers if the credential's holder tries more than to create posts."""
    rkey = uri.rpartition("/")[2]
    place = {"repo": granted.account.did, "collection": POST, "rkey": rkey}
    record = {"$type": POST, "text": "changed", "createdAt": "2026-01-01T00:00:00Z"}
    return {
        "deleteRecord": granted.call("com.atproto.repo.deleteRecord", json=place),
        "delete by applyWrites": granted.write("delete", rkey=rkey),
        "putRecord": granted.call("com.atproto.repo.putRecord", json={**place, "record": record}),
        "update by applyWrites": granted.write("update", rkey=rkey, value=record),
    }


@pytest.mark.parametrize(
    ("is_hosted", "kind", "name"),
    [(True, PrefectUi, "grace"), (False, OlderUi, "heidi")],
    ids=["confidential client", "loopback client"],
)
def test_a_credential_that_was_granted_in_a_browser_creates_posts_and_nothing_else(
    prefect: World,
    real_pds: RealPds,
    command: Command,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    is_hosted: bool,
    kind: type[PrefectUi],
    name: str,
) -> None:
    account = real_pds.create_account(f"{name}.test")
    pictures: Path = request.config.getoption("--pictures") or tmp_path
    with ClientHost(real_pds) as host:
        files = ["--url", host.url, "--into", str(tmp_path / "site")] if is_hosted else []
        assert command("oauth-client", name, *files)[0] is None
        for file in (tmp_path / "site").glob("*"):
            host.put(file.name, file.read_bytes())
        client = given_block(name, BlueskyOAuthClient, "client")
        BlueskyCredentials(handle=account.handle, service_url=real_pds.url, oauth_client=client).save(name)

        with browser.chromium({host.name: host.port}) as chromium:
            address = prefect.server.url.removesuffix("/api")
            end = tmp_path / "end.png"
            with browser.prefect_ui(chromium, address, pictures=pictures, end=end, kind=kind) as ui:
                grant_twice(ui, chromium, name, account, f"{host.url}/callback.html" if is_hosted else None)
                expect(ui.open_tab("Details")).to_contain_text("Access is granted, with a spare session.")

        credentials = given_block(name, BlueskyCredentials, "account")
        text = credentials.publish("a text")
        credentials.publish(["first", "second"])
        credentials.publish(Post(text="a picture", images=[Image(source=picture(4, 4), alt="Red")]))
        published = ["a picture", "a text", "first", "second"]
        assert texts(real_pds, account) == published

        let_token_expire(credentials, real_pds)
        forget_processes_memory()
        before = len(granted_tokens(real_pds))
        credentials.publish("after the expiry")
        assert len(granted_tokens(real_pds)) == before + 1
        assert texts(real_pds, account) == sorted([*published, "after the expiry"])

        held = as_held(credentials, account, real_pds)
        answers = {how: (each.status_code, each.json()["error"]) for how, each in refusals(held, text.uri).items()}
        assert answers == dict.fromkeys(answers, (403, "ScopeMissingError"))
        assert held.post("by the same credential").status_code == 200
        assert texts(real_pds, account) == sorted([*published, "after the expiry", "by the same credential"])


def granted_tokens(pds: RealPds) -> list[object]:
    """The requests that were answered with tokens."""
    return [request for request in pds.requests("oauth/token") if request.status == 200]


def as_held(credentials: BlueskyCredentials, account: Account, pds: RealPds) -> Granted:
    """The stored session, in the hands of somebody who does not use this package."""
    saved = credentials.session_store().load()
    assert saved
    return Granted.copied(pds, account, saved.document.session)
