"""The clients that ask for grants: who they are, and how they show it.

A sandbox fetches nothing, so a test gives it the documents of clients that have one.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prefect_bluesky.sandbox.clock import Clock
from prefect_bluesky.sandbox.oauth.jwts import BadJwt, Jwt, thumbprint
from prefect_bluesky.sandbox.oauth.refusals import invalid_grant, refused
from prefect_bluesky.sandbox.refusal import Refusal

_LOOPBACK = re.compile(r"http://localhost/?(\?[^#]*)?")
_LOOPBACK_HOSTS = {"127.0.0.1", "[::1]"}
_LOCAL = {"test", "local", "localhost", "invalid", "example"}
_FORBIDDEN = re.compile(r"(.*\.)?(example\.(com|org|net)|googleusercontent\.com)")
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_BY_KEY = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SIGNED = "private_key_jwt"
_MAX_AGE = 60
"""Seconds of an assertion (oauth-provider 0.22.9)."""

Form = Mapping[str, str]


@dataclass(frozen=True)
class ClientKey:
    """The key by which a confidential client has shown who it is. A session stays bound to it."""

    kid: str
    algorithm: str
    thumbprint: str


@dataclass(frozen=True)
class Client:
    """A client, by its document."""

    client_id: str
    document: Mapping[str, Any]

    @property
    def is_confidential(self) -> bool:
        """Whether the client has a key of its own."""
        return self.document.get("token_endpoint_auth_method") == _SIGNED

    def may(self, grant_type: str) -> bool:
        """Return True if the document has this grant type."""
        return grant_type in self.document["grant_types"]

    def has_scope(self, scope: str) -> bool:
        """Return True if the client may ask for one scope."""
        return scope in self.document["scope"].split(" ")

    def has_redirect_uri(self, wanted: str) -> bool:
        """Return True if a browser may be sent to this address. A loopback address without a port stands for any."""
        return any(wanted == uri or _is_port_of(uri, wanted) for uri in self.document["redirect_uris"])


class Clients:
    """All clients. Not thread-safe: the caller holds the sandbox's lock."""

    def __init__(self, clock: Clock, issuer: str) -> None:
        self._clock = clock
        self._issuer = issuer
        self._documents: dict[str, Mapping[str, Any]] = {}
        self._assertions: set[tuple[str, str]] = set()

    def host(self, document: Mapping[str, Any]) -> None:
        """Let a document be found at its `client_id`, in place of an earlier one.

        Raises:
            ValueError: the `client_id` is no https:// address.
        """
        client_id = document.get("client_id")
        if not isinstance(client_id, str) or not client_id.startswith("https://"):
            raise ValueError(f"document: its client_id is {client_id!r}. Give a document with an https:// address.")
        self._documents[client_id] = copy.deepcopy(dict(document))

    def remove(self, client_id: str) -> None:
        """Let a document be found no more.

        Raises:
            LookupError: there is no such document (any more).
        """
        if self._documents.pop(client_id, None) is None:
            raise LookupError(f"client_id: the sandbox has no document of {client_id}.")

    def find(self, client_id: str) -> Client:
        """Return a client.

        Raises:
            Refusal: 400. There is no document, or a PDS refuses what is in it.
        """
        if _LOOPBACK.fullmatch(client_id):
            return Client(client_id, _of_loopback(client_id))
        parts = urlsplit(client_id)
        host = (parts.hostname or "").lower()
        if not parts.scheme:
            raise _unreadable(client_id, "Invalid URL")
        if parts.scheme != "https" or host == "localhost":
            raise refused("invalid_client_metadata", f'Invalid client ID "{client_id}"')
        if "." not in host or host.rpartition(".")[2] in _LOCAL:
            raise refused("invalid_client_id", "The client_id's TLD must not be a local hostname")
        if _FORBIDDEN.fullmatch(host):
            raise _unreadable(client_id, "Forbidden hostname")
        document = self._documents.get(client_id)
        if document is None:
            raise _unreadable(client_id, "Connection refused")
        if fault := _fault_of(document):
            raise fault
        return Client(client_id, {"grant_types": ["authorization_code"], **document})

    def authenticate(self, client: Client, form: Form) -> ClientKey | None:
        """Return the key by which a client shows who it is, or None for a public client.

        Raises:
            Refusal: 400. The assertion is missing, bad, or was sent before.
        """
        if not client.is_confidential:
            return None
        assertion = form.get("client_assertion", "")
        if form.get("client_assertion_type") != _BY_KEY or not _JWT.fullmatch(assertion):
            message = 'client authentication method "private_key_jwt" required a "client_assertion"'
            raise refused("invalid_request", message)
        try:
            jwt = Jwt.parse(assertion)
            jwk = _key_of(jwt, client.document["jwks"]["keys"])
            jwt.verify(jwk)
            whose = {"iss": client.client_id, "sub": client.client_id, "aud": self._issuer}
            jwt.check_claims(self._clock.now(), whose, max_age=_MAX_AGE, required=["jti"])
        except BadJwt as bad:
            raise refused("invalid_client", f'Validation of "client_assertion" failed: {bad}') from None
        if not jwt.header.get("kid"):
            raise refused("invalid_client", '"kid" required in client_assertion')
        key = ClientKey(jwt.header["kid"], jwt.header["alg"], thumbprint(jwk))
        used = (client.client_id, str(jwt.claims["jti"]))
        if used in self._assertions:
            raise invalid_grant("private_key_jwt jti reused")
        self._assertions.add(used)
        return key


def _key_of(jwt: Jwt, keys: list[dict[str, Any]]) -> dict[str, Any]:
    kid = jwt.header.get("kid")
    applicable = [key for key in _usable(keys) if kid in (None, key["kid"]) and jwt.header.get("alg") == "ES256"]
    if not applicable:
        raise BadJwt("no applicable key found in the JSON Web Key Set")
    if len(applicable) > 1:
        raise BadJwt("multiple matching keys found in the JSON Web Key Set")
    return applicable[0]


def _usable(keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the keys that a PDS uses: a private key in a document is none."""
    return [key for key in keys if key.get("kid") and "d" not in key]


def _of_loopback(client_id: str) -> Mapping[str, Any]:
    asked = parse_qs(urlsplit(client_id).query)
    return {
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": asked.get("redirect_uri", [f"http://{host}/" for host in sorted(_LOOPBACK_HOSTS)]),
        "scope": asked.get("scope", ["atproto"])[0],
        "token_endpoint_auth_method": "none",
    }


def _is_port_of(uri: str, wanted: str) -> bool:
    allowed, asked = urlsplit(uri), urlsplit(wanted)
    if allowed.netloc not in _LOOPBACK_HOSTS:
        return False
    return asked.netloc.rpartition(":")[0] == allowed.netloc and asked._replace(netloc=allowed.netloc) == allowed


def _fault_of(document: Mapping[str, Any]) -> Refusal | None:
    """Return why a PDS refuses a document."""
    client_id, scope = document["client_id"], document.get("scope")
    uris, is_signed = document.get("redirect_uris"), document.get("token_endpoint_auth_method") == _SIGNED
    if not uris:
        why = "Required" if uris is None else "Array must contain at least 1 element(s)"
        return _unreadable(client_id, f'Validation of "redirect_uris" failed with error: {why}')
    jwks = document.get("jwks")
    faults = {
        "Missing scope property": scope is None,
        'Missing "atproto" scope': "atproto" not in (scope or "").split(" "),
        "private_key_jwt auth method requires jwks or jwks_uri": is_signed and jwks is None,
        "private_key_jwt auth method requires at least one key in jwks": is_signed
        and not _usable((jwks or {}).get("keys", [])),
        "Missing token_endpoint_auth_signing_alg client metadata": is_signed
        and not document.get("token_endpoint_auth_signing_alg"),
        '"dpop_bound_access_tokens" must be true': document.get("dpop_bound_access_tokens") is not True,
        'Native clients must authenticate using "none" method': is_signed
        and document.get("application_type") == "native",
    }
    found = next((fault for fault, is_there in faults.items() if is_there), None)
    if found:
        return refused("invalid_client_metadata", found)
    return next(filter(None, (_fault_of_redirect(uri, document) for uri in uris)), None)


def _fault_of_redirect(uri: str, document: Mapping[str, Any]) -> Refusal | None:
    host = urlsplit(uri).hostname or ""
    if host in {"127.0.0.1", "::1"}:
        if document.get("application_type") == "native":
            return None
        return refused("invalid_redirect_uri", "Loopback redirect URIs are only allowed for native apps")
    if uri.startswith("https:") and ("." not in host or host.rpartition(".")[2] in _LOCAL):
        message = f'Redirect URI "{uri}"\'s domain name must not be a local hostname'
        return refused("invalid_redirect_uri", message)
    return None


def _unreadable(client_id: str, why: str) -> Refusal:
    return refused("invalid_client_metadata", f'Unable to obtain client metadata for "{client_id}": {why}')
