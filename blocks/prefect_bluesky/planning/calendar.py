"""Files of planned posts: YAML, JSON, CSV, or Markdown with front matter."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml
from pydantic import ValidationError

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media import FENCE, File, read_file, resolve_files, without_images, yaml_content
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.validation import explain_validation_error

MAX_BYTES = 20_000_000
"""The maximum size of a calendar: a week of a thousand accounts takes a fifth of it."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Unusable:
    """An entry that cannot be published: its place, such as `row 12`, its account ("" if unknown) and the reason."""

    place: str
    account: str
    reason: str


@dataclass(frozen=True)
class Calendar:
    """The posts of a calendar, each with its place, and the time zone, if the calendar names one."""

    entries: list[tuple[str, PlannedPost | Unusable]]
    timezone: str | None


def read_calendar(file: File) -> Calendar:
    """Read a calendar, whose suffix names the format: .yaml, .yml, .json, .csv, .md or .markdown.

    Paths of images, videos and captions are relative to the calendar. An error in one post affects that post alone.

    Raises:
        InvalidInput: the file is not a calendar. The message names the line and the remedy.
        SourceUnavailable: the file cannot be read.

    Example:
        >>> read_calendar(File(source=f"{calendars}/december.yaml")).entries[0]
        ('post 1', PlannedPost(account='alice', ...))
    """
    suffix = PurePosixPath(file.source.partition("?")[0]).suffix.lower()
    if suffix not in _FORMATS:
        what = f"{suffix or 'no suffix'!r} is none of {', '.join(_FORMATS)}."
        raise InvalidInput("calendar", what, "Give the file the suffix of its format.")
    data = read_file(file, "calendar", max_bytes=MAX_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = data.count(b"\n", 0, broken.start) + 1
        raise InvalidInput("calendar", f"line {line} is not UTF-8.", "Save the file as UTF-8.") from None
    written = _FORMATS[suffix](text)
    return Calendar([(place, _planned(place, fields, file)) for place, fields in written.posts], written.timezone)


@dataclass(frozen=True)
class _Written:
    posts: list[tuple[str, Any]]
    timezone: str | None = None


def _planned(place: str, fields: Any, calendar: File) -> PlannedPost | Unusable:
    if isinstance(fields, Unusable):
        return fields
    try:
        planned: PlannedPost = resolve_files(calendar, PlannedPost.model_validate(fields))
    except ValidationError as unusable:
        reason = explain_validation_error(unusable)
    except InvalidInput as unusable:
        reason = str(unusable)
    except RecursionError:
        reason = "the lists are nested too deeply."
    else:
        return planned
    account = fields.get("account") if isinstance(fields, dict) else None
    return Unusable(place, str(account or ""), reason)


def _from_yaml(text: str) -> _Written:
    try:
        return _listed(yaml_content(text))
    except yaml.MarkedYAMLError as damaged:
        line = damaged.problem_mark.line + 1 if damaged.problem_mark else 1
        raise InvalidInput("calendar", f"line {line}: {damaged.problem}.", "Correct the YAML there.") from None
    except yaml.YAMLError as damaged:
        raise InvalidInput("calendar", f"the file is not YAML: {damaged}.", "Check it with a YAML editor.") from None


def _from_json(text: str) -> _Written:
    try:
        return _listed(json.loads(text))
    except json.JSONDecodeError as damaged:
        raise InvalidInput("calendar", f"line {damaged.lineno}: {damaged.msg}.", "Correct the JSON there.") from None
    except RecursionError:
        raise InvalidInput("calendar", "the lists are nested too deeply.", "Write one list of posts.") from None
    except ValueError as damaged:  # a number of thousands of digits
        raise InvalidInput("calendar", f"the file cannot be read: {damaged}.", "Correct the JSON.") from None


def _listed(content: Any) -> _Written:
    """Return the posts of a list, or of a mapping with `posts` and the defaults `account` and `timezone`."""
    timezone, account = None, None
    if isinstance(content, dict):
        others = content.keys() - {"posts", "timezone", "account"}
        if others or "posts" not in content:
            what = f"unknown fields: {', '.join(sorted(map(str, others)))}." if others else "posts: is missing."
            raise InvalidInput(
                "calendar", what, "Write posts: with a list; only account: and timezone: may be beside it."
            )
        timezone, account = content.get("timezone"), content.get("account")
        if timezone is not None and not isinstance(timezone, str):
            raise InvalidInput("calendar", "timezone: the value is not a text.", "Write a name such as Europe/Berlin.")
        content = content["posts"]
    if not isinstance(content, list):
        raise InvalidInput("calendar", "the file is not a list of posts.", "Start each post with a dash.")
    posts = [({"account": account} | each) if account and isinstance(each, dict) else each for each in content]
    return _Written([(f"post {number}", each) for number, each in enumerate(posts, 1)], timezone)


_CELLS = ("account", "at", "expires", "key", "text", "link_card", "quote", "reply_to")
_LISTS = ("languages", "tags", "labels", "replies_from")
_SWITCHES = ("split_long_text", "numbered", "shorten_links", "quotable")
_NUMBERED = re.compile(r"(image|alt)(?: ([1-9][0-9]?))?")


def _from_csv(text: str) -> _Written:
    # Spreadsheets write semicolons in countries that use the comma for decimals.
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip().lower().replace("_", " ") for name in next(rows, [])]
        columns = [name if _NUMBERED.fullmatch(name) else name.replace(" ", "_") for name in columns]
        for name in columns:
            if name not in {*_CELLS, *_LISTS, *_SWITCHES} and not _NUMBERED.fullmatch(name):
                known = ", ".join((*_CELLS, "image", "alt", "image 2", "alt 2", *_LISTS, *_SWITCHES))
                raise InvalidInput("calendar", f"there is no column {name!r}.", f"The columns are {known}.")
        if twice := [name for name, times in Counter(columns).items() if times > 1]:
            raise InvalidInput("calendar", f"the column {twice[0]!r} appears twice.", "Number images: image, image 2.")
        posts = [
            (place, _from_row(columns, row, place))
            for row in rows
            if any(cell.strip() for cell in row) and (place := f"row {rows.line_num}")
        ]
    except csv.Error as damaged:
        raise InvalidInput("calendar", f"row {rows.line_num}: {damaged}.", "Save the file as CSV again.") from None
    return _Written(posts)


def _from_row(columns: list[str], row: list[str], place: str) -> Json | Unusable:
    if len(row) > len(columns):
        return Unusable(place, row[0], f"the row has {len(row)} cells under {len(columns)} columns. Quote texts.")
    fields: Json = {}
    images: dict[int, Json] = {}
    for name, cell in zip(columns, row, strict=False):
        if not cell.strip():
            continue
        if numbered := _NUMBERED.fullmatch(name):
            images.setdefault(int(numbered[2] or 1), {})["source" if numbered[1] == "image" else "alt"] = cell.strip()
        elif name in _LISTS:
            fields[name] = [part.strip() for part in cell.split(",")]
        else:
            fields[name] = cell if name == "text" else cell.strip()
    if images:
        fields["images"] = [images[number] for number in sorted(images)]
    return fields


def _from_markdown(text: str) -> _Written:
    """Read posts, each with front matter and a text. Images are on separate lines."""
    before, *parts = FENCE.split(text)
    if before.strip() or not parts:
        remedy = "Start with a line of three dashes, then account: and at:."
        raise InvalidInput("calendar", "line 1 does not start a front matter.", remedy)
    if len(parts) % 2:
        line = text.count("\n", 0, text.rfind("---")) + 1
        remedy = "Start and end each with a line of three dashes. For a rule within a text, write ***."
        raise InvalidInput("calendar", f"line {line}: the front matter that starts here does not end.", remedy)
    posts: list[tuple[str, Any]] = []
    for number, (matter, body) in enumerate(zip(parts[::2], parts[1::2], strict=True), 1):
        document = _from_document(matter, body, f"post {number}")
        if isinstance(document, Unusable) and posts:
            # The text may belong to the post before.
            place = posts[-1][0]
            posts[-1] = (place, Unusable(place, "", "no front matter follows the text. For a rule, write ***."))
        posts.append((f"post {number}", document))
    return _Written(posts)


def _from_document(matter: str, body: str, place: str) -> Any:
    try:
        fields = yaml_content(matter)
    except yaml.YAMLError:
        fields = None
    if not isinstance(fields, dict):
        return Unusable(place, "", "the front matter is not YAML with fields such as account:. Correct it.")
    body, images = without_images(body)
    written: Json = {"text": body} if body else {}
    if images:
        written["images"] = images
    if twice := written.keys() & fields.keys():
        reason = f"{', '.join(sorted(twice))}: the front matter has it too. Remove it there."
        return Unusable(place, str(fields.get("account", "")), reason)
    return {**fields, **written}


_FORMATS: dict[str, Callable[[str], _Written]] = {
    ".yaml": _from_yaml,
    ".yml": _from_yaml,
    ".json": _from_json,
    ".csv": _from_csv,
    ".md": _from_markdown,
    ".markdown": _from_markdown,
}
