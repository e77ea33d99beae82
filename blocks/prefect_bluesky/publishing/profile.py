"""Say on an account's profile that a program writes its posts."""

from __future__ import annotations

from typing import Any

from prefect_bluesky.errors import RequestRefused, ServiceUnavailable
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.sessions import BOT, PROFILE, Authenticator, SessionAuth, labels_of

_GET, _PUT = "com.atproto.repo.getRecord", "com.atproto.repo.putRecord"


def label_as_bot(authenticator: Authenticator) -> bool:
    """Add the label to the profile; see `BlueskyCredentials.label_as_bot`."""
    account = authenticator.ensure()
    place = {"repo": account.did, "collection": PROFILE, "rkey": "self"}
    try:
        found = xrpc.query(account.pds_url, _GET, place)
    except RequestRefused as refused:
        if refused.error != "RecordNotFound":
            raise
        found = {"value": {"$type": PROFILE}}
    profile, cid = found.get("value"), found.get("cid")
    if not isinstance(profile, dict):
        raise ServiceUnavailable(account.pds_url, _GET, 200, message="no record")
    labels = labels_of(profile)
    if BOT in labels:
        return False
    values = [{"val": label} for label in (*labels, BOT)]
    record = {**profile, "labels": {"$type": "com.atproto.label.defs#selfLabels", "values": values}}
    # Whoever has changed the profile meanwhile is not overwritten.
    body: dict[str, Any] = {**place, "record": record, "swapRecord": cid}
    auth = SessionAuth(authenticator)
    with auth.problems():
        xrpc.procedure(account.pds_url, _PUT, body, auth=auth)
    return True
