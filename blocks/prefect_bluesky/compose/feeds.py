"""Read sources of ideas: feeds and folders of Markdown or text files."""

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
"""The largest part of a feed that is read."""

_SUFFIXES = {".md", ".markdown", ".txt"}


@dataclass(frozen=True)
class Item:
    """An idea of a source: its unique name there (a feed entry's id or a file's path), and parameters of `compose`."""

    name: str
    parameters: dict[str, str]
    published_at: datetime | None


def read_items(source: str, storage: str = "") -> list[Item]:
    """Return the items, newest first, of an RSS or Atom feed's URL or of a folder, which may be in a storage block.

    Raises:
        InvalidInput: the source is neither a feed nor a folder.
        SourceUnavailable: the source cannot be read; retryable if a server may answer later.
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
    # Pass a file object, because the parser first tries bytes as a path.
    feed = feedparser.parse(
        BytesIO(fetched.data), response_headers={"content-location": fetched.url, "content-type": fetched.content_type}
    )
    if not feed.get("version"):
        raise InvalidInput("source", f"{url} is no RSS or Atom feed.", "Give the address of the feed, not of the page.")
    for entry in feed.entries:
        link = entry.get("link", "")
        if is_url(link):
            moment = entry.get("published_parsed") or entry.get("updated_parsed")
            at = datetime.fromtimestamp(timegm(moment), UTC) if moment else None
            yield Item(entry.get("id") or link, {"idea": link}, at)


def _in_folder(source: str) -> Iterator[Item]:
    # Absolute, because the run that reads a file may have another working directory.
    folder = Path(source).expanduser().resolve()
    if not folder.is_dir():
        raise SourceUnavailable(source, "the folder does not exist on the machine of this run.")
    for file in folder.rglob("*"):
        if file.suffix.lower() in _SUFFIXES and file.is_file():
            at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            yield Item(str(file.relative_to(folder)), {"file": str(file)}, at)


def _in_storage(folder: str, storage: str) -> Iterator[Item]:
    block = load_block(storage, "storage")
    if not hasattr(block, "list_objects"):
        remedy = "Name an S3 Bucket block, or give a folder of the machine."
        raise InvalidInput("storage", f"{storage} cannot list its files.", remedy)
    try:
        objects = block.list_objects(folder)
    except Exception as trouble:  # each kind of storage has its own errors
        reason = f"the folder cannot be listed: {type(trouble).__name__}: {trouble}"
        raise SourceUnavailable(f"{storage}: {folder}", reason, retryable=True) from trouble
    for each in objects:
        path = str(each["Key"])
        if PurePosixPath(path).suffix.lower() in _SUFFIXES:
            yield Item(path, {"file": path, "storage": storage}, each.get("LastModified"))
