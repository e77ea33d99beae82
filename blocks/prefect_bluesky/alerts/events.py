"""The names of this package's events, and functions that send them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID, uuid4

from prefect.events import Event, ReceivedEvent, Resource, emit_event
from prefect.events.filters import EventFilter
from prefect.events.related import object_as_related_resource

from prefect_bluesky.prefect_api import API_TROUBLE, api_at_hand, api_client, current_flow_run, in_server, logger

SESSION_CREATED = "bluesky.session.created"
SESSION_REFRESHED = "bluesky.session.refreshed"
SESSION_UNSAVED = "bluesky.session.unsaved"
VISIT_DUE = "bluesky.grant.visit_due"
AUTH_FAILED = "bluesky.auth.failed"
AUTH_RECOVERED = "bluesky.auth.recovered"
POST_PUBLISHED = "bluesky.post.published"
POST_HELD = "bluesky.post.held"
POST_EXPIRED = "bluesky.post.expired"
REVIEW_WAITS = "bluesky.review.waits"
BLOCK_UNUSABLE = "bluesky.block.unusable"
BLOCK_USABLE = "bluesky.block.usable"

_PAGE = 50
"""The most events that Prefect gives in one answer."""


class SignedIn(Protocol):
    """An account that is signed in: a `Session` or a `SessionStatus`."""

    @property
    def did(self) -> str: ...
    @property
    def handle(self) -> str: ...
    @property
    def pds_url(self) -> str: ...
    @property
    def expires_at(self) -> datetime: ...


def resource(
    account: str, *, did: str | None, handle: str, pds_url: str | None = None, expires_at: datetime | None = None
) -> dict[str, str]:
    """Return an account as an event's resource, named by its DID if known, else by its block's handle. No token."""
    return {
        "prefect.resource.id": f"bluesky.account.{did or account}",
        "prefect.resource.name": handle,
        "handle": handle,
        "did": did or "",
        "pds": pds_url or "",
        "expires_at": expires_at.astimezone(UTC).isoformat() if expires_at else "",
    }


def emit(
    event: str, account: SignedIn, *, block_id: UUID | None = None, event_id: UUID | None = None, **payload: str
) -> None:
    """Emit an event in the background if a Prefect API is available. `payload` must hold nothing secret.

    The silence alert watches only accounts with a saved block, so `block_id` must be passed if it is known. Events with
    the same `event_id` count once.
    """
    if not api_at_hand():
        return
    did, pds_url = account.did, account.pds_url
    about = resource(did, did=did, handle=account.handle, pds_url=pds_url, expires_at=account.expires_at)
    if block_id:
        about["block"] = str(block_id)
    if in_server():
        # Prefect's queue would start another server here.
        deliver(Event(event=event, resource=Resource(about), payload=payload, id=event_id or uuid4()))
        return
    emit_event(event, resource=about, payload=payload, id=event_id)


def told(wanted: EventFilter) -> list[ReceivedEvent]:
    """Return the latest of Prefect's events that a filter admits, the oldest first; none if Prefect cannot be asked."""
    try:
        with api_client() as client:
            found = client.read_events(wanted, limit=_PAGE).events
    except API_TROUBLE as trouble:
        # Whoever then tells what is told already says that this cannot be sent either.
        logger().debug("Prefect cannot be asked now what was told: %s", type(trouble).__name__)
        return []
    return sorted(found, key=lambda event: event.occurred)


def deliver(event: Event) -> bool:
    """Send an event and wait for the API's answer. Return whether the API accepted it. Ids sent twice count once."""
    if run := current_flow_run():
        event.related.append(object_as_related_resource("flow-run", "flow-run", run))
    try:
        with api_client() as client:
            client.request("POST", "/events", json=[event.model_dump(mode="json")])
    except API_TROUBLE as trouble:
        logger().warning("The event %s could not be sent to Prefect yet: %s", event.event, type(trouble).__name__)
        return False
    return True
