"""An account's whole history with marked secrets, then a search for each of them in everything that was written."""

import base64
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import uuid4

import pytest
from prefect import Flow, flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, PREFECT_RESULTS_PERSIST_BY_DEFAULT, temporary_settings
from prefect.variables import Variable
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from prefect_bluesky import BlueskyCredentials, Post, sandbox
from prefect_bluesky.sandbox.tokens import Tokens
from tests.canary import History, files, parts, search, settle, shown, tables, team
from tests.granted_history import live, record
from tests.pds.client_host import ClientHost
from tests.pds.server import RealPds
from tests.prefect_server import PrefectServer
from tests.support import LOGIN, WRITE, forget_processes_memory, texts

pytestmark = pytest.mark.slow

LOGGERS = {
    "botocore": logging.INFO,  # first: caplog's own level is that of the last
    **dict.fromkeys(["prefect", "prefect.flow_runs", "prefect.task_runs", "prefect_bluesky"], logging.DEBUG),
    **dict.fromkeys(["httpx", "httpcore"], logging.DEBUG),
}


@pytest.fixture(scope="module")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Prefect server's database, in a directory of its own."""
    return tmp_path_factory.mktemp("database") / "prefect.db"


@pytest.fixture(scope="module")
def prefect_server(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Iterator[str]:
    """A Prefect server on SQLite, whose file can be searched; its API URL."""
    with PrefectServer(tmp_path_factory.mktemp("prefect"), prefect_database).running() as url:
        yield url


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every token that the sandbox signs from now on."""
    signed: list[str] = []
    sign = Tokens.sign

    def keep(self: Tokens, kind: str, claims: Any) -> str:
        signed.append(sign(self, kind, claims))
        return signed[-1]

    monkeypatch.setattr(Tokens, "sign", keep)
    return signed


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """The folder in which every result is kept, those of failures too."""
    with temporary_settings({PREFECT_RESULTS_PERSIST_BY_DEFAULT: True, PREFECT_LOCAL_STORAGE_PATH: tmp_path}):
        yield tmp_path


@pytest.fixture(params=["prefect", "aws"])
def aws(request: pytest.FixtureRequest) -> AwsCredentials | None:
    """The place of the session: the AWS block with a marked key, or none."""
    if request.param == "prefect":
        return None
    found: AwsCredentials = request.getfixturevalue("aws_credentials")
    return found.model_copy(
        update={"aws_access_key_id": uuid4().hex, "aws_secret_access_key": SecretStr(f'k/+ "&\\é{uuid4().hex}=')}
    )


@pytest.fixture
def history(
    pds: sandbox.Sandbox, publish: Flow[Any, Any], tokens: list[str], storage: Path, aws: AwsCredentials | None
) -> History:
    """Sign in, publish, refresh, stumble, fail, recover; with blocks saved, loaded, referred to and passed along."""
    account = pds.create_account(f"a{uuid4().hex}.test")
    main_password = f'main/+ "&\\é{uuid4().hex}='
    pds.change_password(account, main_password)
    second = pds.create_app_password(account)
    marks = {"main password": main_password, "app password": account.app_password, "second app password": second}
    errors: list[BaseException] = []
    shows: list[str] = []

    def block(password: str) -> BlueskyCredentials:
        made = BlueskyCredentials(
            handle=account.handle, app_password=SecretStr(password), service_url=pds.url, aws_credentials=aws
        )
        store = made.session_store()
        shows.extend((repr(made), str(made), made.model_dump_json(), repr(made.model_dump()), repr(store)))
        return made

    def fails(call: Any, *args: Any, **kwargs: Any) -> None:
        with pytest.raises(BaseException) as failure:  # noqa: PT011
            call(*args, **kwargs)
        errors.append(failure.value)

    def read_store(credentials: BlueskyCredentials) -> None:
        saved = credentials.session_store().load()
        assert saved is not None
        shows.extend((repr(saved), str(saved.document), repr(credentials._authenticator())))
        session = saved.document.session
        assert session is None or {session.access_token, session.refresh_token} <= set(tokens)

    # At first: saved, loaded, passed as an object, retried, expired and refreshed.
    name = f"canary-{uuid4().hex[:8]}"
    reference = {"$ref": {"block_document_id": str(block(account.app_password).save(name))}}
    credentials: Any = BlueskyCredentials.load(name)
    pds.fail(LOGIN, status=502)
    pds.fail(WRITE, status=502)
    team(credentials, [])
    read_store(credentials)
    publish(credentials, Post(text="1: as an object"))
    pds.advance(timedelta(hours=3))
    publish(credentials, Post(text="2: refreshed"))
    read_store(credentials)
    forget_processes_memory()
    pds.advance(timedelta(hours=3))
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(
            publish, parameters={"credentials": reference, "post": {"text": "3: by reference"}, "key": None}
        )
        run = client.read_flow_run(run.id)
    run_flow(publish, flow_run=run, parameters=run.parameters)
    client_of_sdk = credentials.get_client()
    client_of_sdk.send_post("4: through the SDK")
    shows.extend((repr(client_of_sdk), str(vars(client_of_sdk))))
    fails(client_of_sdk.com.atproto.repo.delete_record, {"repo": "x", "collection": "y", "rkey": "z"})

    # Other passwords of the account: the main one, which is warned about, and a second one.
    block(main_password).publish("5: with the main password")
    read_store(credentials)
    block(second).publish("6: with a second app password")
    read_store(credentials)

    # The end: everything revoked, and each way to fail.
    for password in (account.app_password, second):
        pds.revoke_app_password(account, password)
    pds.advance(timedelta(hours=3))
    fails(publish, credentials, Post(text="never"))
    fails(team, block(second), [1])
    fails(block(second).publish, "never")
    forget_processes_memory()
    fails(block(second).get_client)
    pds.fail(LOGIN, status=500, message="out of order")
    fails(block(main_password)._authenticator().log_in)
    read_store(credentials)
    given = {"handle": account.handle, "service_url": pds.url}
    fails(BlueskyCredentials, **{**given, "handle": second, "app_password": main_password})
    fails(BlueskyCredentials, **given, app_password=f"'{second}'")
    fails(BlueskyCredentials, **given, app_password=f"{second}\n{main_password}")
    fails(BlueskyCredentials, **given, app_password=second, app_pasword=main_password)
    fails(BlueskyCredentials, **given, app_password=[second])
    fails(BlueskyCredentials.model_validate_json, json.dumps({**given, "app_password": f'"{second}"'}))

    assert [text for text in texts(pds, account) if text[0].isdigit()] == sorted(
        f"{number}: {text}"
        for number, text in enumerate(
            [
                "as an object",
                "refreshed",
                "by reference",
                "through the SDK",
                "with the main password",
                "with a second app password",
            ],
            1,
        )
    )
    marks |= {
        f"{part} of token {number}": text for number, token in enumerate(tokens) for part, text in parts(token).items()
    }
    if aws is not None and aws.aws_secret_access_key is not None:
        marks["AWS secret key"] = aws.aws_secret_access_key.get_secret_value()
    return History(account, marks, errors, shows)


@pytest.fixture
def granted_history(
    real_pds: RealPds,
    publish: Flow[Any, Any],
    storage: Path,
    aws: AwsCredentials | None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[History]:
    """The history of an account by a grant."""
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL", real_pds.plc_url)
    with ClientHost(real_pds) as host:
        yield live(real_pds, host, aws, publish, record(monkeypatch))


@pytest.fixture
def listening(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, at the levels at which a leak would show."""
    for name, level in LOGGERS.items():
        caplog.set_level(level, logger=name)
    return caplog


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("whose", ["history", pytest.param("granted_history", marks=pytest.mark.pds)])
def test_no_secret_is_found_anywhere_after_a_whole_history(
    listening: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    aws: AwsCredentials | None,
    whose: str,
    storage: Path,
    prefect_database: Path,
) -> None:
    history: History = request.getfixturevalue(whose)
    settle(prefect_database)
    said = capfd.readouterr()
    records = [*listening.get_records("setup"), *listening.get_records("call")]
    results = files(storage)
    places = {
        **tables(prefect_database),
        **{f"file {path.name}": path.read_bytes() for path in prefect_database.parent.glob("*")},
        **{f"result {name}": content for name, content in results.items()},
        "log": "\n".join(f"{r.getMessage()} {r.args!r} {r.exc_text}" for r in records).encode(),
        "stdout": said.out.encode(),
        "stderr": said.err.encode(),
        "exceptions": "\n".join(text for error in history.errors for text in shown(error)).encode(),
        "objects": "\n".join(history.shown).encode(),
    }
    assert search(history.marks, places) == set()
    # There was something to search, and the account is in it.
    assert len(history.marks) >= 20
    assert results
    seen = {place for _, place in search({"handle": history.account.handle, "did": history.account.did}, places)}
    assert {"log", "exceptions", "objects", "table flow_run", "table log", "table events", "table artifact"} <= seen
    assert {"httpx", "httpcore"} <= {record.name.split(".")[0] for record in records}


MARK = 'abcd-efgh/+ "&\\é?>~2345'
FORMS = {
    "raw": f"x{MARK}x",
    "in JSON": json.dumps({"a": MARK}),
    "in JSON in JSON": json.dumps(json.dumps([MARK])),
    "in a URL": f"https://x.test/?a={quote(MARK, safe='')}&b=c",
    "in a form": f"a={quote_plus(MARK)}",
    "in Python": repr({"a": [MARK]}),
    "in base64": base64.b64encode(f"{MARK}tail".encode()).decode(),
    "in base64 after one byte": base64.b64encode(f"x{MARK}tail".encode()).decode(),
    "in base64 after two bytes": base64.b64encode(f"xx{MARK}tail".encode()).decode(),
    "in base64 for URLs": base64.urlsafe_b64encode(f"xx{MARK}tail".encode()).decode(),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_the_search_finds_a_secret_in_each_form(text: str) -> None:
    assert search({"mark": MARK, "other": MARK[::-1]}, {"here": text.encode()}) == {("mark", "here")}


@pytest.mark.usefixtures("prefect_api")
def test_the_search_finds_what_is_planted_in_the_database_and_the_log(
    listening: pytest.LogCaptureFixture, prefect_database: Path
) -> None:
    variable, line = (f"planted-{uuid4().hex}" for _ in range(2))
    Variable.set(f"v{uuid4().hex}", {"deep": variable})

    @flow
    def careless() -> None:
        get_run_logger().debug("the secret is %s", line)

    careless()
    settle(prefect_database)
    places = {**tables(prefect_database), "log": listening.text.encode()}
    found = search({"variable": variable, "line": line}, places)
    assert {("variable", "table variable"), ("line", "table log"), ("line", "log")} <= found
    raw = {path.name: path.read_bytes() for path in prefect_database.parent.glob("*")}
    assert {name for name, _ in search({"variable": variable}, raw)} == {"variable"}
