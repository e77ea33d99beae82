"""A worker that runs flows in processes which have imported Prefect and this package already."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prefect.settings import PREFECT_WORKER_QUERY_SECONDS, get_current_settings, temporary_settings
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from prefect_bluesky.worker import warm

_IMPORTS = ("prefect.engine", "prefect.flow_engine", "prefect_bluesky.compose", "prefect_bluesky.planning")

_QUERY_SECONDS = 1.0
"""Seconds between two questions for runs, unless a person has set PREFECT_WORKER_QUERY_SECONDS (Prefect's default: 10).

A question costs the server about 10 ms of CPU."""


class ReadyJobConfiguration(ProcessJobConfiguration):
    """A process worker's job, whose command is the program of a Python that is ready, unless a person has set one."""

    def prepare_for_flow_run(self, *given: Any, **named: Any) -> None:
        """Prepare the job for a run; see Prefect's own."""
        # Files that a post or a calendar names by relative paths are sought where the worker was started.
        self.working_dir = self.working_dir or Path.cwd()
        if self.command is None and BlueskyWorker.program is not None:
            self.command = f"{shlex.quote(str(BlueskyWorker.program))} -m prefect.engine"
        super().prepare_for_flow_run(*given, **named)


class BlueskyWorker(ProcessWorker):
    """Prefect's process worker, whose runs start at once: each is forked from a process that has imported everything.

    `prefect worker start --pool bluesky` starts it for a work pool of its type. Where forking is not possible (Windows,
    macOS), runs start as with Prefect's own process worker.
    """

    type = "bluesky"
    job_configuration = ReadyJobConfiguration
    _display_name = "Bluesky process"
    _description = "Runs flows as processes that have imported Prefect and prefect-bluesky already."

    program: Path | None = None
    """The program that forks, as long as a worker of this process runs."""

    async def start(self, *given: Any, **named: Any) -> None:
        """Start the worker; see Prefect's own."""
        is_set = "query_seconds" in get_current_settings().worker.model_fields_set
        with ExitStack() as stack:
            if not is_set:
                stack.enter_context(temporary_settings({PREFECT_WORKER_QUERY_SECONDS: _QUERY_SECONDS}))
            if warm.is_possible():
                BlueskyWorker.program = stack.enter_context(warm.running(_IMPORTS))
                stack.callback(setattr, BlueskyWorker, "program", None)
            await super().start(*given, **named)
