"""Read YAML as its writer means it: what YAML would drop or read as something else is refused with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from prefect_bluesky.errors import InvalidInput

_REMARK = re.compile(r"[ \t]+#")
_HASHTAG = re.compile(r"[ \t]+#(?=[^\s#])")
_IN_BRACES = re.compile(r"[^'\"]*?[ \t](?=#[^\s#])")
"""What stands before a hashtag, in a line without quotes."""

_ENTRY = re.compile(r"\s*(?:-\s|\w+:(?:\s|$))")
"""The beginning of an item or of a name with its value."""

_BELOW = re.compile(r"[ \t]*(?:\r?\n[ \t]*)*?(?:(?<=\n)|\n)([ \t]*)#(?=(\w?))")
"""A comment below a value: how far right it stands, and whether it is a hashtag."""
_BLOCK = re.compile(r"[|>][-+0-9]*")

_TEXTS = {"", "text", "alt", "title", "description"}
"""The names of values that people read; an item of a list has none."""

_QUOTE_IT = "Put the text in quotes."


class _Unclear(Exception):
    """What YAML would drop or read as something else: the line, the reason and the remedy."""


class _Loader(yaml.BaseLoader):
    """YAML without types: `no` is Norwegian and `08:00` is no number. Only an empty value, or null, is None."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node. An alias is refused before it is followed: a few lines could expand to gigabytes."""
        _check_marks(self.peek_event())  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


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
        line, reason, remedy = _damage(damaged, text)
    except yaml.reader.ReaderError as damaged:
        place = int(damaged.position)
        line, reason = text.count("\n", 0, place) + 1, f"the character U+{ord(text[place]):04X} cannot be in a text."
        remedy = "Remove it."
    raise InvalidInput(field, f"line {first_line + line - 1}: {reason}", remedy) from None


def _content(text: str) -> Any:
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    for each in _values(node):
        _check_comment(each, text)
        _check_quotes(each, text)
        _check_names(each.node)
        _check_commas(each.node, text)
    return loader.construct_document(node)


def _damage(damaged: yaml.MarkedYAMLError, text: str) -> tuple[int, str, str]:
    """Return the line, the reason and the remedy of what is no YAML."""
    begin, end = damaged.context_mark, damaged.problem_mark or damaged.context_mark
    reason = f"{damaged.problem or damaged.context}."
    if begin and end and reason.startswith("expected ',' or"):
        # A hashtag in braces, or in brackets, hides what closes them.
        for number, line in enumerate(text.splitlines()[begin.line : end.line + 1], begin.line + 1):
            if found := _IN_BRACES.match(line):
                return number, f"YAML drops “{line[found.end() :].strip()[:40]}” as a comment.", _QUOTE_IT
    return (end.line + 1 if end else 1), reason, _remedy_of(reason)


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


@dataclass(frozen=True)
class _Value:
    """A value in a document.

    Attributes:
        node: the value.
        name: its name, or "" in a list.
        column: where its name begins, or its list. What belongs to the value stands further right.
    """

    node: yaml.Node
    name: str
    column: int


def _values(root: yaml.Node) -> Iterator[_Value]:
    """Yield a value and all within it. No recursion: lists may be nested deeply."""
    pending = [_Value(root, "", -1)]
    while pending:
        each = pending.pop()
        yield each
        node = each.node
        if isinstance(node, yaml.MappingNode):
            pending += [_Value(value, str(key.value), key.start_mark.column) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            pending += [_Value(item, "", node.start_mark.column) for item in node.value]


def _check_quotes(value: _Value, text: str) -> None:
    """Refuse a quoted text in which the next entry begins: its second quote is missing."""
    node = value.node
    if not isinstance(node, yaml.ScalarNode) or node.style not in {"'", '"'}:
        return
    below = text[node.start_mark.index : node.end_mark.index].splitlines()[1:]
    for number, line in enumerate(below, node.start_mark.line + 2):
        if _ENTRY.match(line) and len(line) - len(line.lstrip()) <= value.column:
            reason = f"a text in quotes, which begins in line {node.start_mark.line + 1}, goes on too far left."
            raise _Unclear(number, reason, "Put the second quote where the text ends, or move the line right.")


def _check_comment(value: _Value, text: str) -> None:
    """Refuse a comment that may be meant as text: behind a text without quotes, or without a space after its #."""
    node = value.node
    if isinstance(node, yaml.ScalarNode):
        mark = node.start_mark if node.style in {"|", ">"} else node.end_mark
    elif isinstance(node, yaml.CollectionNode) and node.flow_style:
        mark = node.end_mark
    else:
        return
    place = mark.index
    if found := _BLOCK.match(text, place):
        place = found.end()
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    pattern = _REMARK if is_plain and _is_text(value.name, str(node.value)) else _HASHTAG
    found = pattern.match(text, place)
    if found is None and isinstance(node, yaml.ScalarNode) and value.name in _TEXTS:
        below = _BELOW.match(text, node.end_mark.index)
        # A text of several lines would go on there.
        found = below if below and (len(below[1]) > value.column or below[2]) else None
    if found:
        rest = text[found.end() - 1 :].partition("\n")[0].strip()
        line = mark.line + 1 + text.count("\n", place, found.end())
        remedy = "Put the text in quotes, or the comment on a line of its own, as # with a space."
        raise _Unclear(line, f"YAML drops “{rest[:40]}” as a comment.", remedy)


def _is_text(name: str, value: str) -> bool:
    """Return whether a value may be read by people: an item of a list, or a text with or without spaces."""
    return name in _TEXTS or (" " in value and not re.match(r"\d{4}-\d", value))


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


def _check_commas(node: yaml.Node, text: str) -> None:
    """Refuse a name without a colon, in braces: a comma in a text without quotes has ended the text."""
    if not isinstance(node, yaml.MappingNode) or not node.flow_style:
        return
    for key, value in node.value[1:]:
        if ":" not in text[key.end_mark.index : value.start_mark.index] and value.start_mark == value.end_mark:
            words = text[key.start_mark.index : key.end_mark.index][:40]
            raise _Unclear(key.start_mark.line + 1, f"the comma before “{words}” ends the text.", _QUOTE_IT)
