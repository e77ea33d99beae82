"""The least of an OAuth client: enough to show that a person consents, and no more."""

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .client_host import ClientHost

LOOPBACK_REDIRECT = "http://127.0.0.1/callback"
_DOCUMENT = "/client-metadata.json"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def encode(data: bytes) -> str:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Key:
    """A key for ES256."""

    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    kid: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def public(self) -> dict[str, str]:
        """The public key as a JWK."""
        numbers = self.private.public_key().public_numbers()
        x, y = (encode(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}

    def sign(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        """Return a JWT."""
        signed = ".".join(encode(json.dumps(part).encode()) for part in ({"alg": "ES256"} | header, claims))
        r, s = decode_dss_signature(self.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class LabClient:
    """An OAuth client of one PDS, with one session at most."""

    def __init__(self, pds_url: str, client_id: str, redirect_uri: str, scope: str, key: Key | None = None) -> None:
        """Make a client: confidential with a key, else public."""
        self.url, self.client_id, self.redirect_uri, self.scope = pds_url, client_id, redirect_uri, scope
        self.key, self.dpop_key, self.nonce = key, Key(), ""
        self.tokens: dict[str, Any] = {}
        self.verifier = ""

    @classmethod
    def loopback(cls, pds_url: str, scope: str) -> "LabClient":
        """Make a client whose id is all of its document."""
        client_id = f"http://localhost?redirect_uri={quote(LOOPBACK_REDIRECT, safe='')}&scope={quote(scope)}"
        return cls(pds_url, client_id, LOOPBACK_REDIRECT, scope)

    @classmethod
    def confidential(cls, pds_url: str, host: ClientHost, scope: str) -> "LabClient":
        """Make a client whose document is on a host, with the client's key."""
        client = cls(pds_url, f"{host.url}{_DOCUMENT}", f"{host.url}/callback", scope, Key())
        client.publish(host)
        return client

    def publish(self, host: ClientHost) -> None:
        """Put the client's document on the host, in place of an earlier one."""
        assert self.key is not None
        document = {
            "client_id": self.client_id,
            "application_type": "web",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "redirect_uris": [self.redirect_uri],
            "scope": self.scope,
            "dpop_bound_access_tokens": True,
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "ES256",
            "jwks": {"keys": [self.key.public | {"kid": self.key.kid}]},
        }
        host.files[_DOCUMENT] = json.dumps(document).encode()

    def authorization_url(self, state: str) -> str:
        """Push the authorization request. Return the address for the person."""
        # A server takes a challenge only once.
        self.verifier = secrets.token_urlsafe(48)
        challenge = encode(sha256(self.verifier.encode()).digest())
        pushed = self.ask(
            "par",
            response_type="code",
            redirect_uri=self.redirect_uri,
            scope=self.scope,
            state=state,
            code_challenge=challenge,
            code_challenge_method="S256",
        )
        query = {"client_id": self.client_id, "request_uri": pushed.raise_for_status().json()["request_uri"]}
        return str(httpx.URL(f"{self.url}/oauth/authorize", params=query))

    def take_code(self, address: str) -> httpx.Response:
        """Exchange the code in the address where the person's browser ended."""
        (code,) = parse_qs(urlsplit(address).query)["code"]
        return self._keep(
            self.ask(
                "token",
                grant_type="authorization_code",
                code=code,
                redirect_uri=self.redirect_uri,
                code_verifier=self.verifier,
            )
        )

    def refresh(self) -> httpx.Response:
        """Exchange the refresh token."""
        return self._keep(self.ask("token", grant_type="refresh_token", refresh_token=self.tokens["refresh_token"]))

    def revoke(self) -> httpx.Response:
        """Tell the server to end the session."""
        return self.ask("revoke", token=self.tokens["refresh_token"])

    def post(self, repo: str, text: str) -> httpx.Response:
        """Write one post by applyWrites."""
        kind = "app.bsky.feed.post"
        value = {"$type": kind, "text": text, "createdAt": "2026-01-01T00:00:00Z"}
        write = {"$type": "com.atproto.repo.applyWrites#create", "collection": kind, "value": value}
        url = f"{self.url}/xrpc/com.atproto.repo.applyWrites"
        return self.send("POST", url, self.tokens["access_token"], json={"repo": repo, "writes": [write]})

    def ask(self, endpoint: str, **form: str) -> httpx.Response:
        """Send a form to an endpoint of the authorization server."""
        form = {"client_id": self.client_id, **form}
        if self.key:
            now = int(time.time()) - 30
            claims = {"iss": self.client_id, "sub": self.client_id, "aud": self.url, "jti": secrets.token_hex(8)}
            assertion = self.key.sign({"kid": self.key.kid}, claims | {"iat": now, "exp": now + 60})
            form |= {"client_assertion_type": _ASSERTION, "client_assertion": assertion}
        return self.send("POST", f"{self.url}/oauth/{endpoint}", data=form)

    def send(self, method: str, url: str, access_token: str = "", **how: Any) -> httpx.Response:
        """Send a request with a proof; once more if the server asks for a nonce."""
        for _ in range(2):
            claims = {"jti": secrets.token_hex(8), "htm": method, "htu": url, "iat": int(time.time()) - 30}
            headers = {"Authorization": f"DPoP {access_token}"} if access_token else {}
            if access_token:
                claims["ath"] = encode(sha256(access_token.encode()).digest())
            if self.nonce:
                claims["nonce"] = self.nonce
            headers["DPoP"] = self.dpop_key.sign({"typ": "dpop+jwt", "jwk": self.dpop_key.public}, claims)
            answer = httpx.request(method, url, headers=headers, trust_env=False, **how)
            self.nonce = answer.headers.get("DPoP-Nonce", self.nonce)
            if not (answer.is_error and answer.json().get("error") == "use_dpop_nonce"):
                break
        return answer

    def _keep(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            self.tokens = answer.json()
        return answer
