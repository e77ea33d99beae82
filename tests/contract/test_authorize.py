"""An account whose owner grants access by OAuth, on the sandbox and on a real PDS: from the command to posts."""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import pytest

from prefect_bluesky import AuthError, AuthProblem, BlueskyCredentials, BlueskyOAuthClient, Image, Post
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.prefect_api import given_block
from tests.contract.hosts import Host
from tests.support import Account, Command, Pds, picture, texts

pytestmark = pytest.mark.usefixtures("prefect_api", "directory")


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pds: Pds, account: Account) -> list[str]:
    """An owner at the terminal, who consents to each link that is printed. The list has what is typed before that."""
    typed: list[str] = []
    shown = ""

    def answer(*_: object) -> str:
        nonlocal shown
        shown += capsys.readouterr().out
        if typed:
            return typed.pop(0)
        return pds.consent(account, re.findall(r"http://\S+/oauth/authorize\S+", shown)[-1])

    monkeypatch.setattr(builtins, "input", answer)
    return typed


def name_of(account: Account) -> str:
    """The name of the account's block, and of its client's."""
    return account.handle.replace(".", "-")


def save(account: Account, pds: Pds, client: BlueskyOAuthClient) -> BlueskyCredentials:
    """Save the account's block, and load it as a flow does."""
    BlueskyCredentials(handle=account.handle, service_url=pds.url, oauth_client=client).save(name_of(account))
    return load(account)


def load(account: Account) -> BlueskyCredentials:
    return given_block(name_of(account), BlueskyCredentials, "account")


def make_client(command: Command, account: Account, host: Host, folder: Path, *options: str) -> BlueskyOAuthClient:
    """Make a client by the command, and put its files on the web."""
    code, said, _ = command("oauth-client", name_of(account), *options, "--into", str(folder))
    assert code is None, said
    for file in folder.iterdir():
        host.put(file.name, file.read_bytes())
    return given_block(name_of(account), BlueskyOAuthClient, "client")


@pytest.mark.parametrize("kind", ["to try", "hosted"])
def test_an_owner_grants_access_and_posts_go_out(
    kind: str, command: Command, owner: list[str], host: Host, account: Account, pds: Pds, tmp_path: Path
) -> None:
    url = ["--url", host.url] if kind == "hosted" else []
    credentials = save(account, pds, make_client(command, account, host, tmp_path, *url))
    owner += ["http://127.0.0.1/callback"]
    code, said, _ = command("authorize", name_of(account))
    assert code is None, said
    assert "The spare session is stored, too." in said

    credentials.publish("a text")
    thread = credentials.publish(["first", "second"])
    credentials.publish(Post(text="a picture", images=[Image(source=picture(4, 4), alt="Red")]))
    assert sorted(texts(pds, account)) == ["a picture", "a text", "first", "second"]
    with pytest.raises(AuthError, match="insufficient_scope"):
        credentials.delete_post(thread)
    credentials.publish("after a refusal")
    diagnosis = credentials.diagnose(log_in=True)
    assert diagnosis.problem is None, diagnosis.to_markdown()


def test_a_block_without_a_client_is_told_what_to_do(command: Command, account: Account, pds: Pds) -> None:
    block = BlueskyCredentials(handle=account.handle, app_password=account.app_password, service_url=pds.url)
    block.save(name_of(account))
    remedy = "Save a Bluesky OAuth Client, and pick it in the account's block."
    assert command("authorize", name_of(account))[0] == f"oauth_client: it is missing. {remedy}"


def test_an_account_without_a_grant_says_so(account: Account, pds: Pds) -> None:
    credentials = save(account, pds, BlueskyOAuthClient())
    with pytest.raises(AuthError, match="grant_missing"):
        credentials.publish("never seen")
    assert credentials.diagnose().problem is AuthProblem.GRANT_MISSING


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "https://a.test"}, "key: it is missing."),
        ({"key": BlueskyOAuthClient.new_key()}, "url: it is missing."),
        ({"url": "http://a.test", "key": BlueskyOAuthClient.new_key()}, "is not the https:// URL of a folder."),
        ({"url": "https://a.test", "key": "hunter2"}, "key: the text is no private key for ES256."),
        ({"rights": "create delet"}, "rights: there is no right 'delet'. Did you mean delete?"),
        ({"rights": " "}, "rights: there are none. Write create."),
    ],
    ids=str,
)
def test_a_client_that_cannot_be_used_is_named_by_its_field(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        BlueskyOAuthClient(**fields)
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_key_under_a_misspelt_name_is_not_kept() -> None:
    fields: dict[str, Any] = {"older_kye": "hunter2"}
    assert "hunter2" not in str(BlueskyOAuthClient(**fields).model_dump())
