"""Read YAML as its writer means it: what YAML would drop or read as something else is refused with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from prefect_bluesky.errors import InvalidInput

_REMARK = re.compile(r"[ \t]+#")
_HASHTAG = re.compile(r"[ \t]+#[^\s#]")
_BLOCK = re.compile(r"[|>][-+0-9]*")

_QUOTE_IT = "Put the text in quotes."


class _Unclear(Exception):
    """What YAML would drop or read as something else: the line, the reason and the remedy."""


class _Loader(yaml.BaseLoader):
    """YAML without types: `no` is Norwegian and `08:00` is no number. Only an empty value, or null, is None."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_constructor("tag:yaml.org,2002:null", lambda loader, node: None)


def yaml_content(text: str, field: str, *, first_line: int = 1) -> Any:
    r"""Return the content of a YAML document: lists, mappings and texts.

    YAML drops what follows ` #`, as a comment, and all but the last of several values with one name. Here both are
    errors, and so are tags, anchors and aliases: `!`, `&` and `*` at the beginning of a text. A comment is accepted on
    a line of its own, and behind a value that is no text, with a space after its `#`.

    Args:
        text: the document.
        field: what errors name.
        first_line: the number of the document's first line, for errors.

    Raises:
        InvalidInput: the text is no YAML, is nested too deeply, or would lose something. The message names the line.

    Example:
        >>> yaml_content("- text: '#release is out'\n  at: 2026-12-01 08:00  # a Tuesday", "calendar")
        [{'text': '#release is out', 'at': '2026-12-01 08:00'}]
    """
    try:
        return _content(text)
    except _Unclear as unclear:
        line, reason, remedy = unclear.args
    except RecursionError:
        line, reason, remedy = 1, "the lists are nested too deeply.", "Write one list."
    except yaml.MarkedYAMLError as damaged:
        mark = damaged.problem_mark or damaged.context_mark
        line, reason = (mark.line + 1 if mark else 1), f"{damaged.problem or damaged.context}."
        remedy = _remedy_of(reason)
    except yaml.reader.ReaderError as damaged:
        place = int(damaged.position)
        line, reason = text.count("\n", 0, place) + 1, f"the character U+{ord(text[place]):04X} cannot be in a text."
        remedy = "Remove it."
    raise InvalidInput(field, f"line {first_line + line - 1}: {reason}", remedy) from None


def _content(text: str) -> Any:
    for event in yaml.parse(text, _Loader):
        _check_marks(event)
    node = yaml.compose(text, _Loader)
    for each in _nodes(node) if node else ():
        _check_comment(each, text)
        _check_names(each)
    return yaml.load(text, _Loader)  # noqa: S506 (it makes no objects)


def _remedy_of(reason: str) -> str:
    if any(
        words in reason for words in ("mapping values", "cannot start any", "expected alpha", "expected <block end>")
    ):
        return "Put a text with such characters in quotes, and begin each line as deep as those beside it."
    return "Correct the YAML there."


def _check_marks(event: yaml.Event) -> None:
    anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
    if not anchor and not tag:
        return
    line = event.start_mark.line + 1 if event.start_mark else 1
    if isinstance(event, yaml.AliasEvent):
        raise _Unclear(line, f"*{anchor} is an alias, and aliases are not read.", f"{_QUOTE_IT[:-1]}, or write it out.")
    begins = f"&{anchor}" if anchor else f"{tag}"
    raise _Unclear(line, f"YAML reads {begins} as a mark of its own, and not as text.", _QUOTE_IT)


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield a node and all below it, without recursion."""
    pending = [node]
    while pending:
        each = pending.pop()
        yield each
        if isinstance(each, yaml.MappingNode):
            pending += [part for pair in each.value for part in pair]
        elif isinstance(each, yaml.SequenceNode):
            pending += each.value


def _check_comment(node: yaml.Node, text: str) -> None:
    """Refuse a comment that may be meant as text: behind a text without quotes, or without a space after its #."""
    if isinstance(node, yaml.ScalarNode):
        mark = node.start_mark if node.style in {"|", ">"} else node.end_mark
    elif isinstance(node, yaml.CollectionNode) and node.flow_style:
        mark = node.end_mark
    else:
        return
    place = mark.index
    if found := _BLOCK.match(text, place):
        place = found.end()
    is_text = isinstance(node, yaml.ScalarNode) and node.style is None and " " in str(node.value)
    pattern = _REMARK if is_text and not _looks_like_a_time(str(node.value)) else _HASHTAG
    if pattern.match(text, place):
        rest = text[place:].partition("\n")[0].strip()
        reason = f"YAML drops “{rest[:40]}” as a comment."
        remedy = "Put the text in quotes, or the comment on a line of its own."
        raise _Unclear(mark.line + 1, reason, remedy)


def _looks_like_a_time(value: str) -> bool:
    return re.match(r"\d{4}-\d", value) is not None


def _check_names(node: yaml.Node) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, _ in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in first:
            reason = f"{name!r} is there a second time, after line {first[name]}."
            raise _Unclear(line, reason, "Begin each post with a dash, or remove one of the two.")
        first[name] = line
