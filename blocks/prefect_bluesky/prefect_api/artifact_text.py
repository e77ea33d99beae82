"""Escape people's text for the Markdown of Prefect's artifacts."""

from __future__ import annotations

import re

# As few as possible: within a link, Prefect's older UI shows a backslash as it is.
_SPECIAL = re.compile(r"([\\`*\[\]<|~]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;))")
_BLOCK_START = re.compile(r"^(\d*)([#>+=.)-])")
_NO_BREAK_SPACE = "\u00a0"


def table_cell(text: str) -> str:
    """Return a text as one cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def literal_markdown(text: str) -> str:
    r"""Return Markdown that shows the text literally, with its line breaks and indents.

    Example:
        >>> print(literal_markdown("1. *not* a list"))
        1\. \*not\* a list
    """
    return markdown_paragraph(escape_markdown(text))


def escape_markdown(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def markdown_paragraph(markdown: str) -> str:
    # Not a blockquote: the UI shows blockquotes in italics and between quotation marks.
    return "  \n".join(map(_line, markdown.splitlines()))


def _line(markdown: str) -> str:
    """Return a line that begins no list, heading or code block."""
    text = markdown.lstrip()
    indent = _NO_BREAK_SPACE * (len(markdown) - len(text))
    return indent + _BLOCK_START.sub(r"\1\\\2", text) or _NO_BREAK_SPACE
