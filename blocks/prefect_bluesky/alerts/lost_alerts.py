"""Find alerts that reached nobody, and decide when to repeat them."""

from __future__ import annotations

from datetime import datetime, timedelta

from prefect.events.filters import EventFilter, EventIDFilter, EventNameFilter, EventRelatedFilter

from prefect_bluesky.alerts import events
from prefect_bluesky.alerts.incidents import Incident
from prefect_bluesky.prefect_api import API_TROUBLE, api_client, logger

ALERT = "bluesky: tell when an account cannot sign in"
"""The automation that sends incidents to people."""

# An alert counts as lost after 30 s. Each attempt doubles the wait, up to 6 h.
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=6)
# Prefect deletes events after 7 days (`PREFECT_SERVER_EVENTS_RETENTION_PERIOD`), so older alerts cannot be checked.
_EVENTS_KEPT = timedelta(days=6)
# More attempts than fit into `_EVENTS_KEPT`, and fewer than the 50 events of a page of Prefect's.
_MAX_ATTEMPTS = _PAGE = 40
_NOTIFIES = {"send-notification", "call-webhook"}


def lost_alert(incident: Incident, now: datetime) -> int | None:
    """Return the number of the alert attempt that is due, or None if an alert has arrived or nothing is due.

    An alert is lost if the server is killed after it accepted the event, or if the receiver is down: Prefect does not
    replay events to automations, and does not repeat failed actions.
    """
    if now - incident.first_seen > _EVENTS_KEPT:
        return None
    attempts = {incident.event_id(events.AUTH_FAILED, number): number for number in range(1, _MAX_ATTEMPTS)}
    try:
        with api_client() as client:
            if not any(automation.enabled for automation in client.read_automations_by_name(ALERT)):
                return None
            sent = client.read_events(EventFilter(id=EventIDFilter(id=list(attempts))), limit=_PAGE).events
            executed = EventFilter(
                event=EventNameFilter(name=["prefect.automation.action.executed"]),
                related=EventRelatedFilter(id=[f"prefect.event.{attempt}" for attempt in attempts]),
            )
            actions = client.read_events(executed, limit=_PAGE).events
            if any(action.payload.get("action_type") in _NOTIFIES for action in actions):
                return None
    except API_TROUBLE as trouble:
        logger().warning("Prefect cannot be asked now whether an alert was lost: %s", type(trouble).__name__)
        return None
    last = max(sent, key=lambda event: attempts[event.id], default=None)
    if last is None:
        return 1
    number = attempts[last.id]
    is_due = now - last.occurred >= min(_FIRST_WAIT * 2 ** (number - 1), _LONGEST_WAIT)
    return number + 1 if is_due and number + 1 < _MAX_ATTEMPTS else None
