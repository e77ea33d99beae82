"""One XRPC call: its JSON, or an error of ours. Nothing here knows sessions."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import httpx

from prefect_bluesky.errors import RateLimited, RequestRefused, ServiceUnavailable
from prefect_bluesky.settings import current_settings


def query(server_url: str, method: str, params: Mapping[str, str], *, auth: httpx.Auth | None = None) -> dict[str, Any]:
    """Call an XRPC query (GET).

    Raises:
        ServiceUnavailable: no answer, or 5xx.
        RateLimited: 429.
        RequestRefused: any other answer but success.
    """
    return _call("GET", server_url, method, auth=auth, params=params)


def procedure(
    server_url: str, method: str, body: Mapping[str, Any] | None = None, *, auth: httpx.Auth | None = None
) -> dict[str, Any]:
    """Call an XRPC procedure (POST); a method without input is sent without a body.

    Raises: as `query`.
    """
    return _call("POST", server_url, method, auth=auth, json=body)


def upload(
    server_url: str,
    method: str,
    data: bytes,
    content_type: str,
    *,
    params: Mapping[str, str] | None = None,
    auth: httpx.Auth | None = None,
    accept: Collection[int] = (),
) -> dict[str, Any]:
    """Call an XRPC procedure (POST) that takes raw bytes, such as a blob or a video.

    Args:
        server_url: the server.
        method: the XRPC method, such as `com.atproto.repo.uploadBlob`.
        data: the bytes; how long they take in all is not limited.
        content_type: what they are, such as `image/png`.
        params: query parameters.
        auth: signs the request.
        accept: statuses besides those of success that come with an answer.

    Raises: as `query`.
    """
    # The length is known, so no server has to deal with chunks.
    headers = {"Content-Type": content_type, "Content-Length": str(len(data))}
    url = f"{server_url}/xrpc/{method}"
    answer = _send("POST", url, auth=auth, params=params, content=_Pieces(data), headers=headers)
    return _result(answer, server_url, method, accept)


def get_json(url: str) -> dict[str, Any]:
    """A JSON object from anywhere, such as a DID document.

    Raises: as `query`.
    """
    return _result(_send("GET", url), url, "GET")


def server_time(server_url: str) -> datetime:
    """What a server's clock says, to the second.

    Raises:
        ServiceUnavailable: no answer, or one without a date.
    """
    method = "com.atproto.server.describeServer"
    answer = _send("GET", f"{server_url}/xrpc/{method}")
    try:
        return parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        raise ServiceUnavailable(server_url, method, answer.status_code, message="no Date header") from None


class BearerToken(httpx.Auth):
    """Signs a request with one token, whatever the answer. The token's alphabet is the caller's business."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class _Pieces:
    """A body in pieces, over and over if it must be sent again.

    A timeout is for one write, and Python's TLS writes all that it is given at once: 300 MB would have to be through in
    the time that is meant for an answer.
    """

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), _PIECE):
            yield bytes(self._data[start : start + _PIECE])


_PIECE = 256 * 1024

# Request Timeout and Too Early: proxies say these, and mean "again".
_PASSING = {408, 425}


@cache
def _http() -> httpx.Client:
    # One for the whole process: connections are shared between accounts, and a TLS context takes 20 ms to make.
    # A redirect is never followed: it could carry an app password to another server.
    return httpx.Client(headers={"User-Agent": f"prefect-bluesky/{version('prefect-bluesky')}"})


# A forked child must not read from its parent's connections.
os.register_at_fork(after_in_child=_http.cache_clear)


def _call(verb: str, server_url: str, method: str, **options: Any) -> dict[str, Any]:
    return _result(_send(verb, f"{server_url}/xrpc/{method}", **options), server_url, method)


def _send(verb: str, url: str, **options: Any) -> httpx.Response:
    try:
        return _http().request(verb, url, timeout=current_settings().request_timeout, **options)
    except (httpx.RequestError, httpx.InvalidURL) as trouble:
        # Without its cause: httpx puts the text of a header that it refuses, a token's too, into the exception.
        server_url, _, method = url.partition("/xrpc/")
        raise ServiceUnavailable(server_url, method or "GET", None, message=type(trouble).__name__) from None


def _result(answer: httpx.Response, server_url: str, method: str, accept: Collection[int] = ()) -> dict[str, Any]:
    content = _json_object(answer)
    if content is not None and (answer.is_success or answer.status_code in accept):
        return content
    said = content or {}
    if isinstance(said.get("jobStatus"), dict):
        said = said["jobStatus"]  # the video service puts some refusals one level deeper
    error, message = (_text(said, key) for key in ("error", "message"))
    if error is None:
        message = "It does not answer as a PDS does: is this the right service_url?"
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimited(server_url, method, 429, error, message, _retry_after(answer))
    if answer.is_server_error or answer.is_success or answer.status_code in _PASSING:
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


def _text(content: dict[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value if isinstance(value, str) else None


def _retry_after(answer: httpx.Response) -> timedelta | None:
    seconds = answer.headers.get("retry-after", "")
    if seconds.isdecimal() and len(seconds) < 10:
        return timedelta(seconds=int(seconds))
    reset = answer.headers.get("ratelimit-reset", "")
    if answer.status_code != HTTPStatus.TOO_MANY_REQUESTS or not reset.isdecimal() or len(reset) > 12:
        return None
    # In seconds since 1970, by the server's clock.
    try:
        then = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        then = datetime.now(UTC)
    return max(datetime.fromtimestamp(int(reset), UTC) - then, timedelta())
