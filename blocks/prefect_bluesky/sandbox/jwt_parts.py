"""The parts of a JWT: JSON objects and bytes, as base64url without padding (RFC 7515)."""

import base64
import json
from collections.abc import Mapping
from typing import Any


def encode(content: Mapping[str, Any]) -> str:
    """Return a JSON object as a part."""
    return to_base64url(json.dumps(content, separators=(",", ":")).encode())


def decode(part: str) -> dict[str, Any] | None:
    """Return the JSON object in a part, or None if there is none."""
    raw = from_base64url(part)
    try:
        content = json.loads(raw) if raw is not None else None
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def to_base64url(raw: bytes) -> str:
    """Encode bytes.

    Example:
        >>> to_base64url(b"~~~")
        'fn5-'
    """
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_base64url(part: str) -> bytes | None:
    """Decode bytes, or return None if the text has another form."""
    part = part.rstrip("=")
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return None
