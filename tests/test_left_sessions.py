"""`prefect-bluesky setup --tidy`: the sessions of accounts that are gone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from prefect.blocks.system import Secret

from prefect_bluesky import BlueskyCredentials, sandbox
from prefect_bluesky.prefect_api import read_block_documents
from tests.support import Command, SavedAccount, block

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(autouse=True)
def days_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each session had been stored long ago."""
    monkeypatch.setattr("prefect_bluesky.setup.left_sessions._RECENT", timedelta())


def sessions() -> set[str]:
    """The names of the stored sessions."""
    names = {document.name or "" for document in read_block_documents("secret")}
    return {name for name in names if name.startswith("bluesky-session-")}


def stored(credentials: BlueskyCredentials) -> str:
    """The name of an account's session, which is stored now."""
    credentials.ensure_session()
    return credentials.session_store().place.rpartition(" ")[2]


def test_the_session_of_an_account_without_a_block_is_deleted(command: Command, pds: sandbox.Sandbox) -> None:
    left = stored(block(pds, pds.create_account()))
    account: Any = BlueskyCredentials.load(SavedAccount(pds).name)
    kept = stored(account)
    code, said, _ = command("setup", "--tidy")
    assert (code, f"deleted the session {left}" in said.splitlines()) == (None, True)
    assert (left in sessions(), kept in sessions()) == (False, True)


def test_other_secrets_stay(command: Command) -> None:
    Secret(value="theirs").save("not-a-session", overwrite=True)
    command("setup", "--tidy")
    assert "not-a-session" in {document.name for document in read_block_documents("secret")}


def test_a_session_that_was_stored_lately_stays_as_a_script_may_have_it(
    command: Command, pds: sandbox.Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_bluesky.setup.left_sessions._RECENT", timedelta(days=1))
    recent = stored(block(pds, pds.create_account()))
    command("setup", "--tidy")
    assert recent in sessions()


def test_it_says_if_there_is_nothing_to_delete(command: Command) -> None:
    command("setup", "--tidy")
    assert command("setup", "--tidy")[1] == "There was nothing to delete.\n"
