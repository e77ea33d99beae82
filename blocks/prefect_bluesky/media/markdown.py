"""Read Markdown: front matter in YAML, images on lines of their own, and the text without its markup."""

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
    r"""Take the images on lines of their own out of a text; return the text and each image's source and alt text.

    Example:
        >>> without_images("Look:\n![A cat](cat.jpg)")
        ('Look:', [{'source': 'cat.jpg', 'alt': 'A cat'}])
    """
    images = [{"source": source, "alt": alt} for alt, source in _IMAGE.findall(body)]
    return _IMAGE.sub("", body).strip(), images


class _Loader(yaml.BaseLoader):
    """YAML without types: `no` is Norwegian and `08:00` is no number. Only an empty value, or null, is None."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_constructor("tag:yaml.org,2002:null", lambda loader, node: None)


def yaml_content(text: str) -> Any:
    """Return the content of a YAML document: lists, mappings and texts.

    Raises:
        yaml.YAMLError: it is no YAML, is nested too deeply, or has aliases: a few lines could expand to gigabytes.
    """
    try:
        for event in yaml.parse(text, _Loader):
            if isinstance(event, yaml.AliasEvent):
                raise yaml.MarkedYAMLError(problem="aliases are not read", problem_mark=event.start_mark)  # type: ignore[arg-type]
        return yaml.load(text, _Loader)  # noqa: S506 (it makes no objects)
    except RecursionError:
        raise yaml.YAMLError("its lists are nested too deeply") from None


def plain_text(markdown: str) -> tuple[str, str]:
    r"""Return the title of a Markdown text, and the rest of the text as paragraphs.

    The title is the first heading, if nothing precedes it. Headings, list items and quotations become paragraphs. Of a
    link only its text remains. Code and tables are left out, as nobody reads them in a post.

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
