"""The command `prefect-bluesky oauth-client`, on the sandbox and on a real PDS: another key, or one that leaked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from prefect_bluesky import AuthError, BlueskyCredentials
from prefect_bluesky.sessions.granted_session import GrantedSession
from tests.contract.causes import NOWHERE
from tests.contract.granted import Granted, let_token_expire
from tests.contract.hosts import Host
from tests.contract.test_authorize import load, make_client, name_of, save
from tests.support import Account, Command, Pds, forget_processes_memory, texts

pytestmark = pytest.mark.usefixtures("prefect_api", "directory")


@pytest.fixture
def credentials(command: Command, host: Host, account: Account, pds: Pds, tmp_path: Path) -> BlueskyCredentials:
    """The block of an account whose owner has granted access to a client with a key."""
    made = save(account, pds, make_client(command, account, host, tmp_path, "--url", host.url))
    visit(made, pds, account)
    return made


def visit(credentials: BlueskyCredentials, pds: Pds, account: Account) -> None:
    """Let the owner come."""
    coming = credentials.visit()
    for is_spare in (False, True):
        coming.take(pds.consent(account, coming.link()), is_spare=is_spare)


def stolen(credentials: BlueskyCredentials, pds: Pds, account: Account) -> list[Granted]:
    """Copies of what is stored, in the hands of somebody else."""
    saved = credentials.session_store().load()
    assert saved
    found = [Granted.copied(pds, account, saved.document.session), Granted.copied(pds, account, saved.document.spare)]
    assert [each.post("by somebody else").status_code for each in found] == [200, 200]
    return found


def statuses(copies: list[Granted]) -> list[int]:
    answers: list[httpx.Response] = [each.post("too late") for each in copies]
    return [each.status_code for each in answers]


def test_another_key_leaves_the_sessions_of_the_older_one(
    command: Command, host: Host, credentials: BlueskyCredentials, account: Account, pds: Pds, tmp_path: Path
) -> None:
    credentials.publish("by the older key")
    make_client(command, account, host, tmp_path, "--rotate")
    host.reread()
    let_token_expire(credentials, pds)
    forget_processes_memory()
    load(account).publish("after another key came")
    assert sorted(texts(pds, account)) == ["after another key came", "by the older key"]


def test_one_command_ends_all_that_was_granted_to_a_key_that_has_leaked(
    command: Command, host: Host, credentials: BlueskyCredentials, account: Account, pds: Pds, tmp_path: Path
) -> None:
    copies = stolen(credentials, pds, account)
    before = json.loads((tmp_path / "client-metadata.json").read_text())["jwks"]["keys"]
    client = make_client(command, account, host, tmp_path, "--revoke")
    host.reread()
    assert statuses(copies) == [401, 401]
    after = json.loads((tmp_path / "client-metadata.json").read_text())["jwks"]["keys"]
    assert [len(after), before[0] in after, client.older_key] == [1, False, None]
    forget_processes_memory()
    with pytest.raises(AuthError, match="grant_missing"):
        load(account).publish("never seen")
    visit(load(account), pds, account)
    load(account).publish("after another visit")
    assert "after another visit" in texts(pds, account)


def test_sessions_that_could_not_be_ended_are_named_and_the_key_is_changed_nevertheless(
    command: Command, host: Host, credentials: BlueskyCredentials, account: Account, tmp_path: Path
) -> None:
    store = credentials.session_store()
    saved = store.load()
    assert saved
    assert isinstance(saved.document.session, GrantedSession)
    away = replace(saved.document.session, pds_url=NOWHERE)
    store.save(replace(saved.document, session=away), saved)
    code, said, _ = command("oauth-client", name_of(account), "--revoke", "--into", str(tmp_path))
    assert code == 1
    assert f"The sessions of {name_of(account)} may live on." in said
    after = load(account).oauth_client
    assert credentials.oauth_client
    assert after
    assert after.key != credentials.oauth_client.key


def test_the_sessions_of_one_account_are_ended_alone(
    command: Command, credentials: BlueskyCredentials, account: Account, pds: Pds
) -> None:
    copies = stolen(credentials, pds, account)
    assert command("authorize", name_of(account), "--revoke")[0] is None
    assert statuses(copies) == [401, 401]


@pytest.mark.parametrize("option", ["--rotate", "--revoke"])
def test_a_key_of_a_client_that_is_not_saved_is_not_made(
    option: str, command: Command, credentials: BlueskyCredentials, account: Account
) -> None:
    name = name_of(account)
    assert f"Did you mean bluesky-oauth-client/{name}?" in str(command("oauth-client", f"{name}x", option)[0])


def test_a_saved_client_is_not_moved_to_another_url(
    command: Command, credentials: BlueskyCredentials, account: Account
) -> None:
    said = command("oauth-client", name_of(account), "--url", "https://elsewhere.test/bot")[0]
    assert str(said).startswith(f"--url: {name_of(account)} is saved with https://client-")
