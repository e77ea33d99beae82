"""Read the files that a post attaches: from a path, a URL, a Prefect block, or the post itself."""

from __future__ import annotations

import inspect
import re
from base64 import b64decode, b64encode
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urljoin

from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from prefect_bluesky.errors import InvalidInput, SourceUnavailable
from prefect_bluesky.prefect_api import as_form, load_block
from prefect_bluesky.settings import current_settings
from prefect_bluesky.web import Fetched, Page, fetch, read_page, redacted, title_of

_NO_FILES = {"text/html", "application/xhtml+xml", "application/json"}
"""Content types of no file that a post can attach."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def is_url(source: str) -> bool:
    """Return True if a source is a URL."""
    return _SCHEME.match(source) is not None


def _is_relative(source: str) -> bool:
    return not is_url(source) and not source.startswith(("/", "~")) and not Path(source).is_absolute()


def resolve_files(document: File, value: Any) -> Any:
    """Return a post or an idea, in which the relative paths of files start at the document that it was read from.

    Raises:
        InvalidInput: a file would be outside the document's own storage.
    """
    if isinstance(value, tuple):
        return tuple(resolve_files(document, each) for each in value)
    if not isinstance(value, BaseModel):
        return value
    changed = {name: resolve_files(document, old) for name, old in value}
    if isinstance(value, File) and not value.storage and not is_url(value.source):
        if not _is_relative(value.source):
            if document.storage or is_url(document.source):
                # The writers of the document may have no right to read the worker's files.
                reason = f"{value.source!r} is outside the storage of {document.source}."
                raise InvalidInput("source", reason, "Move the file there, and give a relative path.")
            return value
        base = document.source
        path = urljoin(base, value.source) if is_url(base) else str(PurePosixPath(base).parent / value.source)
        changed |= {"source": path, "storage": document.storage}
    return value.model_copy(update=changed)


def read_url(url: str, *, max_bytes: int, keep_truncated: bool = False) -> Fetched:
    """Fetch a URL that a person or a page gave, as the settings allow; raise as `fetch` does."""
    settings = current_settings()
    return fetch(
        url,
        max_bytes=max_bytes,
        timeout=settings.fetch_timeout,
        allow_private=settings.allow_private_addresses,
        keep_truncated=keep_truncated,
    )


def read_web_page(url: str, *, max_bytes: int) -> tuple[Fetched, Page]:
    """Fetch a page, or its beginning, and what it says about itself; raise as `fetch` does.

    A page that sends its reader on at once, as addresses that have moved do, is left for the next one.
    """
    fetched = read_url(url, max_bytes=max_bytes, keep_truncated=True)
    page = read_page(fetched)
    if page.next_url and page.next_url != fetched.url:
        fetched = read_url(page.next_url, max_bytes=max_bytes, keep_truncated=True)
        page = read_page(fetched)
    return fetched, page


def read_file(file: File, field: str, *, max_bytes: int) -> bytes:
    """Return the bytes of a file; `field` is its name in the post, for errors.

    Raises:
        InvalidInput: the source is unusable, or the file is larger than `max_bytes`.
        SourceUnavailable: the file cannot be read. Retryable if a server may answer later.
    """
    try:
        data = _read(file, field, max_bytes)
    except SourceUnavailable as trouble:
        raise SourceUnavailable(f"{field}, {trouble.source}", trouble.reason, retryable=trouble.retryable) from trouble
    if len(data) > max_bytes:
        raise InvalidInput(field, f"it has more than {max_bytes:,} bytes.", "Make the file smaller.")
    return data


def map_file(file: File, field: str, *, max_bytes: int) -> bytes | mmap:
    """Return a file's bytes as `read_file` does; a file on this machine is mapped, and not read into memory."""
    if file.storage or is_url(file.source):
        return read_file(file, field, max_bytes=max_bytes)
    path = Path(file.source).expanduser()
    with suppress(OSError, ValueError, RuntimeError):  # `read_file` says what is wrong
        if path.is_file() and 0 < path.stat().st_size <= max_bytes:
            with path.open("rb") as opened:
                return mmap(opened.fileno(), 0, access=ACCESS_READ)
    return read_file(file, field, max_bytes=max_bytes)


def _read(file: File, field: str, max_bytes: int) -> bytes:
    if file.storage:
        return _from_block(file.source, file.storage)
    scheme = _SCHEME.match(file.source)
    match scheme and scheme[1].lower():
        case "data":
            return _from_data_url(file.source, field)
        case "http" | "https":
            fetched = read_url(file.source, max_bytes=max_bytes)
            if fetched.content_type not in _NO_FILES:
                return fetched.data
            title = title_of(fetched.data)
            reason = f"the answer is a web page{f', “{title}”,' if title else ''} and no file. Check the URL."
            # A captive portal or a firewall answers so, too.
            raise SourceUnavailable(redacted(fetched.url), reason, retryable=True)
        case "s3" | "gs" | "az" | "ftp" | "file":
            reason = f"{redacted(file.source)!r} is neither a path nor an https:// URL."
            raise InvalidInput(field, reason, "Name the Prefect block as its storage.")
        case _:
            return _from_path(file.source, max_bytes)


def _from_data_url(url: str, field: str) -> bytes:
    header, _, data = url.partition(",")
    if header.endswith(";base64"):
        with suppress(ValueError):
            return b64decode(data, validate=True)
    raise InvalidInput(field, "the data URL holds no base64.", "In Python, give the bytes themselves.")


def _from_path(source: str, max_bytes: int) -> bytes:
    try:
        path = Path(source).expanduser()
        if "%" in source and not path.exists() and (decoded := Path(unquote(source)).expanduser()).exists():
            path = decoded  # copied from where it was written as an address
        # A device or a pipe may never end.
        if path.exists() and not path.is_file():
            raise SourceUnavailable(source, "it is not a file, on the machine that publishes.")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except (OSError, ValueError, RuntimeError) as trouble:  # such as a NUL in the name, or an unknown home
        reason = trouble.strerror if isinstance(trouble, OSError) and trouble.strerror else str(trouble)
        raise SourceUnavailable(source, f"{reason}, on the machine that publishes.") from trouble


def _from_block(source: str, storage: str) -> bytes:
    place = f"{storage}: {source}"
    try:
        block = load_block(storage, "storage")
    except InvalidInput as unusable:
        raise SourceUnavailable(place, f"{unusable.reason} {unusable.remedy}") from None
    read = getattr(block, "read_path", None)
    if read is None:
        raise SourceUnavailable(place, f"a block of this type holds no files: {type(block).__name__}.")
    try:
        data = read(source)
        return bytes(run_coro_as_sync(data) if inspect.iscoroutine(data) else data)
    except Exception as trouble:  # each kind of storage raises different errors
        is_missing = isinstance(trouble, ValueError | FileNotFoundError)
        reason = f"it cannot be read: {type(trouble).__name__}: {trouble}"
        raise SourceUnavailable(place, reason, retryable=not is_missing) from trouble


_SHOWN_SOURCE = 80


def _as_text(source: Any) -> Any:
    """Turn bytes into a data URL, so that every post is JSON."""
    if isinstance(source, bytes | bytearray):
        return f"data:;base64,{b64encode(source).decode()}"
    return str(source) if isinstance(source, Path) else source


Source = Annotated[str, BeforeValidator(_as_text)]


class File(BaseModel):
    """A file, given by its path or URL; in Python also by its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, json_schema_extra=as_form)

    source: Source = Field(
        title="Source",
        description="A path on the machine that publishes, an https:// URL, or a path within the storage block.",
        examples=["pictures/cat.jpg", "https://example.com/cat.jpg"],
        min_length=1,
    )
    storage: str | None = Field(
        default=None,
        title="Storage block",
        description="The file's Prefect block, by type and name, such as s3-bucket/pictures. If empty, none.",
        examples=["s3-bucket/pictures", "local-file-system/pictures"],
        # Few people need this field, so it comes after the fields that Image, Video and Captions add.
        json_schema_extra={"position": 10},
    )

    @model_validator(mode="before")
    @classmethod
    def _from_source(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str | bytes | bytearray | Path) else value

    @field_validator("storage")
    @classmethod
    def _names_a_block(cls, storage: str | None) -> str | None:
        if not storage:
            return None
        kind, _, name = storage.partition("/")
        if not kind or not name or "/" in name:
            raise ValueError(f"{storage!r} does not name a block. Write its type and name, such as s3-bucket/pictures.")
        return storage

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            # A data URL may have megabytes.
            yield name, f"{value[:_SHOWN_SOURCE]}…" if name == "source" and len(value) > _SHOWN_SOURCE else value
