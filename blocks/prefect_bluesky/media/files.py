"""Read the files that a post attaches: from a path, a URL, a Prefect block, or the post itself."""

from __future__ import annotations

import inspect
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from os import SEEK_END
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import Annotated, Any, BinaryIO
from urllib.parse import unquote, urljoin

from prefect.blocks.abstract import ObjectStorageBlock
from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from prefect_bluesky.errors import InvalidInput, SourceUnavailable
from prefect_bluesky.prefect_api import Written, as_form, load_block
from prefect_bluesky.settings import current_settings
from prefect_bluesky.web import Fetched, Page, fetch, read_page, redacted, title_of

_NO_FILES = {"text/html", "application/xhtml+xml", "application/json"}
"""Content types of no file that a post can attach."""

_MAX_HEAD = 100_000
"""Bytes of a file that are looked at for the title of a page in its place."""

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
    changed = {name: resolve_files(document, getattr(value, name)) for name in type(value).model_fields}
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


def missing_files(value: Any) -> Iterator[str]:
    """Yield the paths in a post that name no file on this machine."""
    if isinstance(value, tuple):
        for each in value:
            yield from missing_files(each)
    elif isinstance(value, BaseModel):
        if isinstance(value, File) and not value.storage and not is_url(value.source) and not _is_here(value.source):
            yield value.source
        for name in type(value).model_fields:
            yield from missing_files(getattr(value, name))


def _is_here(source: str) -> bool:
    try:
        return _path_of(source).exists()
    except (OSError, ValueError, RuntimeError):  # as for `_from_path`, which says what is wrong
        return False


def read_url(url: str, *, max_bytes: int, keep_truncated: bool = False, into: BinaryIO | None = None) -> Fetched:
    """Fetch a URL that a person or a page gave, as the settings allow; raise as `fetch` does."""
    settings = current_settings()
    return fetch(
        url,
        max_bytes=max_bytes,
        timeout=settings.fetch_timeout,
        allow_private=settings.allow_private_addresses,
        keep_truncated=keep_truncated,
        into=into,
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
    with _named(field):
        if file.storage:
            data = _from_block(file.source, file.storage)
        elif _is_web_url(file.source):
            data = _without_pages(read_url(file.source, max_bytes=max_bytes))
        else:
            data = _from_here(file.source, field, max_bytes)
    if len(data) > max_bytes:
        raise _too_large(field, max_bytes)
    return data


def map_file(file: File, field: str, *, max_bytes: int) -> bytes | mmap:
    """Return a file's bytes as `read_file` does, mapped from the disk, so that a large file is never in memory whole.

    A file from elsewhere is first written to a temporary file. A storage block has to be able to do that; of a block
    that only returns bytes, the bytes are returned.
    """
    if file.storage or _is_web_url(file.source):
        with _named(field), TemporaryFile() as kept:
            if not file.storage:
                fetched = read_url(file.source, max_bytes=max_bytes, into=kept)
                kept.seek(0)
                _without_pages(replace(fetched, data=kept.read(_MAX_HEAD)))
            elif not _copied_from_block(file.source, file.storage, kept):
                return read_file(file, field, max_bytes=max_bytes)
            return _mapped(kept, field, max_bytes)
    path = Path(file.source).expanduser() if not is_url(file.source) else None
    with suppress(OSError, ValueError, RuntimeError):  # `read_file` says what is wrong
        if path and path.is_file():
            with path.open("rb") as opened:
                return _mapped(opened, field, max_bytes)
    return read_file(file, field, max_bytes=max_bytes)


def _mapped(opened: BinaryIO, field: str, max_bytes: int) -> bytes | mmap:
    size = opened.seek(0, SEEK_END)
    if size > max_bytes:
        raise _too_large(field, max_bytes)
    return mmap(opened.fileno(), 0, access=ACCESS_READ) if size else b""  # an empty file cannot be mapped


def _too_large(field: str, max_bytes: int) -> InvalidInput:
    return InvalidInput(field, f"it has more than {max_bytes:,} bytes.", "Make the file smaller.")


@contextmanager
def _named(field: str) -> Iterator[None]:
    """Add the name of a field to the error of a source."""
    try:
        yield
    except SourceUnavailable as trouble:
        raise SourceUnavailable(f"{field}, {trouble.source}", trouble.reason, retryable=trouble.retryable) from trouble


def _is_web_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _without_pages(fetched: Fetched) -> bytes:
    """Return the content of a file; raise if a web page was answered in its place."""
    if fetched.content_type not in _NO_FILES:
        return fetched.data
    title = title_of(fetched.data)
    reason = f"the answer is a web page{f', “{title}”,' if title else ''} and no file. Check the URL."
    # A captive portal or a firewall answers so, too.
    raise SourceUnavailable(redacted(fetched.url), reason, retryable=True)


def _from_here(source: str, field: str, max_bytes: int) -> bytes:
    """Return a file of this machine, or the bytes that the source itself holds."""
    scheme = _SCHEME.match(source)
    match scheme and scheme[1].lower():
        case "data":
            return _from_data_url(source, field)
        case "s3" | "gs" | "az" | "ftp" | "file":
            reason = f"{redacted(source)!r} is neither a path nor an https:// URL."
            raise InvalidInput(field, reason, "Name the Prefect block as its storage.")
        case _:
            return _from_path(source, max_bytes)


def _from_data_url(url: str, field: str) -> bytes:
    header, _, data = url.partition(",")
    if header.endswith(";base64"):
        with suppress(ValueError):
            return b64decode(data, validate=True)
    raise InvalidInput(field, "the data URL holds no base64.", "In Python, give the bytes themselves.")


def _from_path(source: str, max_bytes: int) -> bytes:
    try:
        path = _path_of(source)
        # A device or a pipe may never end.
        if path.exists() and not path.is_file():
            raise SourceUnavailable(source, "it is not a file on the machine that publishes. Name a file.")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except (OSError, ValueError, RuntimeError) as trouble:  # such as a NUL in the name, or an unknown home
        reason = trouble.strerror if isinstance(trouble, OSError) and trouble.strerror else str(trouble)
        what = "there is no such file" if isinstance(trouble, FileNotFoundError) else reason
        raise SourceUnavailable(source, f"{what} on the machine that publishes. Correct the path.") from trouble


def _path_of(source: str) -> Path:
    path = Path(source).expanduser()
    if "%" in source and not path.exists() and (decoded := Path(unquote(source)).expanduser()).exists():
        return decoded  # copied from where it was written as an address
    return path


def _from_block(source: str, storage: str) -> bytes:
    with _block(source, storage) as block:
        read = getattr(block, "read_path", None)
        if read is None:
            raise SourceUnavailable(
                f"{storage}: {source}", f"a block of this type holds no files: {type(block).__name__}."
            )
        return bytes(_awaited(read(source)))


def _copied_from_block(source: str, storage: str, into: BinaryIO) -> bool:
    """Write a file of a block into another one, and return True if this kind of block can do that."""
    with _block(source, storage) as block:
        if not isinstance(block, ObjectStorageBlock):
            return False
        _awaited(block.download_object_to_file_object(source, into))
        return True


@contextmanager
def _block(source: str, storage: str) -> Iterator[Any]:
    """Load a storage block, whose errors about a file become those of the source."""
    place = f"{storage}: {source}"
    try:
        block = load_block(storage, "storage")
    except InvalidInput as unusable:
        raise SourceUnavailable(place, f"{unusable.reason} {unusable.remedy}") from None
    try:
        yield block
    except SourceUnavailable:
        raise
    except Exception as trouble:  # each kind of storage raises different errors
        is_missing = isinstance(trouble, ValueError | FileNotFoundError)
        reason = f"it cannot be read: {type(trouble).__name__}: {trouble}"
        raise SourceUnavailable(place, reason, retryable=not is_missing) from trouble


def _awaited(answer: Any) -> Any:
    return run_coro_as_sync(answer) if inspect.iscoroutine(answer) else answer


_SHOWN_SOURCE = 80


def _as_text(source: Any) -> Any:
    """Turn bytes into a data URL, so that every post is JSON."""
    if isinstance(source, bytes | bytearray):
        return f"data:;base64,{b64encode(source).decode()}"
    return str(source) if isinstance(source, Path) else source


Source = Annotated[str, BeforeValidator(_as_text)]


class File(Written):
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
