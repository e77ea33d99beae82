"""The three stores: alike in what they promise."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from prefect_bluesky.errors import StoreConflict, StoreDamaged
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.document import Refusal, SessionDocument
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.stores.aws import AwsSessionStore
from prefect_bluesky.sessions.stores.aws_secret import AwsSecret
from prefect_bluesky.sessions.stores.base import SessionStore
from prefect_bluesky.sessions.stores.memory import MemorySessionStore
from prefect_bluesky.sessions.stores.prefect import PrefectSessionStore
from tests.test_session import NOW, session, token

PASSWORD = "https://bsky.social abcd-efgh-2345-6723"
MADE_WITH = Fingerprint.of(PASSWORD)
DOCUMENT = SessionDocument().with_session(session(), MADE_WITH)


def renewed(exp: int) -> SessionDocument:
    """The document after a refresh."""
    return DOCUMENT.with_session(session(access_token=token(exp=exp)), MADE_WITH)


RENEWED = renewed(9000)


@pytest.fixture(params=["memory", "prefect", "aws"])
def store(request: pytest.FixtureRequest) -> Iterator[SessionStore]:
    """A place where nothing lies yet, in each of the stores."""
    name = f"session-{uuid4().hex}"
    match request.param:
        case "memory":
            yield MemorySessionStore(name)
        case "prefect":
            request.getfixturevalue("prefect_api")
            yield PrefectSessionStore(name)
        case "aws":
            yield AwsSessionStore(
                AwsSecret(request.getfixturevalue("aws_credentials"), f"prefect-bluesky/{name}/session")
            )


def test_nothing_lies_there_at_first(store: SessionStore) -> None:
    assert store.load() is None


def test_a_saved_document_is_loaded(store: SessionStore) -> None:
    saved = store.save(DOCUMENT, None)
    assert store.load() == saved
    assert saved.document == DOCUMENT


def test_a_newer_document_replaces_the_one_that_was_read(store: SessionStore) -> None:
    saved = store.save(DOCUMENT, None)
    renewed = store.save(RENEWED, saved)
    assert store.load() == renewed
    assert renewed.document == RENEWED


def test_the_first_of_two_first_saves_wins(store: SessionStore) -> None:
    store.save(DOCUMENT, None)
    with pytest.raises(StoreConflict):
        store.save(RENEWED, None)
    found = store.load()
    assert found is not None
    assert found.document == DOCUMENT


def test_the_first_of_two_replacements_wins(store: SessionStore) -> None:
    read = store.save(DOCUMENT, None)
    winner = store.save(RENEWED, read)
    with pytest.raises(StoreConflict):
        store.save(renewed(9999), read)
    assert store.load() == winner


def test_many_replacements_in_a_row_each_name_the_last(store: SessionStore) -> None:
    saved = store.save(DOCUMENT, None)
    for number in range(5):
        saved = store.save(renewed(9000 + number), saved)
    assert store.load() == saved


def test_no_message_shows_what_lies_there(store: SessionStore) -> None:
    store.save(DOCUMENT, None)
    with pytest.raises(StoreConflict) as conflict:
        store.save(DOCUMENT, None)
    assert "eyJ" not in f"{conflict.value} {conflict.value!r} {store!r} {store.load()!r}"


class TestDocument:
    """Stored documents."""

    FULL = replace(
        DOCUMENT,
        logins=(NOW, NOW),
        refusal=Refusal(AuthProblem.APP_PASSWORD_REJECTED, MADE_WITH, NOW, NOW, 401, "AuthenticationRequired"),
    )

    def test_a_fingerprint_matches_only_the_credential_it_was_taken_of(self) -> None:
        assert MADE_WITH.matches(PASSWORD)
        assert not MADE_WITH.matches("https://bsky.social zzzz-zzzz-zzzz-zzzz")

    def test_a_stored_session_has_no_app_password(self) -> None:
        assert "abcd-efgh" not in DOCUMENT.to_json()

    def test_two_fingerprints_of_one_password_differ(self) -> None:
        assert Fingerprint.of(PASSWORD) != MADE_WITH

    @pytest.mark.parametrize("document", [DOCUMENT, FULL, SessionDocument()], ids=["plain", "full", "empty"])
    def test_a_document_is_read_as_it_was_written(self, document: SessionDocument) -> None:
        assert SessionDocument.from_json(document.to_json(), place="here") == document

    def test_a_document_of_an_older_release_is_read(self) -> None:
        assert SessionDocument.from_json(VERSION_1, place="here") == DOCUMENT

    def test_a_cause_that_only_a_newer_release_knows_is_no_damage(self) -> None:
        text = self.FULL.to_json().replace("app_password_rejected", "app_password_eaten")
        assert SessionDocument.from_json(text, place="here") == replace(self.FULL, refusal=None)

    def test_logins_of_the_last_day_count(self) -> None:
        document = SessionDocument(logins=(NOW - timedelta(hours=25), NOW - timedelta(hours=23)))
        assert document.with_login(NOW).logins == (NOW - timedelta(hours=23), NOW)


VERSION_1 = json.dumps(
    {
        "format": "prefect-bluesky/session",
        "version": 1,
        "did": session().did,
        "handle": "alice.test",
        "pds_url": "https://pds.test",
        "access_token": token(),
        "refresh_token": token(jti="r"),
        "received_at": "2026-11-22T12:00:00+00:00",
        "fingerprint": MADE_WITH.to_text(),
    }
)


def damaged(**changes: Any) -> str:
    """The document's JSON with some fields of it or of its session changed, or left out if None."""
    content = json.loads(DOCUMENT.to_json())
    for name, value in changes.items():
        target = content["session"] if name in content["session"] else content
        target[name] = value
        if value is None:
            del target[name]
    return json.dumps(content)


DAMAGES = {
    "not JSON": ("{", "not JSON"),
    "empty": ("", "not JSON"),
    "a list": ("[]", "format"),
    "somebody else's": ('{"username": "admin", "password": "hunter2"}', "format"),
    "from the future": (damaged(version=4), "version"),
    "of no version": (damaged(version="hunter2"), "version"),
    "without a DID": (damaged(did=None), "session.did"),
    "with a number for a handle": (damaged(handle=7), "session.handle"),
    "without an access token": (damaged(access_token=None), "session.access_token"),
    "with a cut access token": (damaged(access_token="eyJhb"), "access_token"),
    "with a line break in a token": (damaged(refresh_token=token() + "\n"), "refresh_token"),
    "of another account": (damaged(did="did:plc:somebodyelse"), "access_token"),
    "without a time": (damaged(received_at="yesterday"), "received_at"),
    "without a zone": (damaged(received_at="2026-11-22T12:00:00"), "received_at"),
    "with half a fingerprint": (damaged(made_with="abc"), "made_with"),
    "with a broken fingerprint": (damaged(made_with="%%%:%%%"), "made_with"),
    "with logins that are none": (damaged(logins="hunter2"), "logins"),
    "of version 1 without a handle": (json.dumps({**json.loads(VERSION_1), "handle": ""}), "session.handle"),
}


@pytest.mark.parametrize(("text", "field"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_document_is_named_with_its_field_and_the_remedy(text: str, field: str) -> None:
    with pytest.raises(StoreDamaged, match=field) as damage:
        SessionDocument.from_json(text, place="AWS secret x")
    said = str(damage.value)
    assert said.startswith("AWS secret x: ")
    assert "signs in again" in said or "Upgrade" in said
    assert "eyJ" not in said
    assert "hunter2" not in said


def test_memory_is_shared_by_the_stores_of_one_account_only() -> None:
    account = uuid4().hex
    saved = MemorySessionStore(account).save(DOCUMENT, None)
    assert MemorySessionStore(account).load() == saved
    assert MemorySessionStore(account + " of somebody else").load() is None
