"""Signed-in clients of the AT Protocol SDK."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from prefect_bluesky.sessions.authenticator import Authenticator
from prefect_bluesky.sessions.session_auth import SessionAuth
from prefect_bluesky.settings import current_settings

if TYPE_CHECKING:
    import atproto


def sdk_client(authenticator: Authenticator) -> atproto.Client:
    """Return a signed-in client of the SDK. All its calls go through `SessionAuth`."""
    from atproto import Client, Request

    status = authenticator.ensure()
    client = Client(status.pds_url, request=Request(**_options(authenticator)))
    client.me = _profile(status.did, status.handle)
    return client


async def async_sdk_client(authenticator: Authenticator) -> atproto.AsyncClient:
    """Return the SDK's async client; see `sdk_client`."""
    from atproto import AsyncClient, AsyncRequest

    status = await asyncio.to_thread(authenticator.ensure)
    client = AsyncClient(status.pds_url, request=AsyncRequest(**_options(authenticator)))
    client.me = _profile(status.did, status.handle)
    return client


def _options(authenticator: Authenticator) -> dict[str, Any]:
    return {"auth": SessionAuth(authenticator), "timeout": current_settings().request_timeout}


def _profile(did: str, handle: str) -> atproto.models.AppBskyActorDefs.ProfileViewDetailed:
    # send_post reads the DID from the profile. The real profile needs a call that not every PDS answers.
    from atproto import models

    return models.AppBskyActorDefs.ProfileViewDetailed(did=did, handle=handle)
