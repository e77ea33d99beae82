"""Connect to hosts that somebody named, and refuse addresses in private networks.

The address is checked at the moment of connecting. So a redirect, a number written in octal, or a name that resolves to
another address the second time (DNS rebinding) cannot bypass the check. A proxy of the environment (HTTPS_PROXY,
HTTP_PROXY, NO_PROXY) gets the checked address and not the name, which it would look up itself. Prefect's own
SSRFProtectedHTTPTransport is not used, because it tests `is_private` only, so 100.64.0.0/10, 168.63.129.16 and the
NAT64/6to4 forms of private addresses pass, and because it has neither a total deadline nor a size cap (Prefect 3.8.8 to
3.9.1).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Thread
from time import monotonic
from typing import Any

import httpcore
import httpx

from prefect_bluesky.web.tunnel import proxy_for, tunnel

_UNICAST = ip_network("2000::/3")  # all of IPv6 that IANA has assigned so far
_NAT64 = ip_network("64:ff9b::/96")
# Public in the standard library's tables, at least before Python 3.12.4, but inside clouds: Oracle's metadata service
# and the host of Azure's virtual machines.
_CLOUD = (ip_network("192.0.0.0/24"), ip_network("168.63.129.16/32"))


class Trouble(Exception):
    """The reason why a URL cannot be read, without the URL. Whoever knows the URL adds it."""

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.retryable = reason, retryable


@cache
def tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # takes 20 ms


class Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left: more than 0."""
        if (left := self._end - monotonic()) <= 0:
            raise httpcore.TimeoutException
        return left


class PublicNetwork(httpcore.NetworkBackend):
    """A network of public addresses, usable until the deadline. The base class refuses Unix sockets."""

    def __init__(self, deadline: Deadline, allow_private: bool) -> None:
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
                raise Trouble(
                    f"{host} is at {address}, which is not a public address. To allow files from your own network, set"
                    " PREFECT_INTEGRATIONS_BLUESKY_ALLOW_PRIVATE_ADDRESSES=true."
                )

        proxy = proxy_for(host, port)

        def connect(address: str, tries: int) -> httpcore.NetworkStream:
            share = self._deadline.left() / tries
            to = (proxy.host, proxy.port) if proxy else (address, port)
            stream = _TimedStream(self._network.connect_tcp(*to, share, local_address, socket_options), self._deadline)
            return tunnel(stream, proxy, address, port, tls()) if proxy else stream

        *others, last = addresses
        for position, address in enumerate(others):
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return connect(address, len(addresses) - position)
        return connect(last, 1)


class _TimedStream(httpcore.NetworkStream):
    """A connection on which the deadline replaces every time-out."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
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
                raise Trouble(f"The certificate of {server_hostname} is not valid: {reason}.") from None
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
        raise Trouble(f"{host!r} is not the name of a host. Check the URL.") from None
    except OSError as trouble:
        if isinstance(trouble, socket.gaierror) and trouble.errno != socket.EAI_AGAIN:
            raise Trouble(f"There is no host {host!r}. Check the URL.") from None
        raise Trouble(f"{host} cannot be looked up at the moment.", retryable=True) from None


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return _is_public(inner)
        return address in _UNICAST and address.is_global  # Teredo is not global
    return address.is_global and not address.is_multicast and not any(address in network for network in _CLOUD)
