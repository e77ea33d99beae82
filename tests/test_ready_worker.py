"""The worker type whose runs start at once."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.plugins import load_prefect_collections
from prefect.workers.base import BaseWorker

from prefect_bluesky.worker import BlueskyWorker
from prefect_bluesky.worker.worker import ReadyJobConfiguration


def prepared(command: str | None) -> str | None:
    """The command that a job has when its run starts."""
    job = ReadyJobConfiguration(command=command)
    job.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="a run"))
    return job.command


def test_prefect_finds_the_worker_of_the_pools_type() -> None:
    load_prefect_collections()
    assert BaseWorker.get_worker_class_from_type("bluesky") is BlueskyWorker


def test_a_run_is_forked_by_the_workers_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlueskyWorker, "program", Path("/a folder/python"))
    assert prepared(None) == "'/a folder/python' -m prefect.engine"


def test_a_persons_own_command_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlueskyWorker, "program", Path("/python"))
    assert prepared("my-python -m prefect.engine") == "my-python -m prefect.engine"


def test_without_such_a_program_a_run_starts_as_with_prefects_own_worker() -> None:
    assert str(prepared(None)).endswith("-m prefect.engine")
