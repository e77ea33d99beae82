"""A web host of OAuth clients: static files on https, with a certificate of its own, on loopback.

    with ClientHost(pds) as host:
        host.put("client-metadata.json", json.dumps(...).encode())
        ...  # f"{host.url}/client-metadata.json" is the id of a client
        host.stop()
        ...  # the host does not answer

The PDS keeps what it has read for ten minutes, unless `reread` says otherwise.
"""

import secrets
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .server import RealPds

DOCUMENT = "client-metadata.json"


class ClientHost:
    """A host that a PDS finds by its name. It answers with its files; a test may replace these at any time."""

    def __init__(self, pds: RealPds) -> None:
        """Make a host that does not answer yet."""
        # A PDS refuses names such as `.test`. Nobody on the internet has a name that ends with `.internal`.
        self.name = f"client-{secrets.token_hex(4)}.internal"
        self.url = f"https://{self.name}"
        self.files: dict[str, bytes] = {}
        self._pds = pds
        self._tls, self.certificate = _certified(self.name)
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The port on loopback, where the host answers."""
        assert self._server is not None
        return self._server.server_port

    def start(self) -> None:
        """Answer from now on."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        # The handshake is left to the thread of each connection.
        self._server.socket = self._tls.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        Thread(target=self._server.serve_forever, args=(0.01,), name="client-host", daemon=True).start()
        self._pds.know_client_host(self.name, self.port, self.certificate)

    def put(self, name: str, content: bytes) -> None:
        """Have a file, in place of an earlier one."""
        self.files[f"/{name}"] = content

    def reread(self) -> None:
        """Let the PDS read the client's document again."""
        self._pds.forget_client(f"{self.url}/{DOCUMENT}")

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                body = host.files.get(path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Type", "application/json" if path.endswith(".json") else "text/html")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def _certified(name: str) -> tuple[ssl.SSLContext, str]:
    """Return the TLS of a server with this name, and the certificate that its clients must trust."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(issuer, issuer, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "certificate.pem"
        file.write_bytes(certificate + key.private_bytes(*pem))
        context.load_cert_chain(file)
    return context, certificate.decode()
