"""Read the title, the description and the image that a web page gives of itself, for the card below a post."""

from __future__ import annotations

import codecs
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser

import httpx
import regex
import webencodings

from prefect_bluesky.web.fetch import Fetched

_HTML = {"text/html", "application/xhtml+xml", ""}

# In order of preference (https://ogp.me and X's cards).
_TITLES = ("og:title", "twitter:title")
_DESCRIPTIONS = ("og:description", "twitter:description", "description")
_IMAGES = ("og:image:secure_url", "og:image:url", "og:image", "twitter:image", "twitter:image:src")

_RECORDS = ("site.standard.document", "site.standard.publication")
"""The relations of a page to its records, which are the records' kinds, too."""

_REFRESH = re.compile(r"\s*\d{1,2}\s*[;,]\s*url\s*=\s*[\"']?([^\"']+?)[\"']?\s*", re.IGNORECASE)
"""The content of a tag by which a page sends its reader on, within seconds."""

_MAX_IMAGES = 5
"""The number of a page's images that are tried. The first may be gone, or of a kind that cannot be read."""

_MAX_TITLE, _MAX_DESCRIPTION = 300, 1000  # graphemes; apps show a few lines
_GRAPHEME = 10  # characters allowed for each, because accents can be stacked without end

# Control characters, and surrogates, which UTF-8 cannot hold.
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_SEEN = regex.compile(r"[^\p{Cf}\p{Z}\p{M}\u115f\u1160\u3164\uffa0]")

_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# A declared UTF-16 is ignored: the declaration was readable, so the page is not UTF-16.
_DECLARED = re.compile(
    rb"(?:<meta\s[^>]*?charset|<\?xml\s[^>]*?encoding)\s*=\s*[\"']?\s*(?!utf-?16)([a-z0-9_:-]+)", re.IGNORECASE
)
_DECLARED_WITHIN = 4096  # bytes; browsers look at 1024


# Python's decoders of these names know less than browsers do.
_LARGER = {"gbk": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949", "big5": "big5hkscs"}


@dataclass(frozen=True)
class Page:
    """What a page says about itself.

    Attributes:
        title: its title in one line, or "".
        description: its description in one line, or "".
        image_urls: the absolute URLs of its images, the best first.
        records: the at:// URIs of the records that the page is of (https://standard.site), the document first.
        next_url: the absolute URL that a browser goes on to, or None.
    """

    title: str
    description: str
    image_urls: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    next_url: str | None = None


def read_page(fetched: Fetched) -> Page:
    """Read a page, or its beginning. An image is its own image; other content gives an empty `Page`."""
    if fetched.content_type.startswith("image/"):
        return Page("", "", (fetched.url,))
    if fetched.content_type not in _HTML:
        return Page("", "")
    found = _Metadata()
    # Older versions of html.parser fail on some broken markup. The metadata before it is kept.
    with suppress(AssertionError, ValueError):
        found.feed(text_of(fetched))
    base_url = _absolute(fetched.url, found.base) or fetched.url
    titles = [*found.named(_TITLES), _clean("".join(found.title))]
    images = [_absolute(base_url, reference) for reference in found.named(_IMAGES)]
    return Page(
        title=_shortened(next(filter(None, titles), ""), _MAX_TITLE),
        description=_shortened(next(iter(found.named(_DESCRIPTIONS)), ""), _MAX_DESCRIPTION),
        image_urls=tuple(dict.fromkeys(filter(None, images)))[:_MAX_IMAGES],
        records=tuple(filter(None, (found.links.get(rel) for rel in _RECORDS))),
        next_url=_absolute(base_url, found.refresh) if found.refresh else None,
    )


class _Metadata(HTMLParser):
    """A parser that collects metadata, builds no tree and is never closed.

    Beautiful Soup builds a tree and closes its parser, in time quadratic in the depth of the tree and in the unfinished
    rest: 100 kB of `<a ` take it two minutes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.title: list[str] = []
        self.base = ""
        self.links: dict[str, str] = {}
        self.refresh = ""
        self._meta: defaultdict[str, list[str]] = defaultdict(list)
        self._in_title = False

    def named(self, names: tuple[str, ...]) -> list[str]:
        """Return the contents under these names, in the order of the names and of the page."""
        return [content for name in names for content in self._meta.get(name, ())]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self._in_title = not self.title  # a drawing within the page may have a title, too
        elif tag == "link":
            said = {name: value or "" for name, value in attrs}
            for rel in said.get("rel", "").split():
                self.links.setdefault(rel.lower(), said.get("href", "").strip())
        elif tag in {"base", "meta"}:
            said = {name: _clean(value or "") for name, value in reversed(attrs)}  # of equal names, the first counts
            self.base = self.base or (said.get("href", "") if tag == "base" else "")
            content = said.get("content") if tag == "meta" else None
            if said.get("http-equiv", "").lower() == "refresh" and (goes_on := _REFRESH.fullmatch(content or "")):
                self.refresh = self.refresh or goes_on[1]
            # An attribute may hold several names.
            names = f"{said.get('property', '')} {said.get('name', '')}".lower().split()
            for name in names if content else ():
                self._meta[name].append(content or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)


def text_of(fetched: Fetched) -> str:
    """Decode a page, in the encoding that the page or its server declares, as browsers know them by its label.

    A page that declares none is in UTF-8, or if its bytes are not UTF-8, in windows-1252.
    """
    data = fetched.data
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    declared = _DECLARED.search(data, 0, _DECLARED_WITHIN)
    for label in (fetched.charset, declared[1].decode() if declared else None):
        # The table of https://encoding.spec.whatwg.org: a page of "latin1" is in windows-1252, for example.
        if label and label.isascii() and (found := webencodings.lookup(label)):
            return data.decode(_LARGER.get(found.name, found.codec_info.name), "replace")
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(data)  # whose last character may be cut
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _clean(text: str) -> str:
    """Return a text in one line; "" if a reader sees none of it."""
    line = " ".join(_UNUSABLE.sub(" ", text).split())
    return line if _SEEN.search(line) else ""


def _absolute(base_url: str, reference: str) -> str | None:
    try:
        url = httpx.URL(base_url).join(reference)
        host = url.host  # decoding it fails for some URLs
    except (httpx.InvalidURL, ValueError):
        return None
    return str(url) if url.scheme in {"http", "https"} and host else None


def _shortened(text: str, limit: int) -> str:
    beginning = text[: limit * _GRAPHEME]
    graphemes = regex.findall(r"\X", beginning)
    if len(graphemes) <= limit and beginning == text:
        return text
    # The last grapheme may itself be cut, so it is dropped.
    return "".join(graphemes[: min(limit, len(graphemes)) - 1]).rstrip() + "…"
