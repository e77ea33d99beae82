"""Alerts that reached nobody, and when to repeat them."""

from __future__ import annotations

from datetime import datetime, timedelta

from prefect.events.filters import EventFilter, EventIDFilter, EventNameFilter, EventRelatedFilter

from prefect_bluesky.alerts import events
from prefect_bluesky.alerts.incidents import Incident
from prefect_bluesky.prefect_api import API_TROUBLE, api_client, logger

ALERT = "bluesky: tell when an account cannot sign in"
"""The automation by which people hear of incidents."""


_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=6)
"""How long an alert may take before it counts as lost, at first and at most: each attempt waits twice as long."""


_EVENTS_KEPT = timedelta(days=6)
"""Prefect deletes events after 7 days (`PREFECT_SERVER_EVENTS_RETENTION_PERIOD`): of older ones nothing can be said."""


_MAX_ATTEMPTS = _PAGE = 40
"""More than fit into `_EVENTS_KEPT`, and no more than Prefect gives events at once (50)."""


def lost_alert(incident: Incident, now: datetime) -> int | None:
    """Which attempt to alert is due because no earlier one has reached anybody; None if there is nothing to do.

    A server that is killed after it took an event, or a receiver that is down, loses an alert: Prefect keeps no event
    for an automation that did not see it, and does not repeat an action that failed.

    Args:
        incident: what was told of.
        now: the time.
    """
    if now - incident.first_seen > _EVENTS_KEPT:
        return None
    attempts = {incident.event_id(events.AUTH_FAILED, number): number for number in range(1, _MAX_ATTEMPTS)}
    try:
        with api_client() as client:
            if not any(automation.enabled for automation in client.read_automations_by_name(ALERT)):
                return None
            told = client.read_events(EventFilter(id=EventIDFilter(id=list(attempts))), limit=_PAGE).events
            done = EventFilter(
                event=EventNameFilter(name=["prefect.automation.action.executed"]),
                related=EventRelatedFilter(id=[f"prefect.event.{attempt}" for attempt in attempts]),
            )
            if any(
                event.payload.get("action_type") in _NOTIFIES for event in client.read_events(done, limit=_PAGE).events
            ):
                return None
    except API_TROUBLE as trouble:
        logger().warning("Whether an alert got lost cannot be seen now: %s", type(trouble).__name__)
        return None
    last = max(told, key=lambda event: attempts[event.id], default=None)
    if last is None:
        return 1
    number = attempts[last.id]
    is_due = now - last.occurred >= min(_FIRST_WAIT * 2 ** (number - 1), _LONGEST_WAIT)
    return number + 1 if is_due and number + 1 < _MAX_ATTEMPTS else None


_NOTIFIES = {"send-notification", "call-webhook"}
