"""Make short run names without the secrets that a URL may hold."""

from __future__ import annotations

from urllib.parse import urlsplit

_NAME_LENGTH = 60


def run_name(source: str) -> str:
    """Return a text, path or URL as a short part of a run's name, without a URL's user, password and query.

    Example:
        >>> run_name("https://alice:secret@example.com/calendars/december.yaml?token=secret")
        'example.com/calendars/december.yaml'
    """
    try:
        parts = urlsplit(source)
    except ValueError:
        return "a URL"
    if parts.scheme in {"http", "https"}:
        source = f"{parts.hostname}{parts.path}"
    elif parts.scheme == "data":
        return "a file"
    source = " ".join(source.split())
    return source if len(source) <= _NAME_LENGTH else f"{source[: _NAME_LENGTH - 1]}…"
