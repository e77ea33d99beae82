"""Name records as the AT Protocol does: collections, record keys (TIDs) and CIDs, known before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import libipld

Json = dict[str, Any]

POST_COLLECTION = "app.bsky.feed.post"
LIST_COLLECTION = "app.bsky.graph.list"
THREADGATE_COLLECTION = "app.bsky.feed.threadgate"
POSTGATE_COLLECTION = "app.bsky.feed.postgate"

_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"  # https://atproto.com/specs/tid
_CLOCK_IDS = 1 << 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# Without a planned time, keys are spread over the first year of app.bsky.feed.post: a PDS accepts any past TID.
TIMELESS_KEYS_END = datetime(2024, 1, 1, tzinfo=UTC)
_TIMELESS_SPAN = timedelta(days=365)
_PLANNED_SPAN = timedelta(minutes=1)

_DAG_CBOR, _RAW = b"\x71", b"\x55"  # https://atproto.com/specs/data-model#link-and-cid-formats


@dataclass(frozen=True)
class Record:
    """A record as it is sent and stored.

    The collection is the kind of record, such as `app.bsky.feed.post`; the CID is the one that the server will compute.
    """

    collection: str
    rkey: str
    value: Json
    cid: str

    def uri(self, did: str) -> str:
        """Return the record's at:// URI in an account's repository."""
        return f"at://{did}/{self.collection}/{self.rkey}"


def record_keys(did: str, key: str, planned_at: datetime | None = None, *, count: int = 1) -> list[str]:
    """Return the record keys of a thread's posts: always the same for the same account, key and planned time.

    Without a planned time, two keys of one account collide once in 3e16 pairs. With one, the TIDs are in the minute
    before it, which keeps the order of the repository, and two keys of that minute collide once in 6e10 pairs. The keys
    of `count` posts follow each other as the posts do.

    Returns:
        TIDs, 13 characters each.

    Example:
        >>> record_keys("did:plc:ewvi7nxzyoun6zhxrhs64oiz", "launch-2026")
        ['3k46ixhc44ddq']
    """
    digest = int.from_bytes(sha256(f"{did}\n{key}".encode()).digest())
    end, span = (TIMELESS_KEYS_END, _TIMELESS_SPAN) if planned_at is None else (planned_at, _PLANNED_SPAN)
    offset, clock_id = divmod(digest % (span // _MICROSECOND * _CLOCK_IDS), _CLOCK_IDS)
    first = (end - _EPOCH) // _MICROSECOND - offset
    return [_tid(first + number, clock_id) for number in range(count)]


def first_record_key(at: datetime) -> str:
    """Return the lowest record key that a time gives: keys of later times are higher, of earlier times lower.

    Example:
        >>> first_record_key(datetime(2026, 12, 1, tzinfo=UTC))
        '3n3kwulz22222'
    """
    return _tid((at - _EPOCH) // _MICROSECOND, 0)


def _tid(microseconds: int, clock_id: int) -> str:
    number = microseconds << 10 | clock_id
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(60, -1, -5))


def cid(record: Json) -> str:
    """Return the CID under which a PDS stores a record's JSON, `$type` included (DAG-CBOR, SHA-256, CIDv1)."""
    return _cid(_DAG_CBOR, libipld.encode_dag_cbor(_linked(record)))


def blob_reference(data: bytes, mime_type: str) -> Json:
    """Return a PDS's answer to an upload, which is also the value in a record (the lexicons' type `blob`)."""
    return {"$type": "blob", "ref": {"$link": _cid(_RAW, data)}, "mimeType": mime_type, "size": len(data)}


def _cid(codec: bytes, data: bytes) -> str:
    return str(libipld.encode_multibase("b", b"\x01" + codec + b"\x12\x20" + sha256(data).digest()))


def _linked(value: Any) -> Any:
    """Return JSON with each link as the bytes of its CID, which the encoder takes for a link."""
    if isinstance(value, list):
        return [_linked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$link"}:
        return libipld.decode_multibase(value["$link"])[1]
    return {name: _linked(item) for name, item in value.items()}


def image_items(embed: Json) -> list[Json]:
    """Return the images of an embed, shown side by side or as a gallery."""
    return embed.get("images") or embed.get("items") or []
