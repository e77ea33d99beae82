"""The identifiers that a PDS makes: DIDs, record keys (TIDs) and content hashes (CIDs)."""

import base64
import binascii
import hashlib
import secrets
from typing import Any

import libipld

_SORTABLE = "234567abcdefghijklmnopqrstuvwxyz"
_RECORD_PREFIX = b"\x01\x71\x12\x20"  # CIDv1, dag-cbor, sha2-256, 32 bytes
_BLOB_PREFIX = b"\x01\x55\x12\x20"  # the same, but raw bytes


def new_did() -> str:
    """Return a new DID in the form of the PLC directory: `did:plc:` and 24 letters."""
    return "did:plc:" + "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(24))


def new_app_password() -> str:
    """Return a new app password in Bluesky's form: `xxxx-xxxx-xxxx-xxxx`."""
    letters = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(16))
    return "-".join(letters[i : i + 4] for i in range(0, 16, 4))


class Tids:
    """A maker of TIDs: unique identifiers of 13 characters that sort by time.

    Example:
        >>> tids = Tids()
        >>> tids.next(1_700_000_000.0) < tids.next(1_700_000_000.0)
        True
    """

    def __init__(self) -> None:
        self._last = 0
        self._clock_id = secrets.randbelow(32)

    def next(self, now: float) -> str:
        """Return a TID for the time `now`, in seconds since the epoch."""
        self._last = max(int(now * 1_000_000), self._last + 1)
        number = self._last << 10 | self._clock_id
        return "".join(_SORTABLE[number >> shift & 31] for shift in range(60, -1, -5))


def record_cid(record: Any) -> str:
    """Return the CID of a record given as JSON: the hash of its DAG-CBOR form."""
    return _cid(_RECORD_PREFIX, libipld.encode_dag_cbor(_from_json(record)))


def blob_cid(content: bytes) -> str:
    """Return the CID of a blob's bytes."""
    return _cid(_BLOB_PREFIX, content)


def is_cid(text: str) -> bool:
    """Return True if `text` is a CID in the protocol's form: version 1, base32."""
    return _cid_bytes(text) is not None


def is_link(value: object) -> bool:
    """Return True if a JSON value stands for a CID: `{"$link": "bafy..."}`."""
    return isinstance(value, dict) and list(value) == ["$link"] and is_cid(str(value["$link"]))


def is_blob_link(value: object) -> bool:
    """Return True if a JSON value stands for the CID of raw bytes, as references to blobs require."""
    return is_link(value) and (_cid_bytes(value["$link"]) or b"").startswith(_BLOB_PREFIX)  # type: ignore[index]


def _cid(prefix: bytes, content: bytes) -> str:
    return _base32(prefix + hashlib.sha256(content).digest())


def _base32(raw: bytes) -> str:
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")


def _cid_bytes(text: str) -> bytes | None:
    if not text.startswith("b") or text != text.lower():
        return None
    try:
        raw = base64.b32decode(text[1:].upper() + "=" * (-len(text[1:]) % 8))
    except binascii.Error:
        return None
    is_canonical = raw[:4] in (_RECORD_PREFIX, _BLOB_PREFIX) and len(raw) == 36 and _base32(raw) == text
    return raw if is_canonical else None


def _from_json(value: Any) -> Any:
    if is_link(value):
        return _cid_bytes(value["$link"])  # libipld recognises a CID by its bytes
    if isinstance(value, dict):
        raw = _raw_bytes(value)
        if raw is not None:
            return raw
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return value


def _raw_bytes(value: dict[str, Any]) -> bytes | None:
    text = value.get("$bytes")
    if len(value) != 1 or not isinstance(text, str):
        return None
    text = text.replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None  # a PDS treats the value as a plain object
