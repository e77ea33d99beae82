"""Pauses of a flow run, in which a person answers a form of the Prefect UI."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

from prefect import pause_flow_run
from prefect.exceptions import FlowPauseTimeout, PrefectHTTPStatusError
from prefect.input import RunInput
from prefect.states import Running
from pydantic import ValidationError

from prefect_bluesky.prefect_api.client import api_client
from prefect_bluesky.prefect_api.run_notes import read_input, run_id

_POLL = 2
"""Seconds between two checks for an answer."""

_NEVER_RESUMED = "never resumed."
"""How the message ends by which a server fails a run whose pause is over (Prefect 3.9.1)."""


def pause_for(form: type[RunInput], key: str, patience: timedelta) -> None:
    """Pause the run until a person answers a form. `pause_answer` reads the answer by the key.

    Raises:
        FlowPauseTimeout: nobody has answered within `patience`.
    """
    seconds = max(1, int(patience.total_seconds()))
    try:
        # The answer is read by its key, whatever it is.
        with suppress(ValidationError):
            pause_flow_run(wait_for_input=form, timeout=seconds, poll_interval=_POLL, key=key)
    except FlowPauseTimeout:
        _end_pause()
        raise


def _end_pause() -> None:
    """Let the run end in a state of its own after a pause that is over (Prefect 3.9.1).

    A server fails such a run within seconds, and before that it makes each state that the run proposes a failed one.
    """
    with api_client() as client:
        state = client.read_flow_run(run_id()).state
        if state is not None and (state.is_paused() or (state.message or "").endswith(_NEVER_RESUMED)):
            client.set_flow_run_state(run_id(), Running(), force=True)


def pause_answer(run: UUID, key: str) -> Any:
    """Return the answer to a paused run, or None if there is none. `key` is the pause's key."""
    return read_input(run, _answer(key))


def ask_and_forget(form: type[RunInput], patience: timedelta) -> Any:
    """Pause the run until a person answers a form. Return the answer, or None, and delete it from Prefect.

    For an answer that must not stay in Prefect's database. If the worker dies during the pause, the answer is lost.

    Raises:
        FlowPauseTimeout: nobody has answered within `patience`.
    """
    key = uuid4().hex
    pause_for(form, key, patience)
    answer = pause_answer(run_id(), key)
    with api_client() as client:
        try:
            client.delete_flow_run_input(run_id(), _answer(key))
        except PrefectHTTPStatusError as refusal:
            # The run was resumed without an answer.
            if refusal.response.status_code != HTTPStatus.NOT_FOUND:
                raise
    return answer


def _answer(key: str) -> str:
    # The key is that of prefect.input.run_input (Prefect 3.8.8 to 3.9.1).
    return f"paused-{key}-response"
