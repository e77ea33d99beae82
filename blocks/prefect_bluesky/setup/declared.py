"""The deployments as `deployments/prefect.yaml` declares them, and those that no worker serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_PACKAGE = Path(__file__).parents[1]

WITHOUT_POOL: tuple[dict[str, Any], ...] = (
    {
        "name": "planned",
        "entrypoint": "prefect_bluesky.flows.publish.publish",
        "description": "The calendar: its runs are planned posts. Not Ready is normal: no worker takes them.",
        "tags": ["bluesky", "automatic"],
    },
    {
        "name": "later",
        "entrypoint": "prefect_bluesky.flows.publish_batch.publish_batch",
        "description": "What a large calendar has after its next thousand posts: each run keeps a hundred of them, and"
        " they become planned posts eight days ahead. Not Ready is normal: no worker takes them.",
        "tags": ["bluesky", "automatic"],
    },
)
"""Deployments without a work pool, so that no worker takes their runs. `prefect deploy` makes only such with a pool."""


def declared_deployments() -> list[dict[str, Any]]:
    """Return the deployments of `prefect.yaml`, which the wheel carries, and those without a work pool."""
    carried = _PACKAGE / "deployments" / "prefect.yaml"
    in_clone = _PACKAGE.parents[1] / "deployments" / "prefect.yaml"
    deployments: list[dict[str, Any]] = yaml.safe_load((carried if carried.exists() else in_clone).read_text())[
        "deployments"
    ]
    return [*deployments, *WITHOUT_POOL]


def full_name(declared: dict[str, Any]) -> str:
    """Return the name of a deployment with its flow, such as `publish/planned`."""
    return f"{declared['entrypoint'].rpartition('.')[2].replace('_', '-')}/{declared['name']}"
