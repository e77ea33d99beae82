"""The PDS itself, without HTTP: its state and its answers."""

import threading
from collections.abc import Callable
from functools import partial

from .accounts import Accounts, Holder, Lifetimes
from .app import Request
from .authorization import Authorization
from .clock import Clock
from .faults import Fault, Faults
from .methods import methods
from .oauth.clients import Clients
from .oauth.endpoints import ENDPOINTS, Endpoints
from .oauth.grants import Grants
from .oauth.proofs import Proofs
from .oauth.requests import AuthorizationRequests
from .service_auth import ServiceAuth
from .tokens import Tokens
from .xrpc import Answer, Call, Json, answer


class Service:
    """All state of a sandbox, behind one lock.

    Attributes:
        lock: must be held to read or change the other attributes.
        clock: the server's time.
        tokens: signs tokens.
        accounts: accounts, sessions and records.
        clients: the clients of OAuth.
        grant_requests: the requests for grants that are open.
        grants: the sessions that were granted.
        names: the NSIDs of the methods, and the names of the endpoints of OAuth.
        faults: the arranged faults.
        requests: the requests so far.
    """

    def __init__(
        self,
        lifetimes: Lifetimes,
        url: str,
        pds_url: str,
        *,
        service_did: str,
        did_doc: bool,
        on_request: Callable[[Request], None] | None,
    ) -> None:
        self.lock = threading.RLock()
        self.clock = Clock()
        self.tokens = Tokens(self.clock, service_did)
        self.accounts = Accounts(self.clock, self.tokens, lifetimes)
        self.clients = Clients(self.clock, url)
        self.grant_requests = AuthorizationRequests(self.clock, url)
        self.grants = Grants(self.clock, self.tokens, url)
        proofs = Proofs(self.clock, url)
        self._endpoints = Endpoints(self.clients, proofs, self.grant_requests, self.grants)
        service_auth = ServiceAuth(self.clock, self.tokens, self.accounts)
        authorization = Authorization(self.accounts, self.tokens, service_auth, proofs, self.grants)
        did_document = self._did_document = partial(_did_document, pds_url)
        self._methods = methods(
            self.accounts, authorization, service_auth, did_document, service_did=service_did, in_session=did_doc
        )
        self.names = {*self._methods, *ENDPOINTS}
        self.faults = Faults()
        self.requests: list[Request] = []
        self._on_request = on_request

    def respond(self, call: Call) -> tuple[Answer, Fault]:
        """Handle a call. Return the answer and the faults to apply to it."""
        with self.lock:
            fault = self.faults.take(call.nsid)
            call.did = self.tokens.subject(call.authorization)
            given = fault.failure or self._answer(call)
            request = Request(call.nsid, call.verb, None if fault.drop else given.status, call.did)
            self.requests.append(request)
        if self._on_request is not None:
            self._on_request(request)
        return given, fault

    def did_document(self, did: str) -> Json | None:
        """Return an account's DID document, as the directory has it, or None."""
        with self.lock:
            holder = self.accounts.find(did)
            return self._did_document(holder) if holder and holder.did == did else None

    def _answer(self, call: Call) -> Answer:
        return self._endpoints.answer(call) if call.nsid in ENDPOINTS else answer(self._methods, call)


def _did_document(pds_url: str, holder: Holder) -> Json:
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": holder.did,
        "alsoKnownAs": [f"at://{holder.handle}"],
        "verificationMethod": [],
        "service": [
            {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": holder.moved_to or pds_url}
        ],
    }
