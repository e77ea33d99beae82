"""The repository of an account: records, commits and uploaded blobs."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from .clock import Clock
from .identifiers import Tids, blob_cid, record_cid
from .lexicon import Invalid, Path, is_blob_ref, string
from .refusal import Refusal, bad_request, server_error
from .schemas import RECORDS

MAX_WRITES = 200
ANY_RECORD: Final = "any"
"""A value of `Write.swap`: any stored record may be replaced."""

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"%PDF": "application/pdf",
}


class Action(StrEnum):
    """The kind of a write."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True)
class Record:
    """A stored record and the hash of its content."""

    cid: str
    value: dict[str, Any]


@dataclass(frozen=True)
class Write:
    """A checked change to one record, with its final key; not made yet."""

    action: Action
    collection: str
    rkey: str
    record: Record | None = None
    validation_status: str | None = None
    swap: str | None = ANY_RECORD
    """The CID that the stored record must have, None for no record, or `ANY_RECORD`."""


@dataclass(frozen=True)
class Commit:
    """A change of the whole repository."""

    cid: str
    rev: str


@dataclass
class Blob:
    """Uploaded bytes; `in_use` is True once a record refers to the blob."""

    mime_type: str
    content: bytes = field(repr=False)
    in_use: bool = False


class Repo:
    """The records of one account.

    Example:
        >>> repo = Repo("did:plc:abc", Clock(), Tids())
        >>> write = repo.prepare(Action.CREATE, "com.example.note", {"text": "hi"}, rkey="first")
        >>> repo.commit([write]).rev
        '3...'
    """

    def __init__(self, did: str, clock: Clock, tids: Tids) -> None:
        self.did = did
        self._clock = clock
        self._tids = tids
        self._records: dict[tuple[str, str], Record] = {}
        self._blobs: dict[str, Blob] = {}
        self.head = self._next_commit()

    def uri(self, collection: str, rkey: str) -> str:
        """Return the AT URI of a record."""
        return f"at://{self.did}/{collection}/{rkey}"

    def get(self, collection: str, rkey: str) -> Record | None:
        """Return a record, or None."""
        return self._records.get((collection, rkey))

    def records_of(self, collection: str) -> list[tuple[str, Record]]:
        """Return the keys and records of a collection, in the order in which they were written."""
        return [(rkey, record) for (name, rkey), record in self._records.items() if name == collection]

    def collections(self) -> Sequence[str]:
        """Return the names of the collections that contain records."""
        return sorted({collection for collection, _ in self._records})

    def prepare(
        self,
        action: Action,
        collection: str,
        value: dict[str, Any],
        *,
        rkey: str | None = None,
        validate: bool | None = None,
        swap: str | None = ANY_RECORD,
        path: Path = ("record",),
    ) -> Write:
        """Check a record and return the write.

        Args:
            action: create or update.
            collection: the record's type.
            value: the record as JSON; a missing `$type` is added.
            rkey: the record's key; by default a new TID.
            validate: False checks nothing; True refuses unknown types; None checks only known types.
            swap: see `Write.swap`.
            path: the record's place in the request, for messages.

        Raises:
            Refusal: the record breaks the schema of its type.
        """
        value = {**copy.deepcopy(value)}
        if value.setdefault("$type", collection) != collection:
            raise bad_request(f"Invalid $type: expected {collection}, got {value['$type']}")
        rkey = rkey or self._tids.next(self._clock.now())
        status = None if validate is False else _validated(collection, rkey, value, validate, path)
        return Write(action, collection, rkey, Record(record_cid(value), value), status, swap)

    def commit(self, writes: Sequence[Write], swap_commit: str | None = None) -> Commit:
        """Make all writes or none.

        Raises:
            Refusal: the repository or a record differs from the expected one (InvalidSwap), a blob is missing or
                misdeclared, a created key is taken, or a deleted or updated key is missing (both 500, as on a PDS).
        """
        if swap_commit and swap_commit != self.head.cid:
            raise bad_request(f"Commit was at {self.head.cid}", "InvalidSwap")
        for write in writes:
            self._check_swap(write)
        records = dict(self._records)
        for write in writes:
            key = (write.collection, write.rkey)
            if (write.action is Action.CREATE) == (key in records):
                raise server_error()
            if write.record is None:
                del records[key]
            else:
                records[key] = write.record
        refs = [ref for write in writes if write.record for ref in _blob_refs(write.record.value)]
        for ref in refs:
            self._check_blob(ref)
        for ref in refs:
            self._blobs[ref["ref"]["$link"]].in_use = True
        self._records = records
        self.head = self._next_commit()
        return self.head

    def upload(self, content: bytes, declared_type: str) -> dict[str, Any]:
        """Store a blob and return a reference to it. The bytes decide the type; `declared_type` is the fallback."""
        cid, mime_type = blob_cid(content), _sniffed(content) or declared_type
        stored = self._blobs.setdefault(cid, Blob(mime_type, content))
        if not stored.in_use:
            stored.mime_type = mime_type
        return {"$type": "blob", "ref": {"$link": cid}, "mimeType": stored.mime_type, "size": len(content)}

    def blob(self, cid: str) -> Blob | None:
        """Return a blob that a record refers to, or None."""
        stored = self._blobs.get(cid)
        return stored if stored and stored.in_use else None

    def _next_commit(self) -> Commit:
        # A commit of a real repository hashes the whole tree. Here a commit only has to be unique.
        rev = self._tids.next(self._clock.now())
        return Commit(record_cid({"did": self.did, "rev": rev}), rev)

    def _check_swap(self, write: Write) -> None:
        if write.swap == ANY_RECORD:
            return
        current = self.get(write.collection, write.rkey)
        current_cid = current.cid if current else None
        if current_cid != write.swap:
            raise bad_request(f"Record was at {current_cid or 'null'}", "InvalidSwap")

    def _check_blob(self, ref: dict[str, Any]) -> None:
        cid = ref["ref"]["$link"]
        stored = self._blobs.get(cid)
        if stored is None:
            raise bad_request(f"Could not find blob: {cid}", "BlobNotFound")
        if stored.in_use:  # a PDS checks type and size at a blob's first use only
            return
        if ref["mimeType"] != stored.mime_type:
            raise _misdeclared("Mimetype", "InvalidMimeType", stored.mime_type, ref["mimeType"])
        if ref["size"] != len(stored.content):
            raise _misdeclared("Size", "InvalidSize", len(stored.content), ref["size"])


def _validated(collection: str, rkey: str, value: dict[str, Any], validate: bool | None, path: Path) -> str:
    check = RECORDS.get(collection)
    if check is None:
        if validate:
            raise bad_request(f"Unknown lexicon type: {collection}")
        return "unknown"
    try:
        string("tid")(rkey, ())
    except Invalid as invalid:
        raise bad_request(f"Invalid record key for {collection}: {invalid}") from None
    try:
        check(value, path)
    except Invalid as invalid:
        raise bad_request(f"Invalid {collection} record: {invalid}") from None
    return "valid"


def _blob_refs(value: Any) -> Iterator[dict[str, Any]]:
    if is_blob_ref(value):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _blob_refs(item)


def _misdeclared(what: str, error: str, expected: object, got: object) -> Refusal:
    return bad_request(f"Referenced {what} does not match stored blob. Expected: {expected}, Got: {got}", error)


def _sniffed(content: bytes) -> str | None:
    for signature, mime_type in _SIGNATURES.items():
        if content.startswith(signature):
            return mime_type
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return "video/mp4" if content[4:8] == b"ftyp" else None
