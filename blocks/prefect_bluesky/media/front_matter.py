"""Read the front matter of a Markdown file: YAML between ---, TOML between +++, or an object of JSON."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media.strict_yaml import yaml_content

FENCE = re.compile(r"^---[ \t]*\r?$", re.MULTILINE)
"""A line of three dashes, which begins and ends front matter."""

_TOML_FENCE = re.compile(r"^\+\+\+[ \t]*\r?$", re.MULTILINE)


def split_front_matter(text: str, field: str) -> tuple[dict[str, Any], str]:
    r"""Return the fields of a file's front matter, and the text below it. A file without front matter has no fields.

    Args:
        text: the file's text.
        field: what errors name.

    Raises:
        InvalidInput: the front matter cannot be read.

    Example:
        >>> split_front_matter("---\ntitle: Release 2.0\n---\nIt is fast.", "file")
        ({'title': 'Release 2.0'}, '\nIt is fast.')
    """
    fields: Any = {}
    if (parts := _fenced(FENCE, text)) is not None:
        matter, text = parts
        fields = yaml_content(matter, field) or {}
    elif (parts := _fenced(_TOML_FENCE, text)) is not None:
        matter, text = parts
        try:
            fields = tomllib.loads(matter)
        except tomllib.TOMLDecodeError as damaged:
            raise InvalidInput(field, f"the front matter is no TOML: {damaged}.", "Correct the TOML.") from None
    elif text.lstrip().startswith("{"):
        try:
            found, end = json.JSONDecoder().raw_decode(text.lstrip())
        except (ValueError, RecursionError):
            return {}, text  # a text that begins with a brace
        fields, text = found, text.lstrip()[end:]
    if not isinstance(fields, dict):
        raise InvalidInput(field, "the front matter is no list of fields.", "Write fields such as title.")
    return fields, text


def is_draft(fields: dict[str, Any]) -> bool:
    """Return whether front matter says that the file is not to be published yet: `draft: true`, `published: false`."""
    return str(fields.get("draft")).lower() in {"true", "yes"} or str(fields.get("published")).lower() in {
        "false",
        "no",
    }


def _fenced(fence: re.Pattern[str], text: str) -> tuple[str, str] | None:
    before, *parts = fence.split(text, maxsplit=2)
    return (parts[0], parts[1]) if not before.strip() and len(parts) == 2 else None
