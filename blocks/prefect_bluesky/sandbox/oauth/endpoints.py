"""The endpoints of the authorization server: what they take, in which order they check it, and what they answer."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from prefect_bluesky.sandbox.oauth.clients import Client, Clients
from prefect_bluesky.sandbox.oauth.grants import Grants
from prefect_bluesky.sandbox.oauth.proofs import Proof, Proofs
from prefect_bluesky.sandbox.oauth.refusals import as_answer, invalid_grant, invalid_proof, refused
from prefect_bluesky.sandbox.oauth.requests import LIFETIME, AuthorizationRequests, Bound
from prefect_bluesky.sandbox.refusal import Refusal
from prefect_bluesky.sandbox.xrpc import Answer, Call, Json

ENDPOINTS = PAR, TOKEN, REVOKE = "oauth/par", "oauth/token", "oauth/revoke"

_GRANT_TYPES = "'authorization_code' | 'refresh_token' | 'password' | 'client_credentials'"
_NEEDED = {
    "authorization_code": ("code", "redirect_uri"),
    "refresh_token": ("refresh_token",),
    "password": ("username", "password"),
    "client_credentials": (),
}
_VERIFIER = 43
"""The length of the shortest verifier (RFC 7636)."""

Form = dict[str, str]


class Endpoints:
    """The endpoints by their names. Not thread-safe: the caller holds the sandbox's lock."""

    def __init__(self, clients: Clients, proofs: Proofs, requests: AuthorizationRequests, grants: Grants) -> None:
        self._clients = clients
        self._proofs = proofs
        self._requests = requests
        self._grants = grants
        self._handlers: dict[str, Callable[[Call, Form], Answer]] = {
            PAR: self._push,
            TOKEN: self._token,
            REVOKE: self._revoke,
        }

    def answer(self, call: Call) -> Answer:
        """Answer a call of an endpoint."""
        if call.verb != "POST":
            return Answer(405 if call.nsid == PAR else 404, None)
        try:
            given = self._handlers[call.nsid](call, _form(call))
        except Refusal as refusal:
            given = as_answer(refusal)
        own = {"dpop-nonce": self._proofs.nonce(), "cache-control": "no-store", "pragma": "no-cache"}
        return Answer(given.status, given.body, {"access-control-allow-origin": "*", **own, **given.headers})

    def _push(self, call: Call, form: Form) -> Answer:
        _need(form, "client_id", error="invalid_client", what="Client credentials missing")
        if "response_type" not in form:
            missing = "Required at body.response_type, or Required at body.request, or Required at body.request"
            raise refused("invalid_request", f"Invalid authorization request: {missing}")
        if form.get("redirect_uri", "").startswith("http://localhost"):
            why = 'Use of "localhost" hostname is not allowed (RFC 8252), use a loopback IP such as "127.0.0.1" instead'
            raise refused("invalid_request", f"Invalid authorization request: {why} at body.redirect_uri")
        proof = self._proofs.check(call)
        client = self._clients.find(form["client_id"])
        uri = self._requests.push(client, self._bound(client, form, proof), form)
        return Answer(201, {"request_uri": uri, "expires_in": LIFETIME})

    def _token(self, call: Call, form: Form) -> Answer:
        _need(form, "client_id", error="invalid_grant", what="Client credentials missing")
        _check_token_request(form)
        client, bound = self._authenticated(self._proofs.check(call), form)
        grant_type = form["grant_type"]
        if grant_type not in ("authorization_code", "refresh_token"):
            raise invalid_grant(f'Grant type "{grant_type}" is not supported by the server')
        if not client.may(grant_type):
            raise invalid_grant(f'"{grant_type}" grant type is not allowed for this client')
        trade = self._trade_code if grant_type == "authorization_code" else self._refresh
        body = trade(form, client, bound)
        call.did = body["sub"]
        return Answer(200, body)

    def _trade_code(self, form: Form, client: Client, bound: Bound) -> Json:
        request = self._requests.take(form["code"])
        if request is None or request.did is None:
            self._grants.replay(form["code"])
            raise invalid_grant("Invalid code")
        request.bound.refuse_other(bound)
        self._requests.check(request, form)
        return self._grants.open(request.did, client, bound, request.scope, request.code)

    def _refresh(self, form: Form, client: Client, bound: Bound) -> Json:
        return self._grants.refresh(form["refresh_token"], client, bound)

    def _revoke(self, call: Call, form: Form) -> Answer:
        _need(form, "client_id", error="invalid_request", what="Client credentials missing")
        _need(form, "token", error="invalid_request", what="Invalid request payload")
        proof = self._proofs.check(call)
        with suppress(Refusal):  # of which a PDS says nothing
            self._grants.revoke(form["token"], self._authenticated(proof, form)[1])
        return Answer(200, {})

    def _authenticated(self, proof: Proof | None, form: Form) -> tuple[Client, Bound]:
        client = self._clients.find(form["client_id"])
        if proof is None:
            raise invalid_proof("DPoP proof required")
        return client, self._bound(client, form, proof)

    def _bound(self, client: Client, form: Form, proof: Proof | None) -> Bound:
        return Bound(client.client_id, self._clients.authenticate(client, form), proof.key if proof else None)


def _form(call: Call) -> Form:
    content_type = call.headers.get("content-type", "application/octet-stream").partition(";")[0].strip()
    text = call.content.decode("utf-8", "replace")
    if content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(text, keep_blank_values=True))
    if content_type != "application/json":
        raise Refusal(415, "invalid_request", f"Unsupported content-type: {content_type}")
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise refused("invalid_request", "Invalid JSON")
    return {name: str(value) for name, value in found.items()}


def _need(form: Form, *names: str, error: str, what: str) -> None:
    missing = [f"Required at body.{name}" for name in names if name not in form]
    if missing:
        raise refused(error, f"{what}: {'; '.join(missing)}")


def _check_token_request(form: Form) -> None:
    """Raise `Refusal` for a request that lacks what its grant type needs."""
    what = "Invalid request payload"
    needed = _NEEDED.get(form.get("grant_type", ""))
    if needed is None:
        raise invalid_grant(f"{what}: Invalid discriminator value. Expected {_GRANT_TYPES} at body.grant_type")
    _need(form, *needed, error="invalid_grant", what=what)
    if len(form.get("code_verifier", "x" * _VERIFIER)) < _VERIFIER:
        raise invalid_grant(f"{what}: String must contain at least {_VERIFIER} character(s) at body.code_verifier")
