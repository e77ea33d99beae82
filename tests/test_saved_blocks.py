"""Blocks that are saved in Prefect, loaded one by one or all in one request: nobody can tell which."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from prefect_bluesky import BlueskyCredentials, BlueskyError
from prefect_bluesky.planning import saved_accounts
from prefect_bluesky.planning.saved_accounts import load, load_many, saved_names
from tests.support import change_saved


@pytest.fixture(params=[1, 1_000], ids=["in one request", "one by one"])
def from_how_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """From how many on they are loaded in one request."""
    monkeypatch.setattr(saved_accounts, "_MANY", request.param)


def save() -> str:
    """Save a block; its name."""
    name = f"account-{uuid4().hex[:8]}"
    BlueskyCredentials(handle=f"{name}.test", app_password=SecretStr("abcd-efgh-ijkl-mnop")).save(name)
    return name


@pytest.mark.usefixtures("prefect_api", "from_how_many")
class TestLoadMany:
    """Several at once."""

    def test_they_are_what_one_by_one_would_be(self) -> None:
        names = [save(), save()]
        found = load_many(names)
        assert list(found) == names
        for name, credentials in found.items():
            assert credentials == load(name)
            assert isinstance(credentials, BlueskyCredentials)
            assert credentials.app_password == SecretStr("abcd-efgh-ijkl-mnop")
            assert credentials._block_document_id == load(name)._block_document_id

    @pytest.mark.parametrize("fields", [{"handle": "no handle"}, {"handle": None}, {"service_url": 5}])
    def test_an_unusable_block_is_named_and_stops_no_other(self, fields: dict[str, Any]) -> None:
        well, broken = save(), save()
        change_saved(broken, fields)
        found = load_many([well, broken])
        with pytest.raises((BlueskyError, ValueError)) as why:
            load(broken)
        assert isinstance(found[well], BlueskyCredentials)
        assert (type(found[broken]), str(found[broken])) == (why.type, str(why.value))

    def test_a_missing_block_is_named(self) -> None:
        found = load_many([save(), "nobody"])
        with pytest.raises(ValueError, match="nobody") as why:
            load("nobody")
        assert str(found["nobody"]) == str(why.value)


def test_before_the_first_block_is_registered_there_are_none(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlueskyCredentials, "get_block_type_slug", lambda: f"never-registered-{uuid4().hex}")
    assert saved_names() == []
