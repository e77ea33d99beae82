"""The person of the tests consents to OAuth on a real PDS, as a person does whom a client sends there."""

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests import browser
from tests.pds.client_host import ClientHost
from tests.pds.consent import consent, consent_in_browser, refuse
from tests.pds.lab_client import Key, LabClient
from tests.pds.server import Account, RealPds
from tests.support import texts

pytestmark = pytest.mark.pds

SCOPE = "atproto repo:app.bsky.feed.post?action=create"


@pytest.fixture
def account(real_pds: RealPds) -> Account:
    return real_pds.create_account()


@pytest.fixture
def host(real_pds: RealPds) -> Iterator[ClientHost]:
    with ClientHost(real_pds) as host:
        yield host


@pytest.fixture
def confidential(real_pds: RealPds, host: ClientHost) -> LabClient:
    return LabClient.confidential(real_pds.url, host, SCOPE)


@pytest.fixture
def signed_in(confidential: LabClient, account: Account) -> LabClient:
    """A confidential client that has its tokens."""
    confidential.take_code(consent(confidential.authorization_url("s"), account)).raise_for_status()
    return confidential


@pytest.fixture(params=["loopback", "confidential"])
def client(request: pytest.FixtureRequest, real_pds: RealPds) -> LabClient:
    if request.param == "loopback":
        return LabClient.loopback(real_pds.url, SCOPE)
    found: LabClient = request.getfixturevalue("confidential")
    return found


def params(address: str) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()}


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def test_consent_leads_back_to_the_client(client: LabClient, account: Account) -> None:
    address = consent(client.authorization_url("my state"), account)
    found = params(address)
    assert address.startswith(f"{client.redirect_uri}?")
    assert found.pop("code").startswith("cod-")
    assert found == {"state": "my state", "iss": client.url}


def test_a_client_with_consent_writes_and_refreshes(real_pds: RealPds, client: LabClient, account: Account) -> None:
    tokens = client.take_code(consent(client.authorization_url("s"), account)).json()
    assert (tokens["sub"], tokens["token_type"], tokens["scope"]) == (account.did, "DPoP", SCOPE)
    client.post(account.did, "before the refresh").raise_for_status()
    client.refresh().raise_for_status()
    client.post(account.did, "after the refresh").raise_for_status()
    assert texts(real_pds, account) == ["after the refresh", "before the refresh"]


def test_a_refusal_leads_back_to_the_client(client: LabClient) -> None:
    address = refuse(client.authorization_url("s"))
    assert address.startswith(f"{client.redirect_uri}?")
    assert params(address) == {
        "state": "s",
        "iss": client.url,
        "error": "access_denied",
        "error_description": "The user rejected the request",
    }


def test_an_app_password_cannot_consent(client: LabClient, account: Account) -> None:
    impatient = replace(account, password=account.app_password)
    with pytest.raises(RuntimeError, match="App passwords are not allowed"):
        consent(client.authorization_url("s"), impatient)


@pytest.mark.slow
def test_a_person_consents_in_a_browser(real_pds: RealPds, client: LabClient, account: Account) -> None:
    with browser.chromium() as chromium, chromium.new_page() as page:
        address = consent_in_browser(page, client.authorization_url("s"), account)
    assert address.startswith(f"{client.redirect_uri}?")
    client.take_code(address).raise_for_status()
    client.post(account.did, "from a browser").raise_for_status()
    assert texts(real_pds, account) == ["from a browser"]


def test_a_host_that_is_down_is_missed_once_the_pds_has_forgotten_the_client(
    real_pds: RealPds, host: ClientHost, signed_in: LabClient
) -> None:
    host.stop()
    assert signed_in.refresh().is_success
    real_pds.forget_client(signed_in.client_id)
    assert error(signed_in.refresh()) == (400, "invalid_client_metadata")
    host.start()
    assert signed_in.refresh().is_success


def test_a_key_that_left_the_document_is_refused_once_the_pds_has_forgotten_the_client(
    real_pds: RealPds, host: ClientHost, signed_in: LabClient
) -> None:
    first, signed_in.key = signed_in.key, Key()
    signed_in.publish(host)
    signed_in.key = first
    assert signed_in.refresh().is_success
    real_pds.forget_client(signed_in.client_id)
    assert error(signed_in.refresh()) == (400, "invalid_client")


def test_an_expired_access_token_is_refused_and_can_be_refreshed(
    real_pds: RealPds, signed_in: LabClient, account: Account
) -> None:
    signed_in.tokens["access_token"] = real_pds.expire(signed_in.tokens["access_token"])
    refused = signed_in.post(account.did, "never seen")
    assert error(refused) == (401, "invalid_token")
    assert refused.json()["message"] == '"exp" claim timestamp check failed'
    signed_in.refresh().raise_for_status()
    assert signed_in.post(account.did, "seen").is_success


def test_a_revoked_session_cannot_write(signed_in: LabClient, account: Account) -> None:
    assert signed_in.revoke().is_success
    assert error(signed_in.post(account.did, "never seen")) == (401, "invalid_token")
    assert error(signed_in.refresh()) == (400, "invalid_grant")
