"""Tell Prefect once of each saved block that cannot be used, and once when it can be used again."""

from __future__ import annotations

from collections.abc import Mapping

from prefect.events import Event, Resource
from prefect.events.filters import EventFilter, EventNameFilter

from prefect_bluesky.alerts import events

_BLOCK = "bluesky.block."


def tell_unusable(reasons: Mapping[str, str | None]) -> None:
    """Tell of what has changed since the last report. What Prefect's events do not say any more is told again.

    Args:
        reasons: for each saved block why it cannot be used, or None if it can.
    """
    told = _told()
    for name, reason in reasons.items():
        before = told.get(f"{_BLOCK}{name}")
        if reason is not None and reason != before:
            events.deliver(_event(events.BLOCK_UNUSABLE, name, reason))
        elif reason is None and before is not None:
            events.deliver(_event(events.BLOCK_USABLE, name, ""))


def _told() -> dict[str, str]:
    """Return why blocks cannot be used, as told last, by their resources.

    More than Prefect's page of events has cannot be used at a time only by one cause.
    """
    wanted = EventFilter(event=EventNameFilter(name=[events.BLOCK_UNUSABLE, events.BLOCK_USABLE]))
    last = {event.resource.id: event for event in events.told(wanted)}
    return {
        resource: str(event.payload["reason"])
        for resource, event in last.items()
        if event.event == events.BLOCK_UNUSABLE
    }


def _event(event: str, name: str, reason: str) -> Event:
    resource = Resource({"prefect.resource.id": f"{_BLOCK}{name}", "prefect.resource.name": name, "reason": reason})
    return Event(event=event, resource=resource, payload={"block": name, "reason": reason})
