"""The events that this package emits, and what they hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from prefect.context import FlowRunContext
from prefect.events import Event, emit_event
from prefect.events.related import object_as_related_resource

from prefect_bluesky.prefect_api import API_TROUBLE, api_at_hand, api_client, logger

SESSION_CREATED = "bluesky.session.created"
SESSION_REFRESHED = "bluesky.session.refreshed"
SESSION_UNSAVED = "bluesky.session.unsaved"
AUTH_FAILED = "bluesky.auth.failed"
AUTH_RECOVERED = "bluesky.auth.recovered"
POST_PUBLISHED = "bluesky.post.published"
POST_HELD = "bluesky.post.held"


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
    """An account as the resource of an event, named by its DID as soon as that is known. It holds no token.

    Args:
        account: what its block names: a handle or a DID.
        did: its DID, if it is known.
        handle: its handle as last heard, else as `account`.
        pds_url: its PDS, or where it signs in.
        expires_at: when its access token expires.
    """
    return {
        "prefect.resource.id": f"bluesky.account.{did or account}",
        "prefect.resource.name": handle,
        "handle": handle,
        "did": did or "",
        "pds": pds_url or "",
        "expires_at": expires_at.astimezone(UTC).isoformat() if expires_at else "",
    }


def emit(event: str, account: SignedIn, *, block_id: UUID | None = None, **payload: str) -> None:
    """Emit an event about an account that is signed in, where an API is at hand; it is sent behind the caller's back.

    Args:
        event: one of the names above.
        account: whom the event is about.
        block_id: the account's saved block, if it is known: what is saved is kept alive, and may be missed.
        payload: what else to tell; nothing secret.
    """
    if not api_at_hand():
        return
    about = resource(
        account.did,
        did=account.did,
        handle=account.handle,
        pds_url=account.pds_url,
        expires_at=account.expires_at,
    )
    if block_id:
        about["block"] = str(block_id)
    emit_event(event, resource=about, payload=payload)


def deliver(event: Event) -> bool:
    """Send an event, and wait until the API has taken it: one that must not be lost with this process.

    Args:
        event: the event; sent twice under one id it counts once.

    Returns:
        whether it was taken.
    """
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        event.related.append(object_as_related_resource("flow-run", "flow-run", context.flow_run))
    try:
        with api_client() as client:
            client.request("POST", "/events", json=[event.model_dump(mode="json")])
    except API_TROUBLE as trouble:
        logger().warning("Prefect could not be told of %s yet: %s", event.event, type(trouble).__name__)
        return False
    return True
