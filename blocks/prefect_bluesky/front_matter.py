"""What people write above and into a Markdown text: front matter in YAML, and images."""

from __future__ import annotations

import re
from typing import Any

import yaml

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
