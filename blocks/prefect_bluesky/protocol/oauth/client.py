"""An OAuth client: who asks for a grant, and the document by which a server knows the client."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.protocol.oauth.keys import SigningKey
from prefect_bluesky.protocol.oauth.proofs import signed_time

_LOOPBACK = "http://127.0.0.1/callback"
_DOCUMENT, _CALLBACK = "client-metadata.json", "callback.html"
_BY_KEY = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<title>Access granted</title>
<h1>One more step</h1>
<p>Copy this address, and paste it where you got the link. It is good once, for five minutes.</p>
<textarea rows="6" cols="80" readonly onclick="this.select()"></textarea>
<script>document.querySelector("textarea").value = location.href</script>
</html>
"""
"""What a person sees after the consent. The page sends nothing."""

_SECONDS = 60
"""The life of an assertion. A PDS refuses one that is older (measured on @atproto/pds 0.5.35)."""


@dataclass(frozen=True)
class Client:
    """A client. Neither `repr` nor `str` shows its key.

    Attributes:
        client_id: the URL of the client's document; of a loopback client, all there is to know.
        redirect_uri: where the browser of a person ends who has consented.
        key: the key of a confidential client, whose sessions last two years; without a key, two weeks.
    """

    client_id: str
    redirect_uri: str
    key: SigningKey | None = field(default=None, repr=False)

    @classmethod
    def loopback(cls, scope: str) -> Self:
        """Return a client that needs no document, to try OAuth out.

        Example:
            >>> Client.loopback("atproto").client_id
            'http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback&scope=atproto'
        """
        return cls(f"http://localhost?{urlencode({'redirect_uri': _LOOPBACK, 'scope': scope})}", _LOOPBACK)

    @classmethod
    def hosted(cls, url: str, key: SigningKey) -> Self:
        """Return a confidential client whose two files are in a folder on the web.

        Raises:
            InvalidInput: a server would refuse the URL.

        Example:
            >>> Client.hosted("https://example.org/bot/", SigningKey.new()).client_id
            'https://example.org/bot/client-metadata.json'
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
            # The text may be the key, which was pasted into the wrong field, or a URL with a password.
            shown = repr(url) if parts.scheme in {"http", "https"} and "@" not in url else "the text"
            raise InvalidInput("url", f"{shown} is not the https:// URL of a folder.", "Write https://example.org/bot.")
        base = url.rstrip("/")
        return cls(f"{base}/{_DOCUMENT}", f"{base}/{_CALLBACK}", key)

    def document(
        self, scope: str, *, name: str = "prefect-bluesky", others: Sequence[SigningKey] = ()
    ) -> dict[str, Any]:
        """Return the document of a confidential client, which is served at its `client_id`.

        Args:
            scope: all that the client may ask for.
            name: what the person who consents reads.
            others: keys of sessions that were granted earlier. A server ends a session whose key has left the document.
        """
        keys = [key for key in (self.key, *others) if key]
        return {
            "client_id": self.client_id,
            "client_name": name,
            "application_type": "web",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "redirect_uris": [self.redirect_uri],
            "scope": scope,
            "dpop_bound_access_tokens": True,
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "ES256",
            "jwks": {"keys": [{**key.public, "kid": key.thumbprint, "use": "sig", "alg": "ES256"} for key in keys]},
        }

    def files(self, scope: str, *, others: Sequence[SigningKey] = ()) -> dict[str, str]:
        """Return the files of a confidential client by their names: the document, and the page after the consent."""
        document = json.dumps(self.document(scope, others=others), indent=2)
        return {_DOCUMENT: f"{document}\n", _CALLBACK: _PAGE}

    def authentication(self, issuer: str, url: str) -> dict[str, str]:
        """Return what shows an authorization server in one attempt of a request that the client is the client."""
        if self.key is None:
            return {"client_id": self.client_id}
        now = signed_time(url)
        about = {"iss": self.client_id, "sub": self.client_id, "aud": issuer, "jti": secrets.token_urlsafe(16)}
        assertion = self.key.sign({"kid": self.key.thumbprint}, {**about, "iat": now, "exp": now + _SECONDS})
        return {"client_id": self.client_id, "client_assertion_type": _BY_KEY, "client_assertion": assertion}
