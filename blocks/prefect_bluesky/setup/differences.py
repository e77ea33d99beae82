"""The differences between what is declared and what a Prefect server has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import Automation, AutomationCore


def deployment_differences(name: str, declared: dict[str, Any], deployment: DeploymentResponse | None) -> Iterator[str]:
    """Yield the differences of a deployment, each as a sentence without a full stop."""
    if deployment is None:
        yield f"the deployment {name} is missing"
        return
    limit = deployment.global_concurrency_limit
    options = deployment.concurrency_options
    wanted_limit = declared.get("concurrency_limit", {})
    work_pool = declared.get("work_pool", {})
    pairs = {
        "entrypoint": (declared["entrypoint"], deployment.entrypoint),
        "description": (declared["description"], deployment.description),
        "pull steps": ([], deployment.pull_steps or []),
        "tags": (sorted(declared["tags"]), sorted(deployment.tags)),
        "parameters": (declared.get("parameters", {}), deployment.parameters),
        "work pool": (work_pool.get("name"), deployment.work_pool_name),
        "work queue": ("default" if work_pool else None, deployment.work_queue_name),
        "job variables": (work_pool.get("job_variables", {}), deployment.job_variables),
        "paused": (False, deployment.paused),
        "concurrency limit": (wanted_limit.get("limit"), limit.limit if limit else None),
        "collision strategy": (
            wanted_limit.get("collision_strategy"),
            options.collision_strategy.value if options else None,
        ),
        "schedules": (
            [_told(**each) for each in declared.get("schedules", [])],
            [_schedule(each) for each in deployment.schedules],
        ),
    }
    for field, (expected, found) in pairs.items():
        if expected != found:
            yield f"the deployment {name}: {field} is {found}, not {expected}"


def _told(
    *,
    interval: float | None = None,
    cron: str | None = None,
    rrule: str | None = None,
    timezone: str | None = None,
    active: bool = True,
    **_: Any,
) -> str:
    """Return a schedule in words. An interval's time zone does not matter."""
    shown = f"every {interval:.0f} s" if interval else f"at {cron or rrule} {timezone or 'UTC'}"
    return shown if active else f"{shown}, switched off"


def _schedule(entry: Any) -> str:
    schedule = entry.schedule
    interval = getattr(schedule, "interval", None)
    return _told(
        interval=interval and interval.total_seconds(),
        cron=getattr(schedule, "cron", None),
        # The server puts a line with the start day above the rule.
        rrule=getattr(schedule, "rrule", "").rpartition("\n")[2],
        timezone=schedule.timezone,
        active=entry.active,
    )


def differing(wanted: AutomationCore, present: Automation) -> dict[str, tuple[Any, Any]]:
    """Return the fields that differ, each with the wanted and the present value."""
    expected, found = _comparable(wanted), _comparable(present)
    fields = sorted(expected.keys() | found.keys())
    return {name: (expected.get(name), found.get(name)) for name in fields if expected.get(name) != found.get(name)}


def _comparable(automation: AutomationCore) -> dict[str, Any]:
    """Return an automation's fields, with those of its trigger and actions, in one flat notation."""
    flat: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                walk(item, f"{path}[{index}]")
        else:
            flat[path] = sorted(value) if isinstance(value, list) else value

    walk(automation.model_dump(mode="json", exclude={"id", "owner_resource", "tags"}), "")
    # The server returns null for fields that were not sent.
    given = {path: value for path, value in flat.items() if value not in (None, [], {}, "")}
    return given | {"enabled": automation.enabled}
