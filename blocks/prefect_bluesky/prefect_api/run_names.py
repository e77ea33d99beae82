"""Short names for runs, without the secrets that a URL may hold."""

from __future__ import annotations

from urllib.parse import urlsplit


def run_name(source: str) -> str:
    """A text, a path or a URL as part of a run's name: short, and without what a URL may hold of secrets.

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


_NAME_LENGTH = 60
