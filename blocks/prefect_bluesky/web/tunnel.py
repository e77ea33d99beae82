"""Reach an address through the environment's proxy, which is told the address and not the name."""

from __future__ import annotations

import ssl
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

_MAX_HEAD = 16_384
"""Bytes of a proxy's answer."""


class ProxyRefusal(Exception):
    """A proxy that lets nothing through, or is of an unknown kind."""


@dataclass(frozen=True)
class Proxy:
    """A proxy of the environment. Neither `repr` nor `str` shows the credentials."""

    host: str
    port: int
    is_tls: bool
    authorization: bytes | None

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


def proxy_for(host: str, port: int) -> Proxy | None:
    """Return the proxy that the environment names for a host, or None.

    `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` count, as for Python's own `urllib`.

    Raises:
        ProxyRefusal: the proxy is neither an http nor an https URL.
    """
    proxies = getproxies()
    url = proxies.get("https" if port == 443 else "http") or proxies.get("all")
    if not url or proxy_bypass(host):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ProxyRefusal("The environment's proxy is not an http or https URL. Check HTTPS_PROXY and HTTP_PROXY.")
    is_tls = parts.scheme == "https"
    given = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    authorization = b"Basic " + b64encode(given.encode()) if given else None
    return Proxy(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, authorization)


def tunnel(
    stream: httpcore.NetworkStream, proxy: Proxy, address: str, port: int, tls: ssl.SSLContext
) -> httpcore.NetworkStream:
    """Have a proxy connect to an address (RFC 9110 section 9.3.6), and return the connection.

    Args:
        stream: the connection to the proxy.
        proxy: the proxy.
        address: the IP address to connect to.
        port: its port.
        tls: checks the certificate of a proxy that speaks TLS.

    Raises:
        ProxyRefusal: the proxy does not connect.
    """
    if proxy.is_tls:
        stream = stream.start_tls(tls, proxy.host)
    target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1".encode(), f"Host: {target}".encode()]
    if proxy.authorization:
        lines.append(b"Proxy-Authorization: " + proxy.authorization)
    stream.write(b"\r\n".join([*lines, b"", b""]))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        # Byte by byte: what follows belongs to the tunnel.
        if not (byte := stream.read(1)) or len(head) > _MAX_HEAD:
            raise ProxyRefusal(f"The proxy {proxy.host}:{proxy.port} does not answer like one.")
        head += byte
    status = head.split(b"\r\n")[0].split(b" ", 2)
    if len(status) < 2 or not status[1].startswith(b"2"):
        said = b" ".join(status[1:]).decode(errors="replace")[:100]
        raise ProxyRefusal(f"The proxy {proxy.host}:{proxy.port} does not connect to {target}: {said}.")
    return stream
