"""Read the title of a web page that came in place of an answer: the title says whose page it is."""

from __future__ import annotations

import re
from html import unescape

_TITLE = re.compile(rb"<title[^>]*>(.{1,300}?)</title>", re.IGNORECASE | re.DOTALL)


def title_of(page: bytes) -> str | None:
    """Return a page's title in one line, or None. The rest of a page may repeat the request, and with it a secret.

    Example:
        >>> title_of(b"<html><title>Access denied</title></html>")
        'Access denied'
    """
    found = _TITLE.search(page)
    return " ".join(unescape(found[1].decode(errors="replace")).split()) if found else None
