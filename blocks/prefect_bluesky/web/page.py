"""What a web page says of itself, for the card below a post: a title, a description and an image."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser

import httpx
import regex

from prefect_bluesky.web.fetch import Fetched

_HTML = {"text/html", "application/xhtml+xml", ""}

# In order of preference (https://ogp.me and X's cards).
_TITLES = ("og:title", "twitter:title")
_DESCRIPTIONS = ("og:description", "twitter:description", "description")
_IMAGES = ("og:image:secure_url", "og:image:url", "og:image", "twitter:image", "twitter:image:src")

_MAX_TITLE, _MAX_DESCRIPTION = 300, 1000  # graphemes; apps show a few lines
_GRAPHEME = 10  # characters allowed for each: accents can be stacked without end

# Controls, and the halves of UTF-16 that no UTF-8 can hold.
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Whatever could be read up to here is not UTF-16.
_DECLARED = re.compile(
    rb"(?:<meta\s[^>]*?charset|<\?xml\s[^>]*?encoding)\s*=\s*[\"']?\s*(?!utf-?16)([a-z0-9_:-]+)", re.IGNORECASE
)
_DECLARED_WITHIN = 4096  # bytes; browsers look at 1024
# What browsers know, by Python's names. Others of Python's are no encodings of text, or read it in quadratic time.
_CODEC = re.compile(r"ascii|big5.*|cp\d+|euc.*|gb.*|hz|iso.*|koi8.*|mac.*|shift.*|tis.*|utf-(8|16).*")
# What calls itself the left one is often the right one (https://encoding.spec.whatwg.org).
_LARGER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}


@dataclass(frozen=True)
class Page:
    """What a page says of itself.

    Attributes:
        title: in one line; empty if it says none.
        description: in one line; empty if it says none.
        image_url: the absolute URL of its image, if it names one.
    """

    title: str
    description: str
    image_url: str | None


def read_page(fetched: Fetched) -> Page:
    """What a page says of itself: nothing, if it is no page. An image is its own image.

    Args:
        fetched: the page, or its beginning.

    Example:
        >>> from prefect_bluesky.web import Fetched
        >>> html = b'<title>Launch</title> <meta property="og:image" content="/rocket.png">'
        >>> read_page(Fetched("https://example.com/news/", "text/html", None, html))
        Page(title='Launch', description='', image_url='https://example.com/rocket.png')
    """
    if fetched.content_type.startswith("image/"):
        return Page("", "", fetched.url)
    if fetched.content_type not in _HTML:
        return Page("", "", None)
    found = _Metadata()
    # Older versions of html.parser fail on some broken markup. What came before it has been found.
    with suppress(AssertionError, ValueError):
        found.feed(text_of(fetched))
    base_url = _absolute(fetched.url, found.base) or fetched.url
    titles = [*found.named(_TITLES), _clean("".join(found.title))]
    images = [_absolute(base_url, reference) for reference in found.named(_IMAGES)]
    return Page(
        title=_shortened(next(filter(None, titles), ""), _MAX_TITLE),
        description=_shortened(next(iter(found.named(_DESCRIPTIONS)), ""), _MAX_DESCRIPTION),
        image_url=next(filter(None, images), None),
    )


class _Metadata(HTMLParser):
    """Collects the metadata of what it is fed.

    It builds no tree and is never closed. Beautiful Soup does both, in time quadratic in the depth of the tree and in
    what is left unfinished at the end: it reads 100 kB of `<a ` for two minutes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.title: list[str] = []
        self.base = ""
        self._meta: dict[str, str] = {}
        self._in_title = False

    def named(self, names: tuple[str, ...]) -> list[str]:
        """The contents under these names, in their order."""
        return [self._meta[name] for name in names if name in self._meta]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self._in_title = not self.title  # a drawing within the page may have one, too
        elif tag in {"base", "meta"}:
            said = {name: _clean(value or "") for name, value in reversed(attrs)}  # of two alike, the first counts
            self.base = self.base or (said.get("href", "") if tag == "base" else "")
            content = said.get("content") if tag == "meta" else None
            for name in ("property", "name"):
                if content and name in said:
                    self._meta.setdefault(said[name].lower(), content)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)


def text_of(fetched: Fetched) -> str:
    """A page as text, in the encoding that it or its server says."""
    data = fetched.data
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    declared = _DECLARED.search(data, 0, _DECLARED_WITHIN)
    for name in (fetched.charset, declared[1].decode() if declared else None):
        with suppress(LookupError, ValueError):
            encoding = codecs.lookup(name or "").name
            if _CODEC.fullmatch(encoding):
                return data.decode(_LARGER.get(encoding, encoding), "replace")
    return data.decode("utf-8", "replace")


def _clean(text: str) -> str:
    return " ".join(_UNUSABLE.sub(" ", text).split())


def _absolute(base_url: str, reference: str) -> str | None:
    try:
        url = httpx.URL(base_url).join(reference)
        host = url.host  # decoded here, which fails for some
    except (httpx.InvalidURL, ValueError):
        return None
    return str(url) if url.scheme in {"http", "https"} and host else None


def _shortened(text: str, limit: int) -> str:
    beginning = text[: limit * _GRAPHEME]
    graphemes = regex.findall(r"\X", beginning)
    if len(graphemes) <= limit and beginning == text:
        return text
    # The last one may itself have been cut.
    kept: list[str] = graphemes[: min(limit, len(graphemes)) - 1]
    return "".join(kept).rstrip() + "…"
