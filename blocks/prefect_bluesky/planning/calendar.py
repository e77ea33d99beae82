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
"""What a calendar may take: a week of a thousand accounts takes a fifth of it."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Unusable:
    """A planned post that cannot be published.

    Args:
        place: where it stands in its calendar, such as `row 12`.
        account: whose it would be, if it says so.
        reason: what is wrong with it: the field and the remedy.
    """

    place: str
    account: str
    reason: str


@dataclass(frozen=True)
class Calendar:
    """What stands in a calendar.

    Args:
        entries: its posts, each with its place.
        timezone: where its times hold, if it says so.
    """

    entries: list[tuple[str, PlannedPost | Unusable]]
    timezone: str | None


def read_calendar(file: File) -> Calendar:
    """Read a calendar.

    A path of an image, a video or captions is meant from where the calendar lies. What is wrong with one post concerns
    that post alone.

    Args:
        file: where it lies. Its name says what it is: .yaml, .yml, .json, .csv, .md or .markdown.

    Raises:
        InvalidInput: it is no calendar; the message names the line and the remedy.
        SourceUnavailable: it cannot be read.

    Example:
        >>> read_calendar(File(source=f"{calendars}/december.yaml")).entries[0]
        ('post 1', PlannedPost(account='alice', ...))
    """
    suffix = PurePosixPath(file.source.partition("?")[0]).suffix.lower()
    if suffix not in _FORMATS:
        raise InvalidInput(
            "calendar", f"{suffix or 'no ending'!r} is none of {', '.join(_FORMATS)}.", "Name the file by what it is."
        )
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
        reason = "its lists are nested too deeply."
    else:
        return planned
    account = fields.get("account") if isinstance(fields, dict) else None
    return Unusable(place, str(account or ""), reason)


# What follows is one function a format.


def _from_yaml(text: str) -> _Written:
    try:
        return _listed(yaml_content(text))
    except yaml.MarkedYAMLError as damaged:
        line = damaged.problem_mark.line + 1 if damaged.problem_mark else 1
        raise InvalidInput("calendar", f"line {line}: {damaged.problem}.", "It is no YAML there.") from None
    except yaml.YAMLError as damaged:
        raise InvalidInput("calendar", f"it is no YAML: {damaged}.", "Check it with a YAML editor.") from None


def _from_json(text: str) -> _Written:
    try:
        return _listed(json.loads(text))
    except json.JSONDecodeError as damaged:
        raise InvalidInput("calendar", f"line {damaged.lineno}: {damaged.msg}.", "It is no JSON there.") from None
    except RecursionError:
        raise InvalidInput("calendar", "its lists are nested too deeply.", "A calendar is a list of posts.") from None
    except ValueError as damaged:  # a number of thousands of digits
        raise InvalidInput("calendar", f"it cannot be read: {damaged}.", "Correct it.") from None


def _listed(content: Any) -> _Written:
    """A list of posts; or one under `posts`, with what holds for all of them beside it."""
    timezone, account = None, None
    if isinstance(content, dict):
        others = content.keys() - {"posts", "timezone", "account"}
        if others or "posts" not in content:
            what = f"nothing is known of {', '.join(sorted(map(str, others)))}." if others else "posts: is missing."
            raise InvalidInput("calendar", what, "Write posts: with a list, and beside it account and timezone.")
        timezone, account = content.get("timezone"), content.get("account")
        if timezone is not None and not isinstance(timezone, str):
            raise InvalidInput("calendar", "timezone: it is no text.", "Write one such as Europe/Berlin.")
        content = content["posts"]
    if not isinstance(content, list):
        raise InvalidInput("calendar", "it is no list of posts.", "Begin each post with a dash, or write posts: first.")
    posts = [({"account": account} | each) if account and isinstance(each, dict) else each for each in content]
    return _Written([(f"post {number}", each) for number, each in enumerate(posts, 1)], timezone)


_CELLS = ("account", "at", "key", "text", "link_card", "quote", "reply_to")
_LISTS = ("languages", "tags", "labels", "replies_from")
_SWITCHES = ("split_long_text", "numbered", "shorten_links", "quotable")
_NUMBERED = re.compile(r"(image|alt)(?: ([1-9][0-9]?))?")


def _from_csv(text: str) -> _Written:
    # Where the comma is for decimals, spreadsheets write semicolons.
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
            raise InvalidInput("calendar", f"the column {twice[0]!r} stands twice.", "Number images: image, image 2.")
        posts = [
            (place, _from_row(columns, row, place))
            for row in rows
            if any(cell.strip() for cell in row) and (place := f"row {rows.line_num}")
        ]
    except csv.Error as damaged:
        raise InvalidInput("calendar", f"row {rows.line_num}: {damaged}.", "Save it as CSV anew.") from None
    return _Written(posts)


def _from_row(columns: list[str], row: list[str], place: str) -> Json | Unusable:
    if len(row) > len(columns):
        return Unusable(place, row[0], f"it has {len(row)} cells under {len(columns)} columns. Put texts in quotes.")
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
    """Front matter, then the text; after it the next post's front matter, and so on. Images on lines of their own."""
    before, *parts = FENCE.split(text)
    if before.strip() or not parts:
        raise InvalidInput(
            "calendar", "line 1 is no front matter.", "Begin with a line of three dashes, then account: and at:."
        )
    if len(parts) % 2:
        line = text.count("\n", 0, text.rfind("---")) + 1
        raise InvalidInput(
            "calendar",
            f"line {line}: it begins a front matter that does not end.",
            "A line of three dashes begins and ends each. For a rule within a text, write ***.",
        )
    posts: list[tuple[str, Any]] = []
    for number, (matter, body) in enumerate(zip(parts[::2], parts[1::2], strict=True), 1):
        document = _from_document(matter, body, f"post {number}")
        if isinstance(document, Unusable) and posts:
            # It may be the rest of the text before it.
            place = posts[-1][0]
            posts[-1] = (place, Unusable(place, "", "after its text stands no front matter. For a rule, write ***."))
        posts.append((f"post {number}", document))
    return _Written(posts)


def _from_document(matter: str, body: str, place: str) -> Any:
    try:
        fields = yaml_content(matter)
    except yaml.YAMLError:
        fields = None
    if not isinstance(fields, dict):
        return Unusable(place, "", "its front matter is no YAML with account:, at: and the like. Correct it.")
    body, images = without_images(body)
    written: Json = {"text": body} if body else {}
    if images:
        written["images"] = images
    if twice := written.keys() & fields.keys():
        return Unusable(
            place, str(fields.get("account", "")), f"{', '.join(sorted(twice))}: it stands in the front matter too."
        )
    return {**fields, **written}


_FORMATS: dict[str, Callable[[str], _Written]] = {
    ".yaml": _from_yaml,
    ".yml": _from_yaml,
    ".json": _from_json,
    ".csv": _from_csv,
    ".md": _from_markdown,
    ".markdown": _from_markdown,
}
