"""Find an account's identity and server: handle, DID, DID document, PDS."""

from __future__ import annotations

from typing import Any

from prefect_bluesky.errors import InvalidInput, RequestRefused, ServiceError, ServiceUnavailable
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.validation import normal_service_url


def resolve_handle(server_url: str, handle: str) -> str | None:
    """Return the DID of a handle, or None if no account has it; raise as `xrpc.query` does."""
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
    """Return the PDS in a DID document (https://atproto.com/specs/did), or None if tokens must not be sent there."""
    services = did_document.get("service") if isinstance(did_document, dict) else None
    for service in services if isinstance(services, list) else []:
        if isinstance(service, dict) and str(service.get("id", "")).endswith("#atproto_pds"):
            try:
                return normal_service_url(str(service.get("serviceEndpoint")))
            except InvalidInput:
                return None  # such as plain http, which would expose our tokens
    return None


def did_document(did: str, directory_url: str) -> dict[str, Any] | None:
    """Return an account's DID document, from the PLC directory or its `did:web` host, or None if there is no answer."""
    kind, _, name = did.removeprefix("did:").partition(":")
    url = f"{directory_url}/{did}" if kind == "plc" else f"https://{name}/.well-known/did.json"
    try:
        return xrpc.get_json(url)
    except ServiceError:
        return None
