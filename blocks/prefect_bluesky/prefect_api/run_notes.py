"""Notes that a flow run keeps on Prefect's server, for its retries on any worker.

Outside a flow run, saving and loading notes raises RuntimeError.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Any
from uuid import UUID

import orjson
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from prefect_bluesky.prefect_api.client import api_client
from prefect_bluesky.prefect_api.context import current_flow_run

_PAGE = 200


def can_keep_notes() -> bool:
    """Return whether this code runs inside a flow run, which can keep notes."""
    return current_flow_run() is not None


def save_note(key: str, value: Any) -> bool:
    """Store a note unless its key is taken. Return whether the note is new: True for only one of concurrent callers.

    A key has letters, digits and dashes. The value is any JSON value and holds no secret.
    """
    run, prefix = _place()
    with api_client() as client:
        try:
            client.create_flow_run_input(run, prefix + key, orjson.dumps(value).decode())
        except PrefectHTTPStatusError as refusal:
            if refusal.response.status_code == HTTPStatus.CONFLICT:
                return False
            raise
    return True


def load_note(key: str) -> Any:
    """Return the note stored under a key, or None."""
    run, prefix = _place()
    return read_input(run, prefix + key)


def load_notes(prefix: str) -> list[Any]:
    """Return all notes whose keys start with a prefix."""
    run, own = _place()
    found: list[Any] = []
    with api_client() as client:
        seen: set[str] = set()
        while page := client.filter_flow_run_input(run, own + prefix, _PAGE, seen):
            found += [orjson.loads(each.value) for each in page]
            seen |= {each.key for each in page}
    return found


def run_id() -> UUID:
    """Return the id of the current flow run."""
    return _run().id


def read_input(run: UUID, key: str) -> Any:
    """Return what is stored as an input of a run under a key, or None."""
    with api_client() as client:
        try:
            found = client.read_flow_run_input(run, key)
        except PrefectHTTPStatusError as refusal:
            if refusal.response.status_code == HTTPStatus.NOT_FOUND:
                return None
            raise
    return orjson.loads(found) if found else None


def _place() -> tuple[UUID, str]:
    """Return the run that stores this run's notes, and the prefix of their keys.

    The notes of a subflow are stored with its parent: a retried parent starts its subflows as new runs.
    """
    run = _run()
    if run.parent_task_run_id is None:
        return run.id, "bluesky-"
    return _parent(run.parent_task_run_id), f"bluesky-{run.parent_task_run_id}-"


@lru_cache(maxsize=1000)
def _parent(task_run: UUID) -> UUID:
    with api_client() as client:
        parent = client.read_task_run(task_run).flow_run_id
    if parent is None:
        raise RuntimeError(f"The task run {task_run} has no flow run, so the notes of its subflow cannot be stored.")
    return parent


def _run() -> FlowRun:
    run = current_flow_run()
    if run is None:
        raise RuntimeError("Only a flow run keeps notes, and this code runs outside a flow run. Call it in a flow.")
    return run
