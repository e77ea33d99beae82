"""The recipes of docs/recipes.md, run as they stand there."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.flows import load_flow_from_entrypoint
from pydantic import SecretStr

from prefect_bluesky import AuthError, MastodonCredentials, sandbox
from prefect_bluesky.alerts.incidents import Reporter
from prefect_bluesky.errors import StoreConflict
from prefect_bluesky.planning.saved_accounts import load_parameter
from prefect_bluesky.sandbox import Account, Sandbox
from tests import mastodon_server, pages
from tests.support import LOGIN, REFRESH, Pds, block, counted, forget_processes_memory, texts
from tests.worker import let_session_end

PAGE = "docs/recipes.md"

Recipe = Callable[..., Any]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe as a module, by its heading."""
    monkeypatch.syspath_prepend(tmp_path)
    return partial(pages.run, tmp_path, PAGE)


@pytest.fixture
def pds(prefect_api: str) -> Iterator[Sandbox]:
    """A PDS of one test, and a Prefect API."""
    with sandbox.run() as pds:
        yield pds


@pytest.fixture
def alice(pds: Sandbox) -> Account:
    account: Account = saved(pds, "alice")
    return account


def saved(pds: Pds, name: str) -> Any:
    """An account whose block is saved."""
    account = pds.create_account()
    block(pds, account).save(name, overwrite=True)
    forget_processes_memory()
    return account


def test_each_recipe_is_run_here() -> None:
    tests = Path(__file__).read_text()
    assert [call for call in pages.calls(PAGE) if f"recipe({call}" not in tests] == []


def test_in_a_flow_a_release_is_announced_once(recipe: Recipe, pds: Sandbox, alice: Account) -> None:
    announce = recipe("In a flow").announce
    assert announce("2.0") == announce("2.0")
    assert texts(pds, alice) == ["2.0 is out! #release"]


def test_in_an_async_flow_a_release_is_announced_once(recipe: Recipe, pds: Sandbox, alice: Account) -> None:
    announce = recipe("In an async flow").announce_async
    assert asyncio.run(announce("2.0")) == asyncio.run(announce("2.0"))
    assert texts(pds, alice) == ["2.0 is out!"]


def test_over_many_accounts_one_that_cannot_sign_in_stops_no_other(
    recipe: Recipe, pds: Sandbox, alice: Account
) -> None:
    bob, carol = saved(pds, "bob"), saved(pds, "carol")
    pds.revoke_app_password(bob)
    (failure,) = recipe("Over many accounts").tell_everybody(["alice", "bob", "carol"], "Hello")
    assert bob.handle in failure
    assert [texts(pds, each) for each in (alice, bob, carol)] == [["Hello"], [], ["Hello"]]


def test_on_every_channel_a_release_is_announced(recipe: Recipe, pds: Sandbox, alice: Account) -> None:
    with mastodon_server.run() as mastodon:
        token = SecretStr(mastodon.token)
        MastodonCredentials(instance_url=mastodon.url, access_token=token).save("alice", overwrite=True)
        urls = recipe("On every channel").announce_everywhere("2.0")
        assert (texts(pds, alice), mastodon.texts()) == (["2.0 is out!"], ["2.0 is out!"])
    assert len(urls) == 2


@pytest.mark.slow
def test_on_dask_the_session_travels_by_its_store(recipe: Recipe, pds: Sandbox, alice: Account) -> None:
    credentials = block(pds, alice)
    credentials.ensure_session()
    let_session_end(credentials)
    with counted(pds) as requests:
        announced = recipe("On Dask").announce_each(["2.0", "2.1", "2.2", "2.3"])
    assert len(set(announced)) == 4
    assert (requests.get(LOGIN, 0), requests[REFRESH]) == (0, 1)
    assert len(texts(pds, alice)) == 4


@pytest.mark.pds
def test_with_the_sdks_client_an_account_is_followed(recipe: Recipe, prefect_api: str, real_pds: Pds) -> None:
    alice, bob = saved(real_pds, "alice"), real_pds.create_account()
    uri = recipe("With the SDK's client").follow_back(bob.did)
    assert uri.startswith(f"at://{alice.did}/app.bsky.graph.follow/")


def test_in_a_deployment_of_your_own_a_saved_block_is_named_without_its_secret(
    recipe: Recipe, pds: Sandbox, alice: Account
) -> None:
    good_morning = recipe("In a deployment of your own").good_morning
    parameters: dict[str, Any] = recipe("In a deployment of your own", 1).parameters
    assert alice.app_password not in str(parameters)
    good_morning(**good_morning.validate_parameters(parameters))
    assert texts(pds, alice) == ["Good morning!"]


def test_in_your_tests_a_release_is_announced_once(recipe: Recipe) -> None:
    recipe("In your tests").test_a_release_is_announced()


def fields(block: Any) -> dict[str, Any]:
    """Return the fields of a block."""
    return {name: getattr(block, name) for name in type(block).model_fields}


class TestAnotherPlace:
    """`BlueskyCredentials`, derived from."""

    @pytest.fixture
    def made(self, recipe: Recipe, pds: Sandbox, alice: Account, tmp_path: Path) -> Any:
        return recipe("Another place for the session").OurCredentials(
            handle=alice.handle,
            app_password=alice.app_password,
            service_url=pds.url,
            database=str(tmp_path / "sessions.db"),
        )

    def test_the_session_is_kept_there(self, pds: Sandbox, made: Any) -> None:
        with counted(pds) as requests:
            made.ensure_session()
            forget_processes_memory()
            assert made.ensure_session().action == "reused"
        assert requests == {LOGIN: 1}

    def test_a_session_that_another_worker_saved_is_adopted(self, pds: Sandbox, made: Any) -> None:
        store = made.session_store()
        made.ensure_session()
        read = store.load()
        made.keep_alive(timedelta())
        with pytest.raises(StoreConflict, match="another worker saved first"):
            store.save(read.document, read)

    def test_another_is_told_of_a_refused_app_password(
        self, pds: Sandbox, alice: Account, made: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        made.save("ours", overwrite=True)
        pds.revoke_app_password(alice)
        with caplog.at_level(logging.ERROR, "accounts"), pytest.raises(AuthError):
            made.ensure_session()
        (record,) = [each for each in caplog.records if each.name == "accounts"]
        assert "app password" in record.message

    def test_additional_fields_distinguish_two_derived_blocks(self, made: Any, tmp_path: Path) -> None:
        other = made.model_copy(update={"database": str(tmp_path / "others.db")})
        assert (made.ensure_session().action, other.ensure_session().action) == ("logged_in", "logged_in")

    def test_a_reporter_that_fails_hides_no_cause(self, pds: Sandbox, alice: Account, made: Any) -> None:
        class Broken(Reporter):
            def failed(self, *args: Any, **kwargs: Any) -> bool:
                raise ConnectionError

        class WithBroken(type(made)):  # type: ignore[misc]
            _block_type_slug = "with-broken-reporter"

            def reporter(self) -> Reporter:
                return Broken(uuid4())

        pds.revoke_app_password(alice)
        with pytest.raises(AuthError):
            WithBroken(**fields(made)).ensure_session()

    def test_a_derived_block_may_use_another_account(self, made: Any) -> None:
        class Asking(type(made)):  # type: ignore[misc]
            _block_type_slug = "asking"

            def reporter(self) -> Reporter:
                assert made.did is None
                return super().reporter()  # type: ignore[no-any-return]

        assert Asking(**fields(made)).ensure_session().action == "logged_in"

    def test_a_derived_block_is_saved_and_loaded_as_its_own_type(self, made: Any) -> None:
        made.save("ours", overwrite=True)
        assert type(made).load("ours").database == made.database

    def test_publish_held_finds_it_by_what_the_run_was_given(self, made: Any) -> None:
        saved = made.save("ours", overwrite=True)
        assert type(load_parameter({"$ref": {"block_document_id": str(saved)}})) is type(made)

    def test_compose_does_not_take_it_for_another(self, made: Any) -> None:
        made.save("ours", overwrite=True)
        compose: Any = load_flow_from_entrypoint(f"{pages.ROOT}/flows/compose.py:compose")
        state = compose(idea="Hello", channels=("our-bluesky-credentials/ours",), review=False, return_state=True)
        assert "its block type is a custom one" in state.message
