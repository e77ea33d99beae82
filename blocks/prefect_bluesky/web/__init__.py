"""Fetch what lies behind URLs that strangers gave, and read what a web page says about itself.

A URL can never reach into a private network unless a setting allows it.
"""

from prefect_bluesky.web.endpoint import Answer, ask
from prefect_bluesky.web.fetch import Fetched, fetch, redacted
from prefect_bluesky.web.page import Page, read_page, text_of
from prefect_bluesky.web.title import title_of

# fmt: off
__all__ = [
    "Answer", "Fetched", "Page", "ask", "fetch", "read_page", "redacted", "text_of", "title_of",
]
# fmt: on
