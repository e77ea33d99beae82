"""What a flow run must still know when it is tried again, on whatever worker: kept by Prefect's server."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Any
from uuid import UUID

import orjson
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError

from prefect_bluesky.prefect_api.client import api_client


def can_keep_notes() -> bool:
    """Whether a flow run is under way here, which keeps what is noted."""
    return FlowRunContext.get() is not None


def save_note(key: str, value: Any) -> bool:
    """Keep something under a key, unless there is something already.

    Args:
        key: letters, digits and dashes.
        value: what JSON holds; no secret.

    Returns:
        whether it is new. Of several who keep something under the same key at the same time, this holds for one.

    Raises:
        RuntimeError: no flow run is under way here.
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
    """What is kept under a key; None if nothing is.

    Args:
        key: as for `note`.

    Raises:
        RuntimeError: no flow run is under way here.
    """
    run, prefix = _place()
    return _read(run, prefix + key)


def _read(run: UUID, key: str) -> Any:
    with api_client() as client:
        try:
            found = client.read_flow_run_input(run, key)
        except PrefectHTTPStatusError as refusal:
            if refusal.response.status_code == HTTPStatus.NOT_FOUND:
                return None
            raise
    return orjson.loads(found) if found else None


def run_id() -> UUID:
    """The flow run that is under way here."""
    return _run().id


def pause_answer(run: UUID, key: str) -> Any:
    """What somebody has answered to a pause of a run; None if nobody has.

    Args:
        run: the run.
        key: the pause's own.
    """
    # As prefect.input.run_input names it (Prefect 3.8.8).
    return _read(run, f"paused-{key}-response")


def load_notes(prefix: str) -> list[Any]:
    """All that is kept under keys that begin alike.

    Args:
        prefix: how they begin.
    """
    run, own = _place()
    found: list[Any] = []
    with api_client() as client:
        seen: set[str] = set()
        while page := client.filter_flow_run_input(run, own + prefix, _PAGE, seen):
            found += [orjson.loads(each.value) for each in page]
            seen |= {each.key for each in page}
    return found


_PAGE = 200


def _place() -> tuple[UUID, str]:
    """The run that keeps the notes of this one, and how their keys begin: beside those of Prefect itself.

    A parent that is tried again starts its subflows anew, as other runs: it keeps what they note.
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
        raise RuntimeError("The task run of a subflow belongs to a flow run.")
    return parent


def _run() -> FlowRun:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("Only a flow run keeps notes, and none is under way.")
    return context.flow_run
