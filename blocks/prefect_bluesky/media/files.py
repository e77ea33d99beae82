"""The bytes of a file that a post attaches: from a path, a URL, a Prefect block, or the post itself."""

from __future__ import annotations

import inspect
import re
from base64 import b64decode, b64encode
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import urljoin

from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from prefect_bluesky.errors import InvalidInput, SourceUnavailable
from prefect_bluesky.prefect_api import as_form, load_block
from prefect_bluesky.settings import current_settings
from prefect_bluesky.web import Fetched, fetch, redacted

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def is_url(source: str) -> bool:
    """Whether a source is a URL."""
    return _SCHEME.match(source) is not None


def is_relative(source: str) -> bool:
    """Whether a source is a path that leads on from somewhere: no URL, and from no root."""
    return not is_url(source) and not source.startswith(("/", "~")) and not Path(source).is_absolute()


def join_path(source: str, relative: str) -> str:
    """A relative path as it leads on from where another source lies."""
    if is_url(source):
        return urljoin(source, relative)
    return str(PurePosixPath(source).parent / relative)


def resolve_files(document: File, value: Any) -> Any:
    """A post or an idea with its files where they are meant, seen from the document that it stands in.

    Args:
        document: where that lies.
        value: the post, or a part of it.

    Raises:
        InvalidInput: a file would lie elsewhere than in the document's own storage.
    """
    if isinstance(value, tuple):
        return tuple(resolve_files(document, each) for each in value)
    if not isinstance(value, BaseModel):
        return value
    changed = {name: resolve_files(document, old) for name, old in value}
    if isinstance(value, File) and not value.storage and not is_url(value.source):
        if not is_relative(value.source):
            if document.storage or is_url(document.source):
                # Who writes there need not be somebody who may read files of the worker.
                raise InvalidInput(
                    "source", f"{value.source!r} leads out of where {document.source} lies.", "Put it there."
                )
            return value
        changed |= {"source": join_path(document.source, value.source), "storage": document.storage}
    return value.model_copy(update=changed)


def read_url(url: str, *, max_bytes: int, keep_truncated: bool = False) -> Fetched:
    """What lies behind a URL that a person or a page gave, within what the settings allow.

    Args:
        url: the URL.
        max_bytes: what is read at most.
        keep_truncated: whether the beginning is enough, if there is more.

    Raises:
        SourceUnavailable: it cannot be read; retryable where a server may answer a little later.
    """
    settings = current_settings()
    return fetch(
        url,
        max_bytes=max_bytes,
        timeout=settings.fetch_timeout,
        allow_private=settings.allow_private_addresses,
        keep_truncated=keep_truncated,
    )


def read_file(file: File, field: str, *, max_bytes: int) -> bytes:
    """The bytes of a file.

    Args:
        file: where it lies.
        field: its name in the post, for an error.
        max_bytes: what is read at most.

    Raises:
        InvalidInput: it cannot be what it is meant to be.
        SourceUnavailable: it cannot be read; retryable where a server may answer a little later.
    """
    try:
        data = _read(file, field, max_bytes)
    except SourceUnavailable as trouble:
        raise SourceUnavailable(f"{field}, {trouble.source}", trouble.reason, retryable=trouble.retryable) from trouble
    if len(data) > max_bytes:
        raise InvalidInput(field, f"it has more than {max_bytes:,} bytes.", "Make it smaller.")
    return data


def _read(file: File, field: str, max_bytes: int) -> bytes:
    if file.storage:
        return _from_block(file.source, file.storage)
    scheme = _SCHEME.match(file.source)
    match scheme and scheme[1].lower():
        case "data":
            return _from_data_url(file.source, field)
        case "http" | "https":
            return read_url(file.source, max_bytes=max_bytes).data
        case "s3" | "gs" | "az" | "ftp" | "file":
            raise InvalidInput(
                field,
                f"{redacted(file.source)!r} is no path and no https:// URL.",
                "Name the Prefect block as its storage.",
            )
        case _:
            return _from_path(file.source, max_bytes)


def _from_data_url(url: str, field: str) -> bytes:
    header, _, data = url.partition(",")
    broken = InvalidInput(field, "the data URL holds no base64.", "In Python, give the bytes themselves.")
    if not header.endswith(";base64"):
        raise broken
    try:
        return b64decode(data, validate=True)
    except ValueError:
        raise broken from None


def _from_path(source: str, max_bytes: int) -> bytes:
    try:
        path = Path(source).expanduser()
        # A device or a pipe may never end.
        if path.exists() and not path.is_file():
            raise SourceUnavailable(source, "it is no file, on the machine that publishes.")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except (OSError, ValueError, RuntimeError) as trouble:  # a NUL in the name; a home that nobody has
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
    except Exception as trouble:  # each kind of storage has errors of its own
        is_missing = isinstance(trouble, ValueError | FileNotFoundError)
        raise SourceUnavailable(
            place, f"it cannot be read: {type(trouble).__name__}: {trouble}", retryable=not is_missing
        ) from trouble


_SHOWN_SOURCE = 80


def _as_text(source: Any) -> Any:
    """Bytes become a data URL, so that a post is JSON wherever it comes from."""
    if isinstance(source, bytes | bytearray):
        return f"data:;base64,{b64encode(source).decode()}"
    return str(source) if isinstance(source, Path) else source


Source = Annotated[str, BeforeValidator(_as_text)]


class File(BaseModel):
    """A file by its path or URL; in Python also by its bytes."""

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
        description=(
            "The Prefect block that the file lies in, by type and name, such as s3-bucket/pictures. Left out: no block."
        ),
        examples=["s3-bucket/pictures", "local-file-system/pictures"],
        # Few need it: it comes after what an image, a video or captions add.
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
            raise ValueError(
                f"{storage!r} does not name a block. Write its type and its name, such as s3-bucket/pictures."
            )
        return storage

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            # A data URL may be megabytes.
            yield name, f"{value[:_SHOWN_SOURCE]}…" if name == "source" and len(value) > _SHOWN_SOURCE else value
