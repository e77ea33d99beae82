"""An authorization server: where it is, and how its endpoints are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlencode

from prefect_bluesky.errors import InvalidInput, RateLimited, RequestRefused, ServiceUnavailable
from prefect_bluesky.protocol.oauth.client import Client
from prefect_bluesky.protocol.oauth.keys import SigningKey
from prefect_bluesky.protocol.oauth.proofs import learn, origin_of, proof
from prefect_bluesky.settings import current_settings
from prefect_bluesky.validation import is_loopback, normal_service_url
from prefect_bluesky.web import Answer, ask

_ATTEMPTS = 3
"""One for each thing that a server may have to tell first: its nonce, and its time."""

_ABOUT_PROOFS = {"use_dpop_nonce", "invalid_dpop_proof", "invalid_client"}
"""Refusals that spend neither a code nor a refresh token (measured on @atproto/pds 0.5.35). A server answers
`invalid_client` also if an assertion's time is wrong."""


@dataclass(frozen=True)
class AuthorizationServer:
    """The authorization server of a PDS: the PDS itself, or one for many.

    Attributes:
        issuer: the server's name, which is its URL.
        authorize_url: the page for the person.
        par_url: takes what is asked for (RFC 9126).
        token_url: gives tokens.
        revoke_url: ends sessions.
        allow_private: whether the server may be in a private network.
    """

    issuer: str
    authorize_url: str
    par_url: str
    token_url: str
    revoke_url: str
    allow_private: bool = False

    @classmethod
    def of(cls, pds_url: str) -> Self:
        """Find the authorization server of a PDS.

        Raises:
            RequestRefused: the PDS, or what it names, has no OAuth as the AT Protocol demands.
            ServiceUnavailable, RateLimited: a server cannot be asked now.
        """
        # What a PDS in the internet says must not lead into a private network.
        allow_private = current_settings().allow_private_addresses or is_loopback(pds_url)
        about = _read(f"{pds_url}/.well-known/oauth-protected-resource", allow_private)
        named = about.get("authorization_servers")
        issuer = _server_in(named[0] if isinstance(named, list) and named else None, pds_url)
        found = _read(f"{issuer}/.well-known/oauth-authorization-server", allow_private)
        if found.get("issuer") != issuer:
            raise _refused(issuer, f"it calls itself {str(found.get('issuer'))[:100]!r}")
        return cls(
            issuer=issuer,
            authorize_url=_endpoint_in(found, "authorization_endpoint", issuer),
            par_url=_endpoint_in(found, "pushed_authorization_request_endpoint", issuer),
            token_url=_endpoint_in(found, "token_endpoint", issuer),
            revoke_url=_endpoint_in(found, "revocation_endpoint", issuer),
            allow_private=allow_private,
        )

    def request(self, url: str, client: Client, key: SigningKey, form: Mapping[str, str]) -> dict[str, Any]:
        """Send a form to an endpoint, and return its answer.

        A refusal that is about the proof alone is answered with another attempt, as nothing was spent.

        Raises:
            RequestRefused: the server refuses; `error` has its reason.
            ServiceUnavailable, RateLimited: the server cannot be asked now. If `was_sent`, what was sent may be spent.
        """
        for _ in range(_ATTEMPTS):
            body = urlencode({**form, **client.authentication(self.issuer, url)}).encode()
            sent = proof(key, "POST", url)
            headers = {"DPoP": sent, "Content-Type": "application/x-www-form-urlencoded"}
            answer = ask("POST", url, headers=headers, body=body, allow_private=self.allow_private)
            is_news = learn(url, answer.headers, sent)
            if not (is_news and answer.content.get("error") in _ABOUT_PROOFS):
                break
        return _result(answer, url)


def _read(url: str, allow_private: bool) -> dict[str, Any]:
    return _result(ask("GET", url, allow_private=allow_private), url)


def _result(answer: Answer, url: str) -> dict[str, Any]:
    server_url, content = origin_of(url), answer.content
    method = url.removeprefix(server_url).strip("/")
    if answer.status < HTTPStatus.MULTIPLE_CHOICES and (content or answer.data.strip() in {b"", b"{}"}):
        return content
    error, message = (str(content[name])[:300] if name in content else None for name in ("error", "error_description"))
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = answer.headers.get("retry-after", "")
        rest = timedelta(seconds=int(wait)) if wait.isdecimal() and len(wait) < 10 else None
        raise RateLimited(server_url, method, answer.status, error, message, rest)
    if error is None and answer.status == HTTPStatus.NOT_FOUND:
        raise RequestRefused(server_url, method, answer.status, message="there is no OAuth here")
    if error is None or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServiceUnavailable(server_url, method, answer.status, error, message)
    raise RequestRefused(server_url, method, answer.status, error, message)


def _server_in(named: object, pds_url: str) -> str:
    try:
        return normal_service_url(str(named))
    except InvalidInput:
        raise _refused(pds_url, f"it names {str(named)[:100]!r} as its authorization server") from None


def _endpoint_in(found: Mapping[str, Any], name: str, issuer: str) -> str:
    url = str(found.get(name))
    try:
        normal_service_url(origin_of(url))
    except InvalidInput:
        raise _refused(issuer, f"it names {url[:100]!r} as its {name}") from None
    return url


def _refused(server_url: str, why: str) -> RequestRefused:
    return RequestRefused(server_url, ".well-known", HTTPStatus.OK, message=f"{why}, which cannot be used")
