"""Markdown as plain text, for places that show none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_bluesky.extras import extra

if TYPE_CHECKING:
    from markdown_it.token import Token


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
