"""The search for secrets: each in all its encodings, in everything that was written."""

import base64
import json
import sqlite3
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus
from uuid import uuid4

import pytest
from prefect import flow, get_run_logger
from prefect.events import emit_event

from prefect_bluesky import BlueskyCredentials, ensure_session, publish_post
from tests.support import Account

DEADLINE = 60


@flow(retries=1, retry_delay_seconds=0)
def team(credentials: BlueskyCredentials, stumbles: list[int]) -> str:
    """Publish as another team's flow does, which stumbles at first unless it has stumbled."""
    ensure_session.with_options(retry_delay_seconds=0)(credentials)
    published = publish_post.with_options(retry_delay_seconds=0)(credentials, "by a team")
    if not stumbles:
        stumbles.append(1)
        raise RuntimeError(f"stumbled over {credentials} and {credentials._authenticator()!r}")
    return published.uri


def forms(mark: str) -> set[bytes]:
    """A secret as it is, and in the encodings that it may have met on its way."""
    escaped = json.dumps(mark)[1:-1]
    texts = {mark, escaped, json.dumps(escaped)[1:-1], repr(mark)[1:-1], quote(mark, safe=""), quote_plus(mark)}
    found = {text.encode() for text in texts}
    raw = mark.encode()
    for shift, first in enumerate((0, 2, 3)):
        # Only the characters that do not depend on what stands before and after it.
        core = base64.b64encode(bytes(shift) + raw)[first : (shift + len(raw)) // 3 * 4]
        found |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def search(marks: dict[str, str], places: dict[str, bytes]) -> set[tuple[str, str]]:
    """The names of the marks that were found, each with its place; never the marks themselves."""
    wanted = {name: forms(mark) for name, mark in marks.items()}
    return {
        (name, place)
        for place, content in places.items()
        for name, encoded in wanted.items()
        if any(form in content for form in encoded)
    }


def parts(token: str) -> dict[str, str]:
    """The identifying parts of a token: its claims and its signature. The header is the same for all."""
    _, claims, signature = token.split(".")
    return {"claims": claims, "signature": signature}


def shown(error: BaseException, *before: BaseException) -> Iterator[str]:
    """All that may be printed of an exception, of its causes, and of what it hides; `before` was printed already."""
    yield from ("".join(traceback.format_exception(error)), str(error), repr(error), repr(error.args))
    for other in {error.__cause__, error.__context__} - {None, error, *before}:
        assert other is not None
        yield from shown(other, error, *before)


def tables(database: Path) -> dict[str, bytes]:
    """All text and bytes in the Prefect server's database, by table."""
    found: dict[str, bytes] = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in names:
            rows: Iterable[tuple[Any, ...]] = connection.execute(f'SELECT * FROM "{name}"')
            values = (value for row in rows for value in row if isinstance(value, str | bytes))
            found[f"table {name}"] = b"\n".join(v.encode() if isinstance(v, str) else v for v in values)
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; also without line breaks, which some base64 is wrapped with."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found[path.name] = content + b"\n" + content.replace(b"\\n", b"").replace(b"\n", b"")
    return found


def settle(database: Path) -> None:
    """Wait until the logs and events of this process lie in the server's database."""
    mark = f"last-{uuid4().hex}"

    @flow
    def last() -> None:
        get_run_logger().info(mark)
        emit_event(mark, resource={"prefect.resource.id": mark})

    last()
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = tables(database)
        if all(mark.encode() in found[f"table {table}"] for table in ("log", "events")):
            return
        time.sleep(0.2)
    pytest.fail(f"logs and events did not arrive within {DEADLINE} s")


class History(NamedTuple):
    """The secrets of an account, the errors raised, and the text of the objects."""

    account: Account
    marks: dict[str, str]
    errors: list[BaseException]
    shown: list[str]
