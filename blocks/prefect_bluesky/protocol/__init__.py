"""Speak AT Protocol without a session: XRPC calls, OAuth, identities, references, record keys and CIDs.

Whatever needs a token is passed an `httpx.Auth` by its caller.
"""

from prefect_bluesky.protocol import oauth, xrpc
from prefect_bluesky.protocol.identity import (
    did_document,
    did_of_server,
    handles_in,
    pds_in,
    resolve_handle,
    signs_in_at,
)
from prefect_bluesky.protocol.records import (
    LIST_COLLECTION,
    POST_COLLECTION,
    POSTGATE_COLLECTION,
    THREADGATE_COLLECTION,
    TIMELESS_KEYS_END,
    Record,
    blob_reference,
    cid,
    first_record_key,
    image_items,
    record_keys,
)
from prefect_bluesky.protocol.references import (
    KINDS,
    STARTER_PACK,
    Reference,
    StrongRef,
    is_short_address,
    parse_reference,
)

# fmt: off
__all__ = [
    "KINDS", "LIST_COLLECTION", "POSTGATE_COLLECTION", "POST_COLLECTION", "Record", "Reference", "STARTER_PACK",
    "StrongRef", "THREADGATE_COLLECTION", "TIMELESS_KEYS_END", "blob_reference", "cid", "did_document",
    "did_of_server", "first_record_key", "handles_in", "image_items", "is_short_address", "oauth", "parse_reference",
    "pds_in", "record_keys", "resolve_handle", "signs_in_at", "xrpc",
]
# fmt: on
