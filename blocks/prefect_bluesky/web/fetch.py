"""Fetch a URL that somebody gave, from public addresses only. No cookies and no credentials are sent."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

import httpcore
import httpx

from prefect_bluesky.errors import SourceUnavailable
from prefect_bluesky.settings import user_agent
from prefect_bluesky.web.network import Deadline, PublicNetwork, Trouble, tls
from prefect_bluesky.web.title import title_of
from prefect_bluesky.web.tunnel import ProxyRefusal

_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_PASSING = {408, 425, 429}  # Request Timeout, Too Early and Too Many Requests are worth a retry, as is 5xx
_FINAL = {401, 404, 410}  # servers themselves say these with a page

_MAX_REFUSAL = 100_000
"""Bytes of a page that are read for its title."""

_HEADERS = [("Accept", "*/*"), ("Accept-Encoding", "gzip")]

_USER_INFO = re.compile(r"(?<=//)[^/?#]*@")
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\s\"';,]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Fetched:
    """The content of a URL."""

    url: str  # after all redirects
    content_type: str  # in lower case without parameters; empty if the server gives none
    charset: str | None  # as the server spells it
    data: bytes = field(repr=False)


def fetch(
    url: str,
    *,
    max_bytes: int,
    timeout: float,
    allow_private: bool = False,
    keep_truncated: bool = False,
    into: BinaryIO | None = None,
) -> Fetched:
    """Return the content of an http or https URL within `timeout` seconds, redirects included.

    At most `max_bytes` are read, unpacked. Of a larger content, `keep_truncated` returns the beginning.
    `allow_private` admits private networks and this machine. `into` is an empty file that gets the content in place
    of `Fetched.data`: a chunk at a time is in memory then.

    Raises:
        SourceUnavailable: the content cannot be read, or is too large. Retryable if the cause may pass.
    """
    try:
        return _follow(url, PublicNetwork(Deadline(timeout), allow_private), max_bytes, keep_truncated, into)
    except Trouble as trouble:
        reason, retryable = trouble.reason, trouble.retryable
    except httpcore.TimeoutException:
        reason, retryable = f"The server does not answer in full within {timeout:g} s.", True
    except ProxyRefusal as refusal:
        reason, retryable = str(refusal), True
    except (httpcore.NetworkError, httpcore.ProtocolError) as trouble:
        reason, retryable = f"The connection failed: {str(trouble)[:200]}", True
    raise SourceUnavailable(redacted(url), reason, retryable=retryable)


def redacted(url: str) -> str:
    """Return a URL that may be logged: without the password and the query, which may be a signature."""
    return re.sub(r"\?.*", "?…", _USER_INFO.sub("", url), flags=re.DOTALL)[:200]


def _follow(url: str, network: PublicNetwork, max_bytes: int, keep_truncated: bool, into: BinaryIO | None) -> Fetched:
    # httpcore is used, because an httpx client keeps cookies, and unpacks a whole chunk before its size is known.
    target = _target(url)
    # Some sites answer only clients that call themselves Mozilla.
    named = [*_HEADERS, ("User-Agent", f"Mozilla/5.0 (compatible; {user_agent()}; +https://bsky.app)")]
    with httpcore.ConnectionPool(ssl_context=tls(), network_backend=network) as pool:
        for _ in range(_MAX_REDIRECTS + 1):
            request_url = httpcore.URL(
                scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path
            )
            with pool.stream("GET", request_url, headers=[("Host", target.netloc.decode()), *named]) as answer:
                headers = httpx.Headers(answer.headers)
                if answer.status in _REDIRECTS and "location" in headers:
                    target = _target(headers["location"], target)
                    continue
                content_type = headers.get("content-type", "")
                if not 200 <= answer.status < 300:
                    is_page = "html" in content_type.lower()
                    page = BytesIO()
                    if is_page:
                        _read(answer, headers, _MAX_REFUSAL, keep_truncated=True, into=page)
                    raise _refusal(answer.status, target.host, page.getvalue() if is_page else None)
                charset = _CHARSET.search(content_type)
                data = BytesIO()
                _read(answer, headers, max_bytes, keep_truncated, into or data)
                return Fetched(
                    url=str(target),
                    content_type=re.split("[;,]", content_type)[0].strip().lower(),
                    charset=charset[1] if charset else None,
                    data=data.getvalue(),
                )
    raise Trouble(f"The server redirects more than {_MAX_REDIRECTS} times.")


def _target(reference: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        url = httpx.URL(reference) if base is None else base.join(reference)
        host = url.host  # decoding it fails for some URLs
    except (httpx.InvalidURL, ValueError):
        raise Trouble(f"{redacted(reference)!r} is not a valid URL. Check it.") from None
    if url.scheme not in {"http", "https"}:
        raise Trouble(f"{redacted(reference)!r} is not a web URL. Give a URL that begins with https:// or http://.")
    if url.userinfo:
        raise Trouble("The URL holds credentials, which are never sent. Give a URL that is readable without a login.")
    if not host or (url.port is not None and not 0 < url.port < 1 << 16):
        raise Trouble(f"{redacted(reference)!r} has no host, or an invalid port. Check the URL.")
    return url


def _refusal(status: int, host: str, page: bytes | None) -> Trouble:
    """Return the error of an answer that is no success. A page in place of a file may be that of a firewall."""
    no_login, check = " Give a URL that is readable without a login.", " Check the URL."
    remedy = {401: no_login, 403: no_login, 404: check, 410: check}.get(status, "")
    title = title_of(page) if page else None
    is_passing = 500 <= status < 600 or status in _PASSING or (page is not None and status not in _FINAL)
    return Trouble(f"{host} answers with {status}{f', “{title}”' if title else ''}.{remedy}", retryable=is_passing)


def _read(
    answer: httpcore.Response, headers: httpx.Headers, max_bytes: int, keep_truncated: bool, into: BinaryIO
) -> None:
    too_large = Trouble(f"The content is larger than {max_bytes:,} bytes.")
    if int(headers.get("content-length", 0)) > max_bytes and not keep_truncated:
        raise too_large
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip"}:
        raise Trouble(f"The server compresses the content as {encoding[:50]!r}, although gzip was requested.")
    gzip = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    received = 0
    for chunk in answer.iter_stream():
        received += len(chunk)
        try:
            # One byte beyond the limit is enough to know that the content is larger.
            into.write(gzip.decompress(chunk, max_bytes + 1 - into.tell()) if gzip else chunk)
            while gzip and gzip.eof and gzip.unused_data:  # a file of several members
                rest, gzip = gzip.unused_data, zlib.decompressobj(wbits=31)
                into.write(gzip.decompress(rest, max_bytes + 1 - into.tell()))
        except zlib.error:
            raise Trouble("The content is not gzip, although the server says so.") from None
        if max(received, into.tell()) > max_bytes:
            if keep_truncated:
                into.truncate(max_bytes)
                return
            raise too_large
    if gzip and received and not gzip.eof:
        raise Trouble("The content ends too early.", retryable=True)
