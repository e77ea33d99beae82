"""Who an account is and where it lives: handle, DID, DID document, PDS."""

from __future__ import annotations

from typing import Any

from prefect_bluesky.errors import InvalidInput, RequestRefused, ServiceError, ServiceUnavailable
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.validation import normal_service_url


def resolve_handle(server_url: str, handle: str) -> str | None:
    """The DID of a handle, or None if nobody has it.

    Args:
        server_url: the PDS or service to ask.
        handle: the handle.

    Raises:
        ServiceUnavailable, RateLimited, RequestRefused: the server cannot say.
    """
    method = "com.atproto.identity.resolveHandle"
    try:
        did = xrpc.query(server_url, method, {"handle": handle}).get("did")
    except RequestRefused as refused:
        if refused.error in {"HandleNotFound", "InvalidRequest"}:
            return None
        raise
    if not isinstance(did, str) or not did.startswith("did:"):
        raise ServiceUnavailable(server_url, method, 200, message="no DID")
    return did


def pds_in(did_document: object) -> str | None:
    """The PDS that a DID document names (https://atproto.com/specs/did), if tokens may be sent there."""
    services = did_document.get("service") if isinstance(did_document, dict) else None
    for service in services if isinstance(services, list) else []:
        if isinstance(service, dict) and str(service.get("id", "")).endswith("#atproto_pds"):
            try:
                return normal_service_url(str(service.get("serviceEndpoint")))
            except InvalidInput:
                return None  # an address that our tokens must not be sent to, such as plain http
    return None


def did_document(did: str, directory_url: str) -> dict[str, Any] | None:
    """The DID document of an account, or None if it cannot be had.

    Args:
        did: a `did:plc`, which the directory knows, or a `did:web`, which its own host does.
        directory_url: the PLC directory, such as `https://plc.directory`.
    """
    kind, _, name = did.removeprefix("did:").partition(":")
    url = f"{directory_url}/{did}" if kind == "plc" else f"https://{name}/.well-known/did.json"
    try:
        return xrpc.get_json(url)
    except ServiceError:
        return None
