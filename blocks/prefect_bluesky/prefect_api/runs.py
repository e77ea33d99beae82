"""Read the flow runs of a filter, however many pages Prefect makes of them."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from prefect_bluesky.prefect_api.client import api_client

_PAGE = 200


def read_runs(
    wanted: FlowRunFilter,
    *,
    of: FlowFilter | None = None,
    sort: FlowRunSort = FlowRunSort.ID_DESC,
    most: int | None = None,
) -> list[FlowRun]:
    """Return the flow runs of a filter.

    Args:
        wanted: the filter.
        of: the flows that the runs are of; None for all.
        sort: the order. Only that of ids is the same on each page if runs are otherwise equal.
        most: how many runs are read, about; None for all.
    """
    found: list[FlowRun] = []
    with api_client() as client:
        while most is None or len(found) < most:
            page = client.read_flow_runs(
                flow_filter=of, flow_run_filter=wanted, sort=sort, limit=_PAGE, offset=len(found)
            )
            found += page
            if len(page) < _PAGE:
                break
    return found


def read_run_rows(wanted: FlowRunFilter) -> list[dict[str, Any]]:
    """Return the flow runs of a filter as Prefect's API writes them, which takes half the time of `read_runs`."""
    found: list[dict[str, Any]] = []
    asked: dict[str, Any] = {
        "flow_runs": wanted.model_dump(mode="json", exclude_unset=True),
        "sort": FlowRunSort.ID_DESC,
    }
    with api_client() as client:
        while True:
            page = client.request(
                "POST", "/flow_runs/filter", json=asked | {"limit": _PAGE, "offset": len(found)}
            ).json()
            found += page
            if len(page) < _PAGE:
                return found
