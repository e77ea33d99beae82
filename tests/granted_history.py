"""The whole history of an account by a grant, with all that its owner, its client and its server keep secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from prefect_bluesky import BlueskyCredentials, BlueskyOAuthClient, Post
from prefect_bluesky.protocol.oauth import SigningKey, Tokens
from tests.canary import History, parts, team
from tests.pds.client_host import ClientHost
from tests.pds.consent import consent
from tests.pds.server import RealPds
from tests.support import forget_processes_memory, texts


def record(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the marks of all keys that are made, and all tokens that are given, from now on."""
    marks: dict[str, str] = {}
    make, read = SigningKey.new, Tokens.of

    def new(cls: type[SigningKey]) -> SigningKey:
        key = make()
        marks[f"private key {len(marks)}"] = json.loads(key.to_text())["d"]
        return key

    def of(cls: type[Tokens], *given: Any) -> Tokens:
        tokens = read(*given)
        number = len(marks)
        marks.update({f"{part} of token {number}": text for part, text in parts(tokens.access_token).items()})
        marks[f"refresh token {number}"] = tokens.refresh_token.removeprefix("ref-")
        return tokens

    monkeypatch.setattr(SigningKey, "new", classmethod(new))
    monkeypatch.setattr(Tokens, "of", classmethod(of))
    return marks


@contextmanager
def _unheard() -> Iterator[None]:
    """Leave out of the log what the owner's browser does: its address has the code."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class _Account:
    """An account of a grant, with what was raised and shown of it."""

    def __init__(self, pds: RealPds, host: ClientHost, aws: AwsCredentials | None, marks: dict[str, str]) -> None:
        self.pds, self.host, self.aws, self.marks = pds, host, aws, marks
        self.account = pds.create_account()
        self.errors: list[BaseException] = []
        self.shown: list[str] = []
        marks["main password"] = self.account.password
        self.name = self.account.handle.replace(".", "-")
        self.save(BlueskyOAuthClient(url=host.url, key=BlueskyOAuthClient.new_key()))

    def save(self, client: BlueskyOAuthClient) -> None:
        """Save the client and the account, and put the client's files on its host."""
        files = client.files()
        for name, text in files.items():
            self.host.put(name, text.encode())
        self.host.reread()
        client.save(self.name, overwrite=True)
        block = BlueskyCredentials(
            handle=self.account.handle, service_url=self.pds.url, oauth_client=client, aws_credentials=self.aws
        )
        self.reference = {"$ref": {"block_document_id": str(block.save(self.name, overwrite=True))}}
        for each in (client, block):
            self.shown += [repr(each), str(each), each.model_dump_json(), repr(each.model_dump())]
        self.shown += [*files.values(), repr(client.clients()), repr(block.session_store())]

    def load(self) -> Any:
        """Return the account's block, as a worker that has just started loads it."""
        forget_processes_memory()
        return BlueskyCredentials.load(self.name)

    def fails(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Let a call fail, and keep its error."""
        with pytest.raises(BaseException) as failure:  # noqa: PT011
            call(*args, **kwargs)
        self.errors.append(failure.value)

    def visit(self) -> None:
        """Let the owner grant two sessions; the first address is pasted wrongly at first."""
        visit = self.load().visit()
        older = ""
        for is_spare in (False, True):
            link = visit.link()
            self.shown.append(f"{visit!r} {visit._asked!r}")
            with _unheard():
                address = consent(link, self.account)
            (code,) = parse_qs(urlsplit(address).query)["code"]
            self.marks[f"code {len(self.marks)}"] = code.removeprefix("cod-")
            for wrong in (address.replace("state=", "state=x"), address.replace("iss=", "iss=x"), code, older):
                self.fails(visit.take, wrong, is_spare=is_spare)
            self.shown.append(repr(visit.take(address, is_spare=is_spare)))
            older = address

    def read_store(self) -> None:
        """Look at what is stored."""
        credentials = self.load()
        saved = credentials.session_store().load()
        assert saved is not None
        self.shown += [repr(saved), str(saved.document), repr(credentials._authenticator())]

    def let_token_expire(self) -> None:
        """Let the stored access token have expired, by the clock of whoever reads it next."""
        store = self.load().session_store()
        saved = store.load()
        assert saved is not None
        session = saved.document.session
        aged = replace(session, received_at=session.received_at - session.lifetime)
        store.save(replace(saved.document, session=aged), saved)
        forget_processes_memory()


def live(
    pds: RealPds, host: ClientHost, aws: AwsCredentials | None, publish: Flow[Any, Any], marks: dict[str, str]
) -> History:
    """Visit, publish, refresh, stumble, be refused, go on by the spare session, lose all, and begin again."""
    me = _Account(pds, host, aws, marks)

    me.fails(publish, me.load(), Post(text="never"))
    me.visit()
    team(me.load(), [])
    publish(me.load(), Post(text="1: as an object"))
    me.let_token_expire()
    publish(me.load(), Post(text="2: refreshed"))
    me.read_store()
    with get_client(sync_client=True) as client:
        given = {"credentials": me.reference, "post": {"text": "3: by reference"}, "key": None}
        run = client.read_flow_run(client.create_flow_run(publish, parameters=given).id)
    run_flow(publish, flow_run=run, parameters=run.parameters)
    client_of_sdk = me.load().get_client()
    client_of_sdk.send_post("4: through the SDK")
    me.shown += [repr(client_of_sdk), str(vars(client_of_sdk))]

    # A right that is missing, an outage of the token endpoint, and an answer that is lost.
    me.fails(me.load().delete_post, f"at://{me.account.did}/app.bsky.feed.post/3aaaaaaaaaaaa")
    me.fails(client_of_sdk.com.atproto.repo.delete_record, {"repo": me.account.did, "collection": "x.y.z", "rkey": "z"})
    me.let_token_expire()
    with pds.trouble("/oauth/token", "failing", 9):
        me.fails(team, me.load(), [1])
    with pds.trouble("/oauth/token", "dropped"):
        me.fails(me.load().ensure_session)
    publish(me.load(), Post(text="5: by the spare session"))
    me.read_store()
    me.shown.append(me.load().diagnose().to_markdown())

    # Another key, another visit, and the end of everything.
    saved = BlueskyOAuthClient.load(me.name)
    assert isinstance(saved, BlueskyOAuthClient)
    me.save(saved.with_new_key())
    me.visit()
    publish(me.load(), Post(text="6: by another key"))
    me.load().sign_out()
    me.fails(publish, me.load(), Post(text="never"))
    me.fails(me.load().publish, "never")
    me.fails(me.load().get_client)
    me.shown.append(me.load().diagnose().to_markdown())
    me.read_store()

    # What people do to the fields of a client.
    key = saved.key.get_secret_value() if saved.key else ""
    url = {"url": host.url}
    for fields in (
        {**url, "key": f"'{key}'"},
        {**url, "key": key[:-5]},
        {**url, "key": [key]},
        {**url, "key": SecretStr(key), "older_key": f"{key}x"},
        {"url": key, "key": key},
        {**url, "key": key, "rights": key},
        {"key": key},
    ):
        me.fails(BlueskyOAuthClient, **fields)
        me.fails(BlueskyCredentials, handle=me.account.handle, oauth_client=fields)
        me.fails(BlueskyOAuthClient.model_validate_json, json.dumps({**fields, "key": f"{fields['key']}"}))

    numbered = [text for text in texts(pds, me.account) if text[0].isdigit()]
    assert [text[0] for text in numbered] == list("123456")
    return History(me.account, marks, me.errors, me.shown)
