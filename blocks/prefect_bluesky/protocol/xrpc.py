"""Call XRPC methods: return the JSON, or raise an error of this package. Sessions are unknown here."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from mmap import mmap
from typing import Any

import httpx

from prefect_bluesky.errors import RateLimited, RequestRefused, ServiceUnavailable
from prefect_bluesky.settings import current_settings, user_agent
from prefect_bluesky.web import title_of


def query(
    server_url: str,
    method: str,
    params: Mapping[str, str | Sequence[str]],
    *,
    auth: httpx.Auth | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Call an XRPC query (GET).

    Args:
        server_url: the server's URL, without a trailing slash.
        method: the XRPC method.
        params: the query's parameters; one with several values is repeated.
        auth: signs the request.
        timeout: seconds that the server may take; by default the setting REQUEST_TIMEOUT.

    Raises:
        ServiceUnavailable: no answer, 5xx, or an answer without an XRPC `error`: that of a firewall, a proxy or a page.
        RateLimited: 429.
        RequestRefused: any other refusal of the server.
    """
    return _call("GET", server_url, method, auth=auth, params=params, timeout=timeout)


def procedure(
    server_url: str, method: str, body: Mapping[str, Any] | None = None, *, auth: httpx.Auth | None = None
) -> dict[str, Any]:
    """Call an XRPC procedure (POST), without a body if the method has no input; raise as `query` does."""
    return _call("POST", server_url, method, auth=auth, json=body)


def upload(
    server_url: str,
    method: str,
    data: bytes | mmap,
    content_type: str,
    *,
    params: Mapping[str, str] | None = None,
    auth: httpx.Auth | None = None,
    accept: Collection[int] = (),
) -> dict[str, Any]:
    """Call an XRPC procedure (POST) that takes raw bytes, such as a blob or a video; raise as `query` does.

    The total time is not limited. The statuses in `accept` count as success.
    """
    # The length is given, so the server does not have to read chunks.
    headers = {"Content-Type": content_type, "Content-Length": str(len(data))}
    url = f"{server_url}/xrpc/{method}"
    answer = _send("POST", url, auth=auth, params=params, content=_Pieces(data), headers=headers)
    return _result(answer, server_url, method, accept)


def get_json(url: str, *, timeout: float | None = None) -> dict[str, Any]:
    """Return a JSON object from any URL, such as a DID document; see `query`."""
    return _result(_send("GET", url, timeout=timeout), url, "GET")


def server_time(server_url: str) -> datetime:
    """Return the time of a server's clock, to the second; raise `ServiceUnavailable` if the answer has no date."""
    method = "com.atproto.server.describeServer"
    answer = _send("GET", f"{server_url}/xrpc/{method}")
    try:
        return parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        raise ServiceUnavailable(server_url, method, answer.status_code, message="no Date header") from None


class BearerToken(httpx.Auth):
    """A signer that uses one token, whatever the answer. The caller must pass a token that a header can hold."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class _Pieces:
    """A body in pieces, which can be sent again.

    A timeout applies to one write, and Python's TLS writes all its bytes at once. In one piece, 300 MB would have to be
    sent within the time that is meant for an answer.
    """

    def __init__(self, data: bytes | mmap) -> None:
        self._data = memoryview(data)

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), _PIECE):
            yield bytes(self._data[start : start + _PIECE])


_PIECE = 256 * 1024  # bytes
_PASSING = {408, 425}  # proxies answer Request Timeout and Too Early when a retry makes sense


@cache
def _http() -> httpx.Client:
    # One client for the process: accounts share its connections, and a TLS context takes 20 ms to make.
    # It never follows a redirect, which could carry an app password to another server.
    return httpx.Client(headers={"User-Agent": user_agent()})


# A forked child must not read from its parent's connections.
os.register_at_fork(after_in_child=_http.cache_clear)


def _call(verb: str, server_url: str, method: str, **options: Any) -> dict[str, Any]:
    return _result(_send(verb, f"{server_url}/xrpc/{method}", **options), server_url, method)


def _send(verb: str, url: str, *, timeout: float | None = None, **options: Any) -> httpx.Response:
    try:
        return _http().request(verb, url, timeout=timeout or current_settings().request_timeout, **options)
    except (httpx.RequestError, httpx.InvalidURL) as trouble:
        # The cause is dropped: httpx puts the text of a header that it refuses, even a token's, into the exception.
        server_url, _, method = url.partition("/xrpc/")
        raise ServiceUnavailable(server_url, method or "GET", None, message=type(trouble).__name__) from None


def _result(answer: httpx.Response, server_url: str, method: str, accept: Collection[int] = ()) -> dict[str, Any]:
    content = _json_object(answer)
    if content is not None and (answer.is_success or answer.status_code in accept):
        return content
    said = content or {}
    if isinstance(said.get("jobStatus"), dict):
        said = said["jobStatus"]  # the video service nests some refusals one level deeper
    error, message = (said[key] if isinstance(said.get(key), str) else None for key in ("error", "message"))
    # Only the server itself gives its refusals a name. What has none says nothing about the request.
    is_of_another = error is None
    if is_of_another:
        message = message or title_of(answer.content)
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimited(server_url, method, 429, error, message, _retry_after(answer))
    if is_of_another or answer.is_server_error or answer.is_success or answer.status_code in _PASSING:
        raise ServiceUnavailable(server_url, method, answer.status_code, error, message, _retry_after(answer))
    raise RequestRefused(server_url, method, answer.status_code, error, message)


def _json_object(answer: httpx.Response) -> dict[str, Any] | None:
    if not answer.content and answer.is_success:
        return {}
    try:
        content = answer.json()
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _retry_after(answer: httpx.Response) -> timedelta | None:
    seconds = answer.headers.get("retry-after", "")
    if seconds.isdecimal() and len(seconds) < 10:
        return timedelta(seconds=int(seconds))
    reset = answer.headers.get("ratelimit-reset", "")
    if answer.status_code != HTTPStatus.TOO_MANY_REQUESTS or not reset.isdecimal() or len(reset) > 12:
        return None
    # The reset is in seconds since 1970, by the server's clock.
    try:
        then = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        then = datetime.now(UTC)
    return max(datetime.fromtimestamp(int(reset), UTC) - then, timedelta())
