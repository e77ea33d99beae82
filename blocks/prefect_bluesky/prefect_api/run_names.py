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
    return shorten(_without_secrets(source))


def file_name(source: str) -> str:
    """Return the last part of a path or URL, without a URL's query.

    Example:
        >>> file_name("https://example.com/calendars/december.yaml?token=secret")
        'december.yaml'
    """
    return shorten(_without_secrets(source).rstrip("/").rpartition("/")[2])


def shorten(text: str) -> str:
    """Return a text as one line of at most 60 characters."""
    text = " ".join(text.split())
    return text if len(text) <= _NAME_LENGTH else f"{text[: _NAME_LENGTH - 1]}…"


def _without_secrets(source: str) -> str:
    try:
        parts = urlsplit(source)
    except ValueError:
        return "a URL"
    if parts.scheme in {"http", "https"}:
        return f"{parts.hostname}{parts.path}"
    return "a file" if parts.scheme == "data" else source
