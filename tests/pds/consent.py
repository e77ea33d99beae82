"""A person whom an OAuth client sends to the PDS: they sign in and consent, or refuse.

Each function takes the address that the client sends the person to, and returns the address where the person's browser
ends: at the client, with `code`, `state` and `iss`, or with `error`, `error_description`, `state` and `iss`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from playwright.sync_api import Page

_API = "/@atproto/oauth-provider/~api"

_PATIENCE = 120_000
"""Milliseconds: on a busy machine a browser's first page takes half a minute."""


class Person(Protocol):
    """Somebody who knows the main password of an account: an app password cannot consent."""

    @property
    def handle(self) -> str: ...
    @property
    def password(self) -> str: ...


def consent(url: str, account: Person) -> str:
    """Sign in and consent. Return the address where the browser ends."""
    with _Browser(url) as browser:
        # The password is not remembered: the next consent signs in again.
        signed_in = browser.post("sign-in", username=account.handle, password=account.password, locale="en")
        token = f"Bearer {signed_in['ephemeralToken']}"
        return browser.leave(browser.post("consent", token, did=signed_in["account"]["did"])["url"])


def refuse(url: str) -> str:
    """Deny the client access. Return the address where the browser ends."""
    with _Browser(url) as browser:
        return browser.leave(browser.post("reject")["url"])


def consent_in_browser(page: Page, url: str, account: Person) -> str:
    """Sign in and consent on the pages themselves. Return the address where the browser ends."""
    issuer = _origin(url)
    page.set_default_timeout(_PATIENCE)
    page.goto(url)
    page.get_by_role("button", name="Sign in", exact=True).click()
    name = page.get_by_label("Username or Email")
    # A client may have said whom it asks.
    if name.is_editable():
        name.fill(account.handle)
    page.locator("input[type=password]").focus()
    # Not `fill`, whose text would be in the message of an error.
    page.keyboard.insert_text(account.password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    with page.expect_request(lambda request: _origin(request.url) != issuer) as left:
        page.get_by_role("button", name="Authorize", exact=True).click()
    return left.value.url


class _Browser:
    """The requests that the PDS's own page makes, with all that tells a browser apart from a script."""

    def __init__(self, url: str) -> None:
        self._origin, self._page = _origin(url), url
        self._http = httpx.Client(timeout=60, trust_env=False, event_hooks={"response": [self._keep_cookies]})

    def __enter__(self) -> Self:
        """Open the page, which sets the cookies."""
        opened = self._http.get(self._page, headers=_fetch("cross-site", "navigate", "document"))
        if opened.status_code != 200:
            raise RuntimeError(f"The PDS does not show its page: {opened.status_code} {opened.text}")
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def post(self, endpoint: str, authorization: str = "", /, **body: object) -> dict[str, Any]:
        """Send what a form of the page sends."""
        headers = {
            "Origin": self._origin,
            "Referer": self._page,
            **_fetch("same-origin", "same-origin", "empty"),
            "X-CSRF-Token": self._http.cookies["csrf-token"],
        }
        if authorization:
            headers["Authorization"] = authorization
        answer = self._http.post(f"{self._origin}{_API}/{endpoint}", json=body, headers=headers)
        if answer.is_error:
            raise RuntimeError(f"The PDS refused {endpoint}: {answer.status_code} {answer.text}")
        found: dict[str, Any] = answer.json()
        return found

    def leave(self, url: str) -> str:
        """Go where the page sends the browser in the end."""
        left = self._http.get(url, headers={"Referer": self._page, **_fetch("same-origin", "navigate", "document")})
        if left.status_code != 303:
            raise RuntimeError(f"The PDS does not send the browser back: {left.status_code} {left.text}")
        address: str = left.headers["Location"]
        return address

    def _keep_cookies(self, _: httpx.Response) -> None:
        # The cookies are for https alone. Unlike httpx, a browser takes http://localhost for as good.
        for cookie in self._http.cookies.jar:
            cookie.secure = False


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _fetch(site: str, mode: str, dest: str) -> dict[str, str]:
    """Return the headers by which a browser names the cause of a request."""
    return {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
