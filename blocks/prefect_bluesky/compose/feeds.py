"""Places where ideas come in one after the other: a feed, a folder of Markdown files."""

from __future__ import annotations

from calendar import timegm
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path, PurePosixPath

from prefect_bluesky.errors import InvalidInput, SourceUnavailable
from prefect_bluesky.extras import extra
from prefect_bluesky.media import is_url, read_url
from prefect_bluesky.prefect_api import load_block

MAX_BYTES = 10_000_000
"""What is read of a feed."""

_SUFFIXES = {".md", ".markdown", ".txt"}


@dataclass(frozen=True)
class Item:
    """An idea that a source has.

    Args:
        name: what tells it from all others of the source: a feed's own id for it, or a file's path.
        parameters: the parameters of `compose` that say where it is.
        published_at: since when it is there, if the source says so.
    """

    name: str
    parameters: dict[str, str]
    published_at: datetime | None


def read_items(source: str, storage: str = "") -> list[Item]:
    """What a source has, the newest first.

    Args:
        source: the URL of an RSS or Atom feed; or a folder's path.
        storage: the Prefect block that the folder lies in, such as s3-bucket/ideas.

    Raises:
        InvalidInput: it is no feed and no folder.
        SourceUnavailable: it cannot be read; retryable where a server may answer a little later.
    """
    if not source and not storage:
        raise InvalidInput("source", "it is missing.", "Give the URL of a feed, or a folder.")
    if storage:
        items = list(_in_storage(source, storage))
    elif is_url(source):
        items = list(_in_feed(source))
    else:
        items = list(_in_folder(source))
    oldest = datetime.min.replace(tzinfo=UTC)
    return sorted(items, key=lambda item: (item.published_at or oldest, item.name), reverse=True)


def _in_feed(url: str) -> Iterator[Item]:
    with extra("compose", "source"):
        import feedparser

    fetched = read_url(url, max_bytes=MAX_BYTES)
    # As a file: what it is given as bytes it takes for a path first.
    feed = feedparser.parse(
        BytesIO(fetched.data), response_headers={"content-location": fetched.url, "content-type": fetched.content_type}
    )
    if not feed.get("version"):
        raise InvalidInput("source", f"{url} is no RSS or Atom feed.", "Give the feed's own address, not the page's.")
    for entry in feed.entries:
        link = entry.get("link", "")
        if not is_url(link):
            continue
        moment = entry.get("published_parsed") or entry.get("updated_parsed")
        at = datetime.fromtimestamp(timegm(moment), UTC) if moment else None
        yield Item(entry.get("id") or link, {"idea": link}, at)


def _in_folder(source: str) -> Iterator[Item]:
    # In full: the run that reads a file may have another working directory.
    folder = Path(source).expanduser().resolve()
    if not folder.is_dir():
        raise SourceUnavailable(source, "there is no such folder, on the machine that looks.")
    for file in folder.rglob("*"):
        if file.suffix.lower() in _SUFFIXES and file.is_file():
            at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            yield Item(str(file.relative_to(folder)), {"file": str(file)}, at)


def _in_storage(folder: str, storage: str) -> Iterator[Item]:
    place = f"{storage}: {folder}"
    block = load_block(storage, "storage")
    if not hasattr(block, "list_objects"):
        raise InvalidInput(
            "storage", f"{storage} cannot list its files.", "Name an S3 Bucket block, or a folder of the machine."
        )
    try:
        objects = block.list_objects(folder)
    except Exception as trouble:  # each kind of storage has errors of its own
        raise SourceUnavailable(
            place, f"it cannot be listed: {type(trouble).__name__}: {trouble}", retryable=True
        ) from trouble
    for each in objects:
        path = str(each["Key"])
        if PurePosixPath(path).suffix.lower() in _SUFFIXES:
            yield Item(path, {"file": path, "storage": storage}, each.get("LastModified"))
