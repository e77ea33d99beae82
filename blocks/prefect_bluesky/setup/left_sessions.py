"""The stored sessions of accounts that no saved block has any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.planning import load_many, saved_names
from prefect_bluesky.prefect_api import read_block_documents
from prefect_bluesky.sessions import PrefectSessionStore

_PREFIX = "bluesky-session-"

_RECENT = timedelta(days=1)
"""A session that was stored so lately may be of a script, whose account is in the environment."""


def delete_left_sessions(client: SyncPrefectClient) -> Iterator[str]:
    """Delete the sessions that Prefect stores for accounts without a saved block. Yield what was done, a line each.

    Nothing is deleted if one of the saved blocks cannot be read, as the session may be its own.
    """
    blocks = load_many(saved_names())
    if unusable := [name for name, block in blocks.items() if not isinstance(block, BlueskyCredentials)]:
        yield f"deleted no session, as these blocks cannot be used: {', '.join(unusable)}"
        return
    ours = {block.session_store().place for block in blocks.values() if isinstance(block, BlueskyCredentials)}
    for document in _left(ours):
        client.delete_block_document(document.id)
        yield f"deleted the session {document.name}"


def _left(ours: set[str]) -> Iterator[BlockDocument]:
    before = datetime.now(UTC) - _RECENT
    for document in read_block_documents("secret"):
        name = document.name or ""
        is_old = document.updated is not None and document.updated < before
        if name.startswith(_PREFIX) and is_old and PrefectSessionStore(name).place not in ours:
            yield document
