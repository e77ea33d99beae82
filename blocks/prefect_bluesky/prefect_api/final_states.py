"""Final states of flow runs that did not complete, whose message says why, without a traceback in the run's log."""

from __future__ import annotations

import os
from typing import Any

from prefect.client.schemas.objects import State, StateType

from prefect_bluesky.prefect_api.context import current_flow_run

_RUN = "PREFECT__FLOW_RUN_ID"
"""The variable in which the process of a run gets the run's id from a worker, from `serve` or from Prefect's CLI."""


class _Told(State[Any]):
    """A state whose message is all that there is to say.

    Prefect asks the final state of a run for its result, and a failed state raises. In a process that a worker starts
    for a run nobody catches the error: Prefect logs a traceback, and that the engine exited unexpectedly (3.8.8 to
    3.9.1).
    """

    def result(self, *given: Any, **named: Any) -> Any:
        return None


def ended(state: State[Any]) -> State[Any]:
    """Return a final state for a flow to return: in a process that is only the run's it raises nothing."""
    run = current_flow_run()
    if run is None or os.environ.get(_RUN) != str(run.id):
        return state
    return _Told(type=state.type, name=state.name, message=state.message, data=state.data)


def failed(message: str, error: Exception | None = None) -> State[Any]:
    """Return the state `Failed` for a flow to return. A Python caller gets the error; see `ended`."""
    return ended(State(type=StateType.FAILED, message=message, data=error))
