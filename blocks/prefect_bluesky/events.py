"""The events that this package emits, and what they hold."""

from __future__ import annotations

from datetime import UTC

from prefect.events import emit_event

from prefect_bluesky.runtime import api_at_hand
from prefect_bluesky.session import Session, SessionStatus

SESSION_CREATED = "bluesky.session.created"
SESSION_REFRESHED = "bluesky.session.refreshed"
SESSION_UNSAVED = "bluesky.session.unsaved"
POST_PUBLISHED = "bluesky.post.published"


def emit(event: str, account: Session | SessionStatus, **payload: str) -> None:
    """Emit an event about an account, where an API is at hand.

    Args:
        event: one of the names above.
        account: whose; its DID names the resource. No token is sent.
        payload: what else to tell; nothing secret.
    """
    if not api_at_hand():
        return
    emit_event(
        event,
        resource={
            "prefect.resource.id": f"bluesky.account.{account.did}",
            "prefect.resource.name": account.handle,
            "handle": account.handle,
            "did": account.did,
            "pds": account.pds_url,
            "expires_at": account.expires_at.astimezone(UTC).isoformat(),
        },
        payload=payload,
    )
