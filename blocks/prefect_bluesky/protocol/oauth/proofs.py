"""Prove to a server that a token is held by its owner (DPoP, RFC 9449).

Each attempt of each request needs a proof of its own. A server gives the nonces that proofs must have, a new one every
few minutes, and tells its time in each answer.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from prefect_bluesky.protocol.oauth.keys import SigningKey, decode, digest

_BACK = 30
"""Seconds by which signed times lie back. A PDS accepts a proof from 185 s ago to 175 s ahead, and a client's assertion
up to 60 s old but none that is 1 s ahead (measured on @atproto/pds 0.5.35)."""

_NEWS = 2
"""Seconds by which a server's clock must differ from what was known to be worth a second attempt."""


@dataclass
class _Known:
    """What is known of a server: its latest nonce, and how far its clock is ahead of ours, in seconds."""

    nonce: str = ""
    ahead: float = 0.0


_servers: defaultdict[str, _Known] = defaultdict(_Known)
"""By origin: an authorization server and a PDS have nonces of their own."""


def signed_time(url: str) -> int:
    """Return the time to sign a request to a URL with, in seconds since 1970, by the server's clock."""
    return int(time.time() + _servers[origin_of(url)].ahead) - _BACK


def proof(key: SigningKey, verb: str, url: str, access_token: str = "") -> str:
    """Return the proof for one attempt of a request, for the header `DPoP`."""
    target = url.partition("?")[0].partition("#")[0]
    claims = {"jti": secrets.token_urlsafe(16), "htm": verb, "htu": target, "iat": signed_time(url)}
    if access_token:
        claims["ath"] = digest(access_token)
    if nonce := _servers[origin_of(url)].nonce:
        claims["nonce"] = nonce
    return key.sign({"typ": "dpop+jwt", "jwk": key.public}, claims)


def learn(url: str, headers: Mapping[str, str], sent: str) -> bool:
    """Remember the nonce and the time in an answer.

    Args:
        url: the URL of the request.
        headers: the headers of the answer.
        sent: the proof of the request.

    Returns:
        whether another proof would differ. What was known before says nothing: another thread may have learned it
        from an answer of its own.
    """
    known = _servers[origin_of(url)]
    known.nonce = headers.get("dpop-nonce") or known.nonce
    with suppress(ValueError):  # an answer without a date
        known.ahead = parsedate_to_datetime(headers.get("date", "")).timestamp() - time.time()
    claims = json.loads(decode(sent.split(".")[1]))
    is_of_this_time = abs(signed_time(url) - int(claims["iat"])) <= _NEWS
    return not (is_of_this_time and known.nonce == claims.get("nonce", ""))


def origin_of(url: str) -> str:
    """Return the scheme, host and port of a URL.

    Example:
        >>> origin_of("https://bsky.social/oauth/token")
        'https://bsky.social'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
