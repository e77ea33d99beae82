"""Read Markdown: the text without its markup, and the images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import unquote

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media.files import is_url

if TYPE_CHECKING:
    from markdown_it.token import Token

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_HTML_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9-]*)[^<>]*>")
_UNREAD = re.compile(r"<(script|style|template)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)

# Elements whose tags a reader does not see. In a post, <anything else> is text.
# fmt: off
_ELEMENTS = {
    "a", "abbr", "address", "article", "aside", "audio", "b", "bdi", "bdo", "blockquote", "body", "br", "button",
    "caption", "center", "cite", "code", "col", "colgroup", "data", "dd", "del", "details", "dfn", "div", "dl",
    "dt", "em", "embed", "figcaption", "figure", "font", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
    "head", "header", "hr", "html", "i", "iframe", "img", "input", "ins", "kbd", "label", "legend", "li", "link",
    "main", "map", "mark", "math", "meta", "nav", "noscript", "object", "ol", "option", "p", "picture", "pre",
    "q", "rp", "rt", "ruby", "s", "samp", "script", "section", "select", "small", "source", "span", "strike",
    "strong", "style", "sub", "summary", "sup", "svg", "table", "tbody", "td", "template", "textarea", "tfoot",
    "th", "thead", "time", "title", "tr", "track", "tt", "u", "ul", "var", "video", "wbr",
}
# fmt: on

# What generators of sites replace: Hugo's shortcodes, Liquid's and Jinja's tags; and MDX's imports and exports.
_TEMPLATE = re.compile(r"\{\{[<%-]?.*?[>%-]?\}\}|\{%.*?%\}", re.DOTALL)
_MDX = re.compile(r"^(?:import\s.*['\"].*|export\s+(?:const|default|let)\b.*)$", re.MULTILINE)

_FOOTNOTE = re.compile(r"^\[\^[^\]\s]+\]:.*(?:\n(?: {4}|\t).*)*\n?", re.MULTILINE)
_FOOTNOTE_MARK = re.compile(r"\[\^[^\]\s]+\]")


@dataclass(frozen=True)
class Written:
    """What a Markdown text says.

    Attributes:
        title: the first heading, if nothing precedes it, else "".
        text: the text without markup, in paragraphs.
        images: the source and the alternative text of each image.
    """

    title: str
    text: str
    images: list[dict[str, str]]


def read_markdown(markdown: str, *, for_post: bool = False) -> Written:
    r"""Return what a Markdown text says.

    Headings, list items and quotations become paragraphs and lines. Comments are never part of the text.

    Args:
        markdown: the text.
        for_post: whether the text is a post as its writer wants it: lines stay lines, a heading is text, a link keeps
            its address, code stays. Otherwise the text is an article: its lines are joined, its first heading is its
            title, and links, code, tables and footnotes are left out.

    Raises:
        InvalidInput: a comment in a post does not end, or a link in it leads nowhere.

    Example:
        >>> read_markdown("# Release 2.0\n\nIt is **twice** as [fast](https://example.com).").text
        'It is twice as fast.'
        >>> read_markdown("See the [notes](https://example.com).\n![A cat](cat.jpg)", for_post=True)
        Written(title='', text='See the notes https://example.com.', images=[{'source': 'cat.jpg', 'alt': 'A cat'}])
    """
    from markdown_it import MarkdownIt

    text = _COMMENT.sub("", markdown.replace("\r\n", "\n").replace("\r", "\n"))
    if for_post and "<!--" in text:
        raise InvalidInput("text", "it has a comment, <!--, that does not end.", "Write --> where the comment ends.")
    if not for_post:
        text = _FOOTNOTE_MARK.sub("", _FOOTNOTE.sub("", _MDX.sub("", _TEMPLATE.sub("", text))))
    reader = _Reader(for_post)
    for token in MarkdownIt().enable(["strikethrough"] if for_post else ["strikethrough", "table"]).parse(text):
        reader.read(token)
    return Written(reader.title, reader.text(), reader.images)


class _Reader:
    """Collects the text of Markdown's tokens."""

    def __init__(self, for_post: bool) -> None:
        self.title = ""
        self.images: list[dict[str, str]] = []
        self._for_post = for_post
        self._blocks: list[str] = []
        self._open: list[Token] = []
        self._numbers: list[int | None] = []
        self._is_new_item = False

    def text(self) -> str:
        return "".join(self._blocks).strip()

    def read(self, token: Token) -> None:
        if token.nesting == 1:
            self._open.append(token)
            if token.type == "ordered_list_open":
                self._numbers.append(int(token.attrGet("start") or 1))
            elif token.type == "bullet_list_open":
                self._numbers.append(None)
            elif token.type == "list_item_open":
                self._is_new_item = True
        elif token.nesting == -1:
            self._open.pop()
            if token.type in {"ordered_list_close", "bullet_list_close"}:
                self._numbers.pop()
        elif token.type in {"fence", "code_block"}:
            if self._for_post:
                self._add(token.content.rstrip("\n"))
        elif token.type == "html_block":
            self._add(unescape(self._without_tags(_UNREAD.sub("", token.content))).strip())
        elif token.type == "inline" and (self._for_post or not self._is_in("table_open")):
            self._read_inline(token)

    def _is_in(self, kind: str) -> bool:
        return any(each.type == kind for each in self._open)

    def _read_inline(self, token: Token) -> None:
        text = self._inline(token.children or [])
        is_heading = self._is_in("heading_open")
        if is_heading and not self._for_post and not self._blocks and not self.title:
            self.title = text
        else:
            self._add(text)

    def _add(self, text: str) -> None:
        if not text:
            return
        if self._numbers and self._is_new_item:
            number = self._numbers[-1]
            text = f"• {text}" if number is None else f"{number}. {text}"
            if number is not None:
                self._numbers[-1] = number + 1
        is_next_item = bool(self._numbers) and self._is_new_item and self._was_item
        self._blocks.append(("\n" if is_next_item else "\n\n") + text)
        self._was_item, self._is_new_item = bool(self._numbers), False

    _was_item = False

    def _without_tags(self, html: str) -> str:
        def shown(tag: re.Match[str]) -> str:
            return tag[0] if self._for_post and tag[1].lower() not in _ELEMENTS else ""

        return _HTML_TAG.sub(shown, _LINE_BREAK.sub("\n", html))

    def _inline(self, children: Sequence[Token]) -> str:
        parts: list[str] = []
        links: list[tuple[int, str]] = []
        for child in children:
            match child.type:
                case "softbreak":
                    parts.append("\n" if self._for_post else " ")
                case "hardbreak":
                    parts.append("\n")
                case "image":
                    self.images.append({"source": _path(str(child.attrGet("src") or "")), "alt": child.content})
                case "html_inline":
                    parts.append(self._without_tags(child.content))
                case "link_open":
                    links.append((len(parts), str(child.attrGet("href") or "")))
                case "link_close":
                    start, address = links.pop()
                    shown = "".join(parts[start:]).strip()
                    if self._for_post and not is_url(address):
                        what = f"the link to {unquote(address)!r} leads nowhere in a post."
                        raise InvalidInput("text", what, "Write its whole address, or no link.")
                    if self._for_post and not _names(shown, address):
                        parts.append(f" {address}" if shown else address)
                case _:
                    parts.append(child.content)
        lines = "".join(parts).split("\n")
        return "\n".join(line.strip() for line in lines).strip()


def _path(source: str) -> str:
    """Return the source of an image as its writer sees it: in Markdown, a path is written as a URL is."""
    return source if is_url(source) else unquote(source)


def _names(shown: str, address: str) -> bool:
    """Return whether a link's text is its address already."""
    return shown in {address, unquote(address)} or f"mailto:{shown}" == address
