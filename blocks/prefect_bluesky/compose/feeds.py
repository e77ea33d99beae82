"""Read sources of ideas: feeds and folders of Markdown or text files."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from io import BytesIO
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from prefect_bluesky.errors import InvalidInput, SourceUnavailable
from prefect_bluesky.extras import extra
from prefect_bluesky.media import is_draft, is_url, read_url, split_front_matter
from prefect_bluesky.posts import is_web_address
from prefect_bluesky.prefect_api import load_block, logger

MAX_BYTES = 10_000_000
"""The largest part of a feed that is read."""

_HIDDEN = (".", "_", "~")
"""How names of files begin that programs keep for themselves: `.git`, `.trash`, `_drafts`, `~$post.md`."""

_MOST_FRONT_MATTER = 20_000
"""Characters of a file that are read for its front matter."""

_LONGEST_LINK = 4_000

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
    for number, entry in enumerate(feed.entries, 1):
        item = _entry(entry, feed.feed)
        if item is None:
            title = entry.get("title") or f"item {number}"
            logger().warning("%s: “%s” is left out, as it has neither a link nor a text.", url, title)
        else:
            yield item


def _entry(entry: Any, feed: Any) -> Item | None:
    """Return the item of a feed's entry, or None if there is nothing to say or to lead to."""
    at = _moment(entry.get("published_parsed")) or _moment(entry.get("updated_parsed"))
    link = _web_address(entry.get("link"))
    if link and not _is_enclosure(entry, link):
        return Item(entry.get("id") or link, {"link": link}, at)
    # An episode of a podcast has a sound in place of a page.
    said = "\n\n".join(filter(None, (entry.get("title", ""), _text_of(entry.get("summary", "")))))
    sounds = (_web_address(each.get("href")) for each in entry.get("enclosures", []))
    link = next(filter(None, sounds), None) or _web_address(feed.get("link"))
    if not said.strip():
        return None
    name = entry.get("id") or f"{link} {entry.get('title', '')}"
    return Item(name, {"idea": said, **({"link": link} if link else {})}, at)


def _is_enclosure(entry: Any, link: str) -> bool:
    """Return whether a link is only the name of an entry that has a file: a guid which is no page."""
    return bool(entry.get("enclosures")) and link == entry.get("id") and not _alternates(entry)


def _alternates(entry: Any) -> list[str]:
    return [each.get("href", "") for each in entry.get("links", []) if each.get("rel") == "alternate"]


def _web_address(link: str | None) -> str | None:
    # People and generators leave spaces in addresses.
    address = "%20".join((link or "").split())
    return address if len(address) <= _LONGEST_LINK and is_web_address(address) else None


def _text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", html)).strip()


def _moment(parsed: Any) -> datetime | None:
    """Return a date of a feed, or None if it is none of our time."""
    try:
        at = datetime.fromtimestamp(timegm(parsed), UTC) if parsed else None
    except (ValueError, OverflowError, OSError):
        return None
    return at if at and 1990 <= at.year < 2200 else None


def _in_folder(source: str) -> Iterator[Item]:
    # Absolute, because the run that reads a file may have another working directory.
    folder = Path(source).expanduser().resolve()
    if not folder.is_dir():
        raise SourceUnavailable(source, "the folder does not exist on the machine of this run.")
    for file in folder.rglob("*"):
        path = file.relative_to(folder)
        if _is_idea(path) and file.is_file() and not _is_draft(file):
            at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            yield Item(str(path), {"file": str(file)}, at)


def _is_idea(path: PurePath) -> bool:
    """Return whether a file is one that a person has put there as an idea."""
    hidden = any(part.startswith(_HIDDEN) or part == "node_modules" for part in path.parts)
    return path.suffix.lower() in _SUFFIXES and not hidden


def _is_draft(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8-sig") as text:
            fields, _ = split_front_matter(text.read(_MOST_FRONT_MATTER), "file")
    except (OSError, UnicodeDecodeError, InvalidInput):
        return False  # the run of the file says what is wrong with it
    return is_draft(fields)


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
        if _is_idea(PurePosixPath(path)):
            yield Item(path, {"file": path, "storage": storage}, each.get("LastModified"))
