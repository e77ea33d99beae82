"""Markdown as plain text, for places that show none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from prefect_bluesky.extras import extra

if TYPE_CHECKING:
    from markdown_it.token import Token

FENCE = re.compile(r"^---[ \t]*\r?$", re.MULTILINE)
"""A line of three dashes, which begins and ends front matter."""

_IMAGE = re.compile(r"^[ \t]*!\[([^\]\n]*)\]\(([^()\s]+)\)[ \t]*\r?$\n?", re.MULTILINE)


def without_images(body: str) -> tuple[str, list[dict[str, str]]]:
    r"""A text without the images that stand on lines of their own, and these, each with its source and its alt text.

    Example:
        >>> without_images("Look:\n![A cat](cat.jpg)")
        ('Look:', [{'source': 'cat.jpg', 'alt': 'A cat'}])
    """
    images = [{"source": source, "alt": alt} for alt, source in _IMAGE.findall(body)]
    return _IMAGE.sub("", body).strip(), images


class _Loader(yaml.SafeLoader):
    """YAML in which a scalar is the text that stands there, and nothing else: `no` is Norwegian, `08:00` no number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        # A few lines of them may stand for gigabytes.
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not read", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith(":null")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


MISUSED = (AttributeError, RecursionError, TypeError, ValueError)
"""What the parser raises where a tag such as `!!int` stands before something else, or lists are nested deeply."""


def yaml_content(text: str) -> Any:
    """What a YAML document holds: lists, mappings and texts.

    Raises:
        yaml.YAMLError: it is none; or one of `MISUSED`.
    """
    return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)


def plain_text(markdown: str) -> tuple[str, str]:
    r"""The title of a Markdown text, and the rest of it as paragraphs.

    The title is its first heading, if nothing stands before that. Headings, list items and quotations become
    paragraphs, and of a link its text remains. Code and tables are left out: nobody reads them in a post.

    Args:
        markdown: the text.

    Example:
        >>> plain_text("# Release 2.0\n\nIt is **twice** as [fast](https://example.com).")
        ('Release 2.0', 'It is twice as fast.')
    """
    with extra("compose", "file"):
        from markdown_it import MarkdownIt

    title = ""
    paragraphs: list[str] = []
    kinds: list[str] = []
    for token in MarkdownIt().enable("table").parse(markdown):
        if token.nesting == 1:
            kinds.append(token.type)
        elif token.nesting == -1:
            kinds.pop()
        elif token.type == "inline" and "table_open" not in kinds:
            text = _inline(token)
            if not paragraphs and not title and kinds[-1] == "heading_open":
                title = text
            elif text:
                bullet = "• " if "list_item_open" in kinds else ""
                paragraphs.append(bullet + text)
    return title, "\n\n".join(paragraphs)


def _inline(token: Token) -> str:
    shown = {"softbreak": " ", "hardbreak": "\n"}
    return "".join(
        shown.get(child.type, "" if child.type in {"html_inline", "image"} else child.content)
        for child in token.children or []
    ).strip()
