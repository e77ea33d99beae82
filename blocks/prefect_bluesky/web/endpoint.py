"""Ask an endpoint that somebody named, at public addresses only. No redirect is followed, and no cookie is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpcore
import httpx

from prefect_bluesky.errors import ServiceUnavailable
from prefect_bluesky.settings import current_settings, user_agent
from prefect_bluesky.web.network import Deadline, PublicNetwork, Trouble, tls
from prefect_bluesky.web.tunnel import ProxyRefusal

_MOST = 200_000
"""Bytes of an answer."""


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered. Neither `repr` nor `str` shows the content, which may be tokens."""

    status: int
    headers: httpx.Headers = field(repr=False)
    data: bytes = field(repr=False)

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object that was answered; empty if there is none."""
        try:
            content = json.loads(self.data)
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}


def ask(
    verb: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", allow_private: bool = False
) -> Answer:
    """Send a request, and return the answer whatever its status, within the setting REQUEST_TIMEOUT.

    `allow_private` admits private networks and this machine.

    Raises:
        ServiceUnavailable: there is no answer. `was_sent` says whether the endpoint may have got the request.
    """
    target = httpx.URL(url)
    sent = {"Host": target.netloc.decode(), "Accept": "application/json", "User-Agent": user_agent(), **(headers or {})}
    if verb == "POST":
        sent["Content-Length"] = str(len(body))
    network = PublicNetwork(Deadline(current_settings().request_timeout), allow_private)
    try:
        with (
            httpcore.ConnectionPool(ssl_context=tls(), network_backend=network) as pool,
            pool.stream(verb, url, headers=list(sent.items()), content=body) as answer,
        ):
            return Answer(answer.status, httpx.Headers(answer.headers), _content(answer))
    except (Trouble, ProxyRefusal) as trouble:
        # The address or the certificate is wrong, so nothing was sent.
        retryable = isinstance(trouble, ProxyRefusal) or trouble.retryable
        raise _unavailable(target, f"ConnectError: {trouble}").with_retryable(retryable) from None
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as trouble:
        # The cause is dropped: it may show a header, which may be a token.
        raise _unavailable(target, type(trouble).__name__) from None


def _content(answer: httpcore.Response) -> bytes:
    data = b""
    for chunk in answer.iter_stream():
        data += chunk
        if len(data) > _MOST:
            raise httpcore.RemoteProtocolError
    return data


def _unavailable(target: httpx.URL, message: str) -> ServiceUnavailable:
    server_url = f"{target.scheme}://{target.netloc.decode()}"
    return ServiceUnavailable(server_url, target.path.strip("/") or "GET", None, message=message)
