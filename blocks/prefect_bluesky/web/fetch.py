"""Fetch a URL that somebody gave, and refuse addresses in private networks.

The address is checked at the moment of connecting. So a redirect, a number written in octal, or a name that resolves to
another address the second time (DNS rebinding) cannot bypass the check. A proxy of the environment (HTTPS_PROXY,
HTTP_PROXY, NO_PROXY) gets the checked address and not the name, which it would look up itself. No cookies and no
credentials are sent. Prefect's own SSRFProtectedHTTPTransport is not used, because it tests `is_private`
only, so 100.64.0.0/10, 168.63.129.16 and the NAT64/6to4 forms of private addresses pass, and because it has neither a
total deadline nor a size cap (Prefect 3.8.8 to 3.9.1).
"""

from __future__ import annotations

import re
import socket
import ssl
import zlib
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Thread
from time import monotonic
from typing import Any, BinaryIO

import httpcore
import httpx

from prefect_bluesky.errors import SourceUnavailable
from prefect_bluesky.settings import user_agent
from prefect_bluesky.web.title import title_of
from prefect_bluesky.web.tunnel import ProxyRefusal, proxy_for, tunnel

_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_PASSING = {408, 425, 429}  # Request Timeout, Too Early and Too Many Requests are worth a retry, as is 5xx
_FINAL = {401, 404, 410}  # servers themselves say these with a page

_MAX_REFUSAL = 100_000
"""Bytes of a page that are read for its title."""

_HEADERS = [("Accept", "*/*"), ("Accept-Encoding", "gzip")]

_USER_INFO = re.compile(r"(?<=//)[^/?#]*@")
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\s\"';,]+)", re.IGNORECASE)

_UNICAST = ip_network("2000::/3")  # all of IPv6 that IANA has assigned so far
_NAT64 = ip_network("64:ff9b::/96")
# Public in the standard library's tables, at least before Python 3.12.4, but inside clouds: Oracle's metadata service
# and the host of Azure's virtual machines.
_CLOUD = (ip_network("192.0.0.0/24"), ip_network("168.63.129.16/32"))


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
        return _follow(url, _PublicNetwork(_Deadline(timeout), allow_private), max_bytes, keep_truncated, into)
    except _Trouble as trouble:
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


class _Trouble(Exception):
    """The reason why a URL cannot be read, without the URL. `fetch` adds that."""

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.retryable = reason, retryable


def _follow(url: str, network: _PublicNetwork, max_bytes: int, keep_truncated: bool, into: BinaryIO | None) -> Fetched:
    # httpcore is used, because an httpx client keeps cookies, and unpacks a whole chunk before its size is known.
    target = _target(url)
    # Some sites answer only clients that call themselves Mozilla.
    named = [*_HEADERS, ("User-Agent", f"Mozilla/5.0 (compatible; {user_agent()}; +https://bsky.app)")]
    with httpcore.ConnectionPool(ssl_context=_tls(), network_backend=network) as pool:
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
    raise _Trouble(f"The server redirects more than {_MAX_REDIRECTS} times.")


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # takes 20 ms


def _target(reference: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        url = httpx.URL(reference) if base is None else base.join(reference)
        host = url.host  # decoding it fails for some URLs
    except (httpx.InvalidURL, ValueError):
        raise _Trouble(f"{redacted(reference)!r} is not a valid URL. Check it.") from None
    if url.scheme not in {"http", "https"}:
        raise _Trouble(f"{redacted(reference)!r} is not a web URL. Give a URL that begins with https:// or http://.")
    if url.userinfo:
        raise _Trouble("The URL holds credentials, which are never sent. Give a URL that is readable without a login.")
    if not host or (url.port is not None and not 0 < url.port < 1 << 16):
        raise _Trouble(f"{redacted(reference)!r} has no host, or an invalid port. Check the URL.")
    return url


def _refusal(status: int, host: str, page: bytes | None) -> _Trouble:
    """Return the error of an answer that is no success. A page in place of a file may be that of a firewall."""
    no_login, check = " Give a URL that is readable without a login.", " Check the URL."
    remedy = {401: no_login, 403: no_login, 404: check, 410: check}.get(status, "")
    title = title_of(page) if page else None
    is_passing = 500 <= status < 600 or status in _PASSING or (page is not None and status not in _FINAL)
    return _Trouble(f"{host} answers with {status}{f', “{title}”' if title else ''}.{remedy}", retryable=is_passing)


def _read(
    answer: httpcore.Response, headers: httpx.Headers, max_bytes: int, keep_truncated: bool, into: BinaryIO
) -> None:
    too_large = _Trouble(f"The content is larger than {max_bytes:,} bytes.")
    if int(headers.get("content-length", 0)) > max_bytes and not keep_truncated:
        raise too_large
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip"}:
        raise _Trouble(f"The server compresses the content as {encoding[:50]!r}, although gzip was requested.")
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
            raise _Trouble("The content is not gzip, although the server says so.") from None
        if max(received, into.tell()) > max_bytes:
            if keep_truncated:
                into.truncate(max_bytes)
                return
            raise too_large
    if gzip and received and not gzip.eof:
        raise _Trouble("The content ends too early.", retryable=True)


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left: more than 0."""
        if (left := self._end - monotonic()) <= 0:
            raise httpcore.TimeoutException
        return left


class _PublicNetwork(httpcore.NetworkBackend):
    """A network of public addresses, usable until the deadline. The base class refuses Unix sockets."""

    def __init__(self, deadline: _Deadline, allow_private: bool) -> None:
        self._deadline, self._allow_private = deadline, allow_private
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _addresses(host, port, self._deadline.left())
        for address in addresses:
            # A private address among public ones is an attack or a mistake, so no address is tried.
            if not self._allow_private and not _is_public(ip_address(address)):
                raise _Trouble(
                    f"{host} is at {address}, which is not a public address. To allow files from your own network, set"
                    " PREFECT_INTEGRATIONS_BLUESKY_ALLOW_PRIVATE_ADDRESSES=true."
                )

        proxy = proxy_for(host, port)

        def connect(address: str, tries: int) -> httpcore.NetworkStream:
            share = self._deadline.left() / tries
            to = (proxy.host, proxy.port) if proxy else (address, port)
            stream = _TimedStream(self._network.connect_tcp(*to, share, local_address, socket_options), self._deadline)
            return tunnel(stream, proxy, address, port, _tls()) if proxy else stream

        *others, last = addresses
        for position, address in enumerate(others):
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return connect(address, len(addresses) - position)
        return connect(last, 1)


class _TimedStream(httpcore.NetworkStream):
    """A connection on which the deadline replaces every time-out."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left())
        except httpcore.ConnectError as trouble:
            if isinstance(trouble.__cause__, ssl.SSLCertVerificationError):
                reason = trouble.__cause__.verify_message.rstrip(".")
                raise _Trouble(f"The certificate of {server_hostname} is not valid: {reason}.") from None
            raise
        return _TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _addresses(host: str, port: int, timeout: float) -> list[str]:
    found: Future[list[str]] = Future()

    def look_up() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as trouble:
            found.set_exception(trouble)
        else:
            found.set_result([str(socket_address[0]) for *_, socket_address in answers])

    # The resolver has no time-out, so a look-up that outlasts ours is abandoned in its thread.
    Thread(target=look_up, name="prefect-bluesky-dns", daemon=True).start()
    try:
        return found.result(timeout)
    except TimeoutError:
        raise httpcore.ConnectTimeout from None
    except UnicodeError:
        raise _Trouble(f"{host!r} is not the name of a host. Check the URL.") from None
    except OSError as trouble:
        if isinstance(trouble, socket.gaierror) and trouble.errno != socket.EAI_AGAIN:
            raise _Trouble(f"There is no host {host!r}. Check the URL.") from None
        raise _Trouble(f"{host} cannot be looked up at the moment.", retryable=True) from None


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return _is_public(inner)
        return address in _UNICAST and address.is_global  # Teredo is not global
    return address.is_global and not address.is_multicast and not any(address in network for network in _CLOUD)
