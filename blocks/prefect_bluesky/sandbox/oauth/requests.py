"""The requests for grants: pushed by a client, shown to the account's owner, and traded for tokens by a code."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from prefect_bluesky.sandbox.accounts import Holder
from prefect_bluesky.sandbox.clock import Clock
from prefect_bluesky.sandbox.lexicon import has_form, is_did
from prefect_bluesky.sandbox.oauth.clients import Client, ClientKey
from prefect_bluesky.sandbox.oauth.jwts import digest
from prefect_bluesky.sandbox.oauth.refusals import invalid_grant, refused
from prefect_bluesky.sandbox.oauth.scopes import included, understood
from prefect_bluesky.sandbox.refusal import Refusal

LIFETIME = 5 * 60
"""Seconds of a request, and then of its code (oauth-provider 0.22.9)."""

_URI = "urn:ietf:params:oauth:request_uri:"
_CODE = re.compile(r"cod-[0-9a-f]{64}")


@dataclass
class Bound:
    """What a request, and then its session, is bound to.

    Attributes:
        client_id: the client that asked.
        client_key: the client's key, or None for a public client.
        proof_key: the thumbprint of the key of the proofs; None until one was sent.
    """

    client_id: str
    client_key: ClientKey | None
    proof_key: str | None

    def refuse_other(self, now: "Bound") -> None:
        """Refuse who is not bound.

        Raises:
            Refusal: 400.
        """
        if now.client_id != self.client_id:
            raise invalid_grant("Token was not issued to this client")
        if self.proof_key is not None and now.proof_key != self.proof_key:
            raise invalid_grant("DPoP proof does not match the expected JKT")
        if self.client_key is not None and now.client_key != self.client_key:
            message = "The session was initiated with a different key than the client assertion currently used"
            raise invalid_grant(message)


@dataclass
class AuthorizationRequest:
    """A request, and what has become of it.

    Attributes:
        parameters: what the client has sent.
        scope: what can be granted of the scope.
        expires_at: when it ends, or its code, in seconds since 1970.
        did: the account that was granted, once it is.
        code: the code for the tokens, once there is one.
    """

    bound: Bound
    parameters: Mapping[str, str] = field(repr=False)
    scope: str
    expires_at: float
    did: str | None = None
    code: str | None = field(default=None, repr=False)


class AuthorizationRequests:
    """All requests that are open. Not thread-safe: the caller holds the sandbox's lock."""

    def __init__(self, clock: Clock, issuer: str) -> None:
        self._clock = clock
        self._issuer = issuer
        self._open: dict[str, AuthorizationRequest] = {}
        self._challenges: set[str] = set()

    def push(self, client: Client, bound: Bound, form: Mapping[str, str]) -> str:
        """Return the name of a new request.

        Raises:
            Refusal: 400. The request cannot be granted.
        """
        uris = client.document["redirect_uris"]
        form = {**({"redirect_uri": uris[0]} if len(uris) == 1 else {}), **form}
        if fault := _fault_of(client, form):
            raise fault
        uri = f"{_URI}req-{secrets.token_hex(16)}"
        expires_at = self._clock.now() + LIFETIME
        self._open[uri] = AuthorizationRequest(bound, form, understood(form["scope"]), expires_at)
        return uri

    def consent(self, uri: str, client_id: str, holder: Holder) -> str:
        """Grant a request. Return the address where the browser ends.

        Raises:
            LookupError: there is no such request (any more).
        """
        request = self._find(uri)
        error = self._error_of(request, client_id)
        if error is None and holder.deactivated:
            error = "This account has been deactivated"
        if error is not None:
            return self._refused(uri, error)
        request.did, request.code = holder.did, f"cod-{secrets.token_hex(32)}"
        request.expires_at = self._clock.now() + LIFETIME
        return self._address(request, {"code": request.code})

    def refuse(self, uri: str, client_id: str) -> str:
        """Refuse a request. Return the address where the browser ends.

        Raises:
            LookupError: there is no such request (any more).
        """
        error = self._error_of(self._find(uri), client_id)
        return self._refused(uri, error or "The user rejected the request")

    def take(self, code: str) -> AuthorizationRequest | None:
        """Return the request of a code, or None. The code is spent.

        Raises:
            Refusal: 400. The text is no code, or the code is too old.
        """
        if not _CODE.fullmatch(code):
            raise invalid_grant(f"Invalid code: {malformed(code, 'code', 'code')}")
        uri = next((uri for uri, request in self._open.items() if request.code == code), None)
        if uri is None:
            return None
        request = self._open.pop(uri)
        if request.expires_at < self._clock.now():
            raise invalid_grant("This code has expired")
        return request

    def check(self, request: AuthorizationRequest, form: Mapping[str, str]) -> None:
        """Check what comes with a code.

        Raises:
            Refusal: 400. The redirect URI differs, or the verifier is wrong or was used before.
        """
        if form["redirect_uri"] != request.parameters["redirect_uri"]:
            message = "The redirect_uri parameter must match the one used in the authorization request"
            raise invalid_grant(message)
        challenge = request.parameters["code_challenge"]
        if "code_verifier" not in form:
            raise invalid_grant("code_verifier is required")
        if digest(form["code_verifier"]) != challenge.rstrip("="):
            raise invalid_grant("Invalid code_verifier")
        if challenge in self._challenges:
            raise invalid_grant("Code challenge already used")
        self._challenges.add(challenge)

    def _find(self, uri: str) -> AuthorizationRequest:
        request = self._open.get(uri)
        if request is None:
            raise LookupError("link: the sandbox has no such request for a grant (any more). Ask for a new link.")
        return request

    def _error_of(self, request: AuthorizationRequest, client_id: str) -> str | None:
        if request.did is not None:
            return "This request was already authorized"
        if request.expires_at < self._clock.now():
            return "This request has expired"
        return None if request.bound.client_id == client_id else "This request was initiated for another client"

    def _refused(self, uri: str, description: str) -> str:
        request = self._open.pop(uri)
        return self._address(request, {"error": "access_denied", "error_description": description})

    def _address(self, request: AuthorizationRequest, found: Mapping[str, str]) -> str:
        uri, state = request.parameters["redirect_uri"], request.parameters.get("state")
        query = {**({} if state is None else {"state": state}), "iss": self._issuer, **found}
        return f"{uri}{'&' if urlsplit(uri).query else '?'}{urlencode(query)}"


def malformed(text: str, name: str, what: str) -> str:
    """Return the words of a PDS for a code or token of another form."""
    length = "" if len(text) == 68 else f"String must contain exactly 68 character(s) at {name}; "
    return f"{length}Invalid {what} format at {name}"


def _fault_of(client: Client, form: Mapping[str, str]) -> Refusal | None:
    scopes, redirect_uri = form.get("scope", "").split(" "), form.get("redirect_uri", "")
    hint = form.get("login_hint", "").lower()
    undeclared = next((scope for scope in scopes if "scope" in form and not client.has_scope(scope)), None)
    if form["response_type"] != "code":
        return refused("unsupported_response_type", f'Unsupported response_type "{form["response_type"]}"')
    if undeclared is not None:
        return refused("invalid_scope", f'Scope "{undeclared}" is not declared in the client metadata')
    if not client.has_redirect_uri(redirect_uri):
        return refused("invalid_request", f"Invalid redirect_uri {redirect_uri}")
    if "code_challenge" not in form:
        return refused("invalid_request", "Use of PKCE is required")
    if "atproto" not in scopes:
        return refused("invalid_scope", 'The "atproto" scope is required')
    if form.get("code_challenge_method") != "S256":
        return refused("invalid_request", 'atproto requires use of "S256" code_challenge_method')
    if form.get("prompt") == "none" and not client.is_confidential:
        return refused("invalid_request", "Public clients are not allowed to use silent-sign-on")
    if hint and not is_did(hint) and not has_form(hint, "handle"):
        return refused("invalid_request", f'Invalid login_hint "{hint}"')
    if sets := included(form["scope"]):
        return refused("invalid_scope", f"Could not resolve Lexicon for NSID ({sets[0]})")
    return None
