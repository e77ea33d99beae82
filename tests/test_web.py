"""URLs that somebody gave: what they reach, what they do not, and how much and how long at most."""

import gzip
import socket
import ssl
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any
from unittest import mock

import httpcore
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given
from hypothesis import strategies as st

from prefect_bluesky.errors import SourceUnavailable
from prefect_bluesky.web.fetch import Fetched, _target, fetch
from prefect_bluesky.web.network import Deadline, PublicNetwork, Trouble, _is_public
from tests.support import QuietHandler

PUBLIC = "93.184.216.34"
ALLOWANCE = "PREFECT_INTEGRATIONS_BLUESKY_ALLOW_PRIVATE_ADDRESSES=true"
Answer = bytes | Callable[[BaseHTTPRequestHandler], None]


class Site(ThreadingHTTPServer):
    """A server on loopback that plays a public one, what it answers to each path, and the headers that it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: list[dict[str, str]] = []
        # Where names lead, one list of addresses for each look-up, and what was looked up and connected to.
        self.names: dict[str, list[list[str]]] = {"public.test": [[PUBLIC]]}
        self.looked_up: list[str] = []
        self.connected: dict[str, float] = {}  # with the time-out

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # whoever asked has hung up, which is what many of these tests are about


class Handler(QuietHandler):
    server: Site

    def do_GET(self) -> None:  # noqa: N802
        self.server.requests.append({name.lower(): value for name, value in self.headers.items()})
        answer = self.server.answers[self.path]
        if callable(answer):
            answer(self)
        else:
            self.wfile.write(answer)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The whole internet: one server, at one public address. The guard above the sockets sees no loopback."""
    resolve, connect = socket.getaddrinfo, httpcore.SyncBackend.connect_tcp

    def getaddrinfo(host: str, *args: Any, **options: Any) -> list[Any]:
        if host not in running.names:
            return resolve(host, *args, **options)
        running.looked_up.append(host)
        addresses, *later = running.names[host]
        running.names[host] = later or [addresses]
        return [found for address in addresses for found in resolve(address, *args, **options)]

    def connect_tcp(self: httpcore.SyncBackend, host: str, port: int, timeout: float, *args: Any) -> Any:
        running.connected[host] = timeout
        address = ("127.0.0.1", running.server_port) if host == PUBLIC else (host, port)
        return connect(self, *address, timeout, *args)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)
    with Site() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def answer(body: bytes = b"", *headers: str, status: int = 200, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(url: str, *headers: str, status: int = 302) -> bytes:
    return answer(b"elsewhere", f"Location: {url}", *headers, status=status)


def fetched(url: str = "http://public.test/", *, max_bytes: int = 1000, timeout: float = 5, **options: Any) -> Fetched:
    return fetch(url, max_bytes=max_bytes, timeout=timeout, **options)


def refusal(url: str = "http://public.test/", **options: Any) -> SourceUnavailable:
    with pytest.raises(SourceUnavailable) as refused:
        fetched(url, **options)
    return refused.value


def test_a_page_is_fetched_with_its_type_and_encoding(site: Site) -> None:
    site.answers["/a?b=%20c"] = answer(b"<p>", 'Content-Type: Text/HTML; x=y;Charset = "ISO-8859-1"')
    page = fetched("http://public.test/a?b= c", max_bytes=3)
    assert page == Fetched("http://public.test/a?b=%20c", "text/html", "ISO-8859-1", b"<p>")
    (headers,) = site.requests
    assert set(headers) == {"host", "accept", "accept-encoding", "user-agent"}
    assert headers["host"] == "public.test"
    assert headers["user-agent"].startswith("Mozilla/5.0 (compatible; prefect-bluesky/")


class TestProxy:
    """The proxy of the environment."""

    @pytest.fixture
    def told(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
        """What a proxy is told, which connects to the site whatever the address."""
        heads: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                with suppress(OSError):
                    while True:
                        client, _ = listener.accept()
                        Thread(target=tunnelled, args=(client,), daemon=True).start()

            def tunnelled(client: socket.socket) -> None:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += client.recv(1)
                heads.append(head.decode())
                with client, socket.create_connection(("127.0.0.1", site.server_port)) as server, suppress(OSError):
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    server.sendall(client.recv(65_536))
                    while data := server.recv(65_536):
                        client.sendall(data)

            Thread(target=serve, daemon=True).start()
            proxy = f"http://alice:secret@127.0.0.1:{listener.getsockname()[1]}"
            monkeypatch.setenv("HTTP_PROXY", proxy)
            monkeypatch.setenv("http_proxy", proxy)
            yield heads

    def test_it_is_told_the_address_that_was_checked(self, site: Site, told: list[str]) -> None:
        site.answers["/"] = answer(b"through", "Connection: close")
        assert fetched().data == b"through"
        (head,) = told
        assert head.startswith(f"CONNECT {PUBLIC}:80 HTTP/1.1\r\n")
        assert "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0" in head
        assert site.requests[0]["host"] == "public.test"

    def test_it_is_not_asked_for_a_private_address(self, site: Site, told: list[str]) -> None:
        assert "not a public address" in str(refusal("http://10.0.0.1/"))
        assert told == []

    def test_a_host_without_a_proxy_is_reached_directly(
        self, site: Site, told: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NO_PROXY", "public.test")
        monkeypatch.setenv("no_proxy", "public.test")
        site.answers["/"] = answer(b"directly")
        assert fetched().data == b"directly"
        assert told == []

    @pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://"])
    def test_one_of_another_kind_is_named(self, site: Site, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        assert "HTTPS_PROXY" in str(refusal())


@pytest.mark.parametrize("header", ["X: y", "Content-Type: ;;", "Content-Type: ; charset="])
def test_a_page_without_type_or_encoding_says_so(site: Site, header: str) -> None:
    site.answers["/"] = answer(b"", header)
    assert (fetched().content_type, fetched().charset) == ("", None)


NOT_PUBLIC = {
    "this machine": ["127.0.0.1", "127.255.255.254", "0.0.0.0", "[::]", "[::1]"],
    "written otherwise": ["2130706433", "0x7f000001", "0x7f.1", "0177.1", "127.1", "0", "017700000001"],
    "networks": ["10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1", "[fc00::1]", "[fe80::1]", "[fec0::1]"],
    "clouds": ["169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "[fd00:ec2::254]"],
    "reserved": ["192.0.2.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "[2001:db8::1]", "[100::1]"],
    "multicast": ["224.0.0.1", "[ff02::1]", "[ff0e::1]"],
    "IPv4 within": ["[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]"],
    "tunnels": ["[64:ff9b:1::1]", "[2002:7f00:1::1]", "[2002:a9fe:a9fe::]", "[2001:0:1:2:0:63bf:80ff:fffe]"],
}


@pytest.mark.parametrize("host", [host for hosts in NOT_PUBLIC.values() for host in hosts])
def test_an_address_that_is_not_public_is_refused_with_the_remedy(host: str) -> None:
    refused = refusal(f"http://{host}/")
    assert ALLOWANCE in refused.reason
    assert not refused.retryable


@pytest.mark.parametrize("address", ["8.8.8.8", PUBLIC, "2606:4700:4700::1111", "2a00:1450:4001:806::200e"])
def test_a_public_address_is_public(address: str) -> None:
    assert _is_public(ip_address(address))


@given(st.one_of(st.ip_addresses(v=4), st.just(IPv4Address(PUBLIC))))
def test_an_ipv4_address_within_an_ipv6_address_counts_as_itself(address: IPv4Address) -> None:
    for prefix, shift in ((0xFFFF << 32, 0), (0x64FF9B << 96, 0), (0x2002 << 112, 80)):  # mapped, NAT64, 6to4
        assert _is_public(ip_address(prefix | int(address) << shift)) == _is_public(address)


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1"], [PUBLIC, "127.0.0.1"], ["10.0.0.1", PUBLIC]])
def test_a_name_with_a_private_address_is_not_connected_to(site: Site, addresses: list[str]) -> None:
    site.names["mixed.test"] = [addresses]
    refused = refusal("http://mixed.test/")
    assert "mixed.test is at" in refused.reason
    assert ALLOWANCE in refused.reason
    assert not site.connected


def test_a_name_is_looked_up_once_and_connected_to_as_it_was_checked(site: Site) -> None:
    site.names["rebound.test"] = [[PUBLIC], ["127.0.0.1"]]
    site.answers["/"] = answer(b"public")
    assert fetched("http://rebound.test/").data == b"public"
    assert site.looked_up == ["rebound.test"]
    assert list(site.connected) == [PUBLIC]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]", "private.test", "rebound.test"])
def test_a_redirect_to_a_private_address_is_not_followed(site: Site, status: int, host: str) -> None:
    site.names |= {"private.test": [["127.0.0.1"]], "rebound.test": [[PUBLIC], ["127.0.0.1"]]}
    site.answers["/"] = redirect(f"http://{host}:{site.server_port}/secret", status=status)
    refused = refusal("http://rebound.test/")
    assert refused.source == "http://rebound.test/"
    assert ALLOWANCE in refused.reason
    assert list(site.connected) == [PUBLIC]
    assert len(site.requests) == 1


def test_unix_sockets_are_refused() -> None:
    with pytest.raises(NotImplementedError):
        PublicNetwork(Deadline(1), allow_private=True).connect_unix_socket("/run/docker.sock")


def test_private_addresses_are_reached_if_that_is_allowed_one_after_the_other(site: Site) -> None:
    site.names["many.test"] = [["127.0.0.2", "127.0.0.3", "127.0.0.1"]]
    site.answers["/"] = answer(b"the third")
    assert fetched(f"http://many.test:{site.server_port}/", timeout=6, allow_private=True).data == b"the third"
    # One that never connects leaves time for the others.
    assert list(site.connected.values()) == pytest.approx([2, 3, 6], abs=0.9)


def test_a_certificate_must_be_of_the_name_in_the_url(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "certificate.pem"
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime.now(UTC)).not_valid_after(datetime.now(UTC) + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("public.test")]), critical=True)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(certificate + key.private_bytes(*pem))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    site.socket = tls.wrap_socket(site.socket, server_side=True)
    site.answers["/"] = answer(b"confidential")
    site.names["other.test"] = [[PUBLIC]]
    assert "self-signed certificate" in refusal("https://public.test/").reason
    with mock.patch("prefect_bluesky.web.fetch.tls", return_value=ssl.create_default_context(cafile=file)):
        assert fetched("https://public.test/").data == b"confidential"
        refused = refusal("https://other.test/")
    assert "not valid for 'other.test'" in refused.reason
    assert not refused.retryable


def test_redirects_are_followed_without_cookies_to_where_they_lead(site: Site) -> None:
    site.names["other.test"] = [[PUBLIC]]
    site.answers["/a/b"] = redirect("../c?d=ü", "Set-Cookie: session=1; Path=/")
    site.answers["/c?d=%C3%BC"] = redirect("//other.test/e")
    site.answers["/e"] = answer(b"here")
    found = fetched("http://public.test/a/b")
    assert (found.url, found.data) == ("http://other.test/e", b"here")
    assert [headers["host"] for headers in site.requests] == ["public.test", "public.test", "other.test"]
    assert not any("cookie" in headers for headers in site.requests)


def test_five_redirects_are_followed_and_no_sixth(site: Site) -> None:
    site.answers |= {f"/{step}": redirect(f"/{step + 1}") for step in range(6)}
    site.answers["/6"] = answer(b"here")
    assert fetched("http://public.test/1").data == b"here"
    refused = refusal("http://public.test/0")
    assert refused.reason == "The server redirects more than 5 times."
    assert not refused.retryable


@pytest.mark.parametrize("redirected", [False, True])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "is not a web URL"),
        ("http://:81/", "has no host"),
        ("https://xn--0/", "is not a valid URL"),
        ("http://example.com:65536/", "invalid port"),
        ("http://[::1/", "is not a valid URL"),
        ("http://example.com/" + "a" * 70_000, "is not a valid URL"),
        ("http://a..b/", "is not the name of a host"),
        ("http://alice:pass-word@example.com/", "never sent"),
    ],
)
def test_a_url_outside_the_web_is_refused(site: Site, url: str, reason: str, redirected: bool) -> None:
    site.answers["/"] = redirect(url)
    refused = refusal() if redirected else refusal(url)
    assert reason in refused.reason
    assert not refused.retryable
    assert "pass-word" not in f"{refused} {refused!r}"


hosts = st.text() | st.text(alphabet="abc0127.:[]%@\\x-_ü。") | st.ip_addresses().map(str)
urls = st.tuples(st.sampled_from(["http://", "https://", "HTTP:", "//", "a:", ""]), hosts, st.text()).map("".join)


@given(urls)
@example("http://" + "9" * 5000 + "/")
@example("http://a:" + "9" * 5000 + "/")
@example("http://\ud800/")
@example("http://[")
def test_any_text_as_a_url_or_redirect_is_refused_in_one_way(url: str) -> None:
    with mock.patch("socket.getaddrinfo", side_effect=socket.gaierror):
        refusal(url)
    with suppress(Trouble):
        assert _target(url, httpx.URL("https://public.test/a")).scheme in {"http", "https"}


@pytest.mark.parametrize("code", [socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_FAIL])
def test_a_look_up_that_fails_for_the_moment_may_be_tried_again(code: int) -> None:
    with mock.patch("socket.getaddrinfo", side_effect=socket.gaierror(code, "whatever")):
        assert refusal().retryable is (code == socket.EAI_AGAIN)


def test_a_name_server_that_does_not_answer_is_left_at_the_deadline() -> None:
    over, started = Event(), monotonic()
    with mock.patch("socket.getaddrinfo", side_effect=lambda *_, **__: over.wait(30) and []):
        assert refusal(timeout=0.2).retryable
    assert monotonic() - started < 20
    over.set()


PASSING = [500, 502, 503, 599, 408, 425, 429]


@pytest.mark.parametrize("status", [*PASSING, 300, 302, 304, 400, 401, 403, 404, 410, 451, 999])
def test_a_status_that_may_pass_may_be_tried_again(site: Site, status: int) -> None:
    site.answers["/"] = answer(status=status)
    refused = refusal()
    assert refused.reason.startswith(f"public.test answers with {status}.")
    assert refused.retryable is (status in PASSING)


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Ends the connection with RST instead of FIN."""
    handler.rfile.close()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BROKEN: dict[str, Answer] = {
    "reset": reset,
    "nothing": b"",
    "a huge header": OK + b"X: " + b"x" * 1_000_000,
    "endless headers": OK + b"X: x\r\n" * 100_000,
    "less than Content-Length": answer(b"half", length=8),
    "two lengths": answer(b"four", "Content-Length: 5"),
    "a long length": answer(length=10**4000),
    "a bad chunk": CHUNKED + b"zz\r\n",
    "half a gzip": answer(gzip.compress(b"x" * 500)[:20], "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
def test_a_connection_that_fails_may_be_tried_again(site: Site, broken: Answer) -> None:
    site.answers["/"] = broken
    refused = refusal()
    assert refused.retryable
    assert len(refused.reason) < 300


def drip(head: bytes, drop: bytes, pause: float = 0.02) -> Answer:
    def answer_slowly(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head)
        while True:  # until nobody listens any more
            handler.wfile.write(drop)
            sleep(pause)

    return answer_slowly


DRIPS = {
    "a header": drip(OK + b"X: ", b"x"),
    "headers": drip(OK, b"X: x\r\n"),
    "hints": drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a body": drip(answer(length=900), b"x"),
    "chunks": drip(CHUNKED, b"1\r\nx\r\n"),
}


@pytest.mark.parametrize("slow", DRIPS.values(), ids=list(DRIPS))
def test_a_server_that_drips_is_cut_off_at_the_deadline(site: Site, slow: Answer) -> None:
    site.answers["/"] = slow
    started = monotonic()
    refused = refusal(timeout=0.3)
    assert refused.reason == "The server does not answer in full within 0.3 s."
    assert refused.retryable
    assert monotonic() - started < 20


LARGE: dict[str, Answer] = {
    "one byte more": answer(b"0123456789" * 100 + b"0"),
    "a length": drip(answer(b"0123456789" * 101, length=10**15), b"0"),
    "more chunks": CHUNKED + b"a\r\n0123456789\r\n" * 101 + b"0\r\n\r\n",
    "no end": drip(OK + b"\r\n", b"0123456789" * 1000, pause=0),
    "compressed": answer(gzip.compress(b"0123456789" * 101), "Content-Encoding: x-gzip"),
}


@pytest.mark.parametrize("large", LARGE.values(), ids=list(LARGE))
def test_a_page_that_is_too_large_is_refused_or_cut(site: Site, large: Answer) -> None:
    site.answers["/"] = large
    refused = refusal()
    assert refused.reason == "The content is larger than 1,000 bytes."
    assert not refused.retryable
    assert fetched(keep_truncated=True).data == b"0123456789" * 100


def test_a_bomb_does_not_go_off(site: Site) -> None:
    site.answers["/"] = answer(gzip.compress(bytes(100_000_000)), "Content-Encoding: gzip")
    tracemalloc.start()
    refused, beginning = refusal(max_bytes=200_000), fetched(max_bytes=200_000, keep_truncated=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.reason == "The content is larger than 200,000 bytes."
    assert beginning.data == bytes(200_000)
    assert peak < 5_000_000


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "gzip"])
def test_an_unrequested_compression_is_refused(site: Site, encoding: str) -> None:
    site.answers["/"] = answer(b"not gzip", f"Content-Encoding: {encoding}")
    assert not refusal().retryable
