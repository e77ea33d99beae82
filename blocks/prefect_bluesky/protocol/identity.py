"""Find an account's identity and server: handle, DID, DID document, PDS."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from prefect_bluesky.errors import InvalidInput, RequestRefused, ServiceError, ServiceUnavailable
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.validation import normal_service_url

_ENTRYWAY, _ITS_HOSTS = "https://bsky.social", ".host.bsky.network"
"""Where the accounts of Bluesky's own PDSs sign in, as the documents of these PDSs say (testdata of
https://github.com/bluesky-social/indigo)."""

_NO_SUCH = re.compile("DID not (registered|available)")
"""The words of https://plc.directory for a DID that it does not know, or whose owner has ended it."""


def resolve_handle(server_url: str, handle: str, *, timeout: float | None = None) -> str | None:
    """Return the DID of a handle, or None if no account has it; see `xrpc.query`."""
    method = "com.atproto.identity.resolveHandle"
    try:
        did = xrpc.query(server_url, method, {"handle": handle}, timeout=timeout).get("did")
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


def handles_in(did_document: object) -> list[str]:
    """Return the handles that a DID document claims (https://atproto.com/specs/did), in lower case."""
    names = did_document.get("alsoKnownAs") if isinstance(did_document, dict) else None
    return [str(name).removeprefix("at://").lower() for name in (names if isinstance(names, list) else [])]


def signs_in_at(service_url: str, pds_url: str) -> bool:
    """Return whether the accounts of a PDS sign in at a service: at the PDS itself, or at Bluesky's entryway.

    Example:
        >>> signs_in_at("https://bsky.social", "https://porcini.us-east.host.bsky.network")
        True
        >>> signs_in_at("https://bsky.social", "https://pds.example.com")
        False
    """
    return service_url == pds_url or (
        service_url == _ENTRYWAY and (urlsplit(pds_url).hostname or "").endswith(_ITS_HOSTS)
    )


def did_of_server(url: str) -> str:
    """Return the DID that a server has by its host name (https://w3c-ccg.github.io/did-method-web/).

    Example:
        >>> did_of_server("http://localhost:2583")
        'did:web:localhost%3A2583'
    """
    parts = urlsplit(url)
    return f"did:web:{parts.hostname}" + (f"%3A{parts.port}" if parts.port else "")


def did_document(did: str, directory_url: str, *, timeout: float | None = None) -> dict[str, Any] | None:
    """Return an account's DID document, from the PLC directory or its `did:web` host, or None if there is none.

    Raises:
        ServiceError: no answer, or the answer of something else.
    """
    kind, _, name = did.removeprefix("did:").partition(":")
    url = f"{directory_url}/{did}" if kind == "plc" else f"https://{name}/.well-known/did.json"
    try:
        found = xrpc.get_json(url, timeout=timeout)
    except ServiceError as trouble:
        if trouble.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE} and _NO_SUCH.match(trouble.message or ""):
            return None
        raise
    if found.get("id") != did:
        raise ServiceUnavailable(url, "GET", HTTPStatus.OK, message="no DID document")
    return found
