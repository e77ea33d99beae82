"""Files of planned posts: YAML, JSON, CSV, or Markdown with front matter."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media import FENCE, File, read_file, read_markdown, resolve_files, yaml_content
from prefect_bluesky.planning.exports import Columns, order_of, understand, year_first
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.posts import Post
from prefect_bluesky.prefect_api import file_name
from prefect_bluesky.validation import explain_validation_error, nearest

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
    """The posts of a calendar, each with its place, and the calendar's time zone, name and slots, if it has them.

    The note says how the columns of an export were understood.
    """

    entries: list[tuple[str, PlannedPost | Unusable]]
    timezone: str | None = None
    name: str = ""
    slots: str = ""
    jitter: int = 0
    note: str = ""


def read_calendar(file: File, *, account: str = "", dates: str = "") -> Calendar:
    """Read a calendar, whose suffix names the format: .yaml, .yml, .json, .csv, .md or .markdown.

    Args:
        file: the calendar.
        account: the account of posts that name none.
        dates: the order of day and month in a CSV: `day-first` or `month-first`. If empty, the dates have to tell.

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
        what = f"{file_name(file.source)} ends with none of {', '.join(_FORMATS)}."
        raise InvalidInput("calendar", what, "Give the file the suffix of its format.")
    data = read_file(file, "calendar", max_bytes=MAX_BYTES)
    try:
        # Excel's “Unicode text” is UTF-16.
        is_utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as broken:
        line = data.count(b"\n", 0, broken.start) + 1
        raise InvalidInput("calendar", f"line {line} is not UTF-8.", "Save the file as UTF-8.") from None
    written = _from_csv(text, dates) if suffix == ".csv" else _FORMATS[suffix](text)
    posts = [(place, _planned(place, _of_account(fields, account), file)) for place, fields in written.posts]
    return Calendar(posts, written.timezone, written.name, written.slots, written.jitter, written.note)


@dataclass(frozen=True)
class _Written:
    posts: list[tuple[str, Any]]
    timezone: str | None = None
    name: str = ""
    slots: str = ""
    jitter: int = 0
    note: str = ""


def _of_account(fields: Any, account: str) -> Any:
    return {"account": account} | fields if account and isinstance(fields, dict) else fields


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
    return _listed(yaml_content(text, "calendar"))


def _from_json(text: str) -> _Written:
    try:
        return _listed(json.loads(text, object_pairs_hook=_object))
    except json.JSONDecodeError as damaged:
        raise InvalidInput("calendar", f"line {damaged.lineno}: {damaged.msg}.", "Correct the JSON there.") from None
    except RecursionError:
        raise InvalidInput("calendar", "the lists are nested too deeply.", "Write one list of posts.") from None
    except ValueError as damaged:  # a number of thousands of digits
        raise InvalidInput("calendar", f"the file cannot be read: {damaged}.", "Correct the JSON.") from None


def _object(pairs: list[tuple[str, Any]]) -> Json:
    """Return an object of JSON, which has each name once."""
    names = Counter(name for name, _ in pairs)
    name, times = names.most_common(1)[0] if pairs else ("", 0)
    if times > 1:
        first = next(value for each, value in pairs if each == name)
        what = f"{name!r} is there {times} times in one object, first with {str(first)[:40]!r}."
        raise InvalidInput("calendar", what, "Write each post as an object of its own, or remove one of them.")
    return dict(pairs)


def _listed(content: Any) -> _Written:
    """Return the posts of a list, or of a mapping with `posts` and what may be beside them."""
    timezone, account, name, slots, jitter = None, None, "", "", 0
    if isinstance(content, dict):
        others = content.keys() - {"posts", *_BESIDE}
        if others or "posts" not in content:
            what = f"unknown fields: {', '.join(sorted(map(str, others)))}." if others else "posts: is missing."
            raise InvalidInput("calendar", what, f"Write posts: with a list. Beside it may be {', '.join(_BESIDE)}.")
        timezone, account, name = content.get("timezone"), content.get("account"), str(content.get("name") or "")
        slots = "; ".join(map(str, found)) if isinstance(found := content.get("slots") or "", list) else str(found)
        if timezone is not None and not isinstance(timezone, str):
            raise InvalidInput("calendar", "timezone: the value is not a text.", "Write a name such as Europe/Berlin.")
        jitter = _minutes(content.get("jitter", 0))
        content = content["posts"]
    if not content:
        raise InvalidInput("calendar", "there are no posts in the file.", "Write a list of posts.")
    if not isinstance(content, list):
        raise InvalidInput("calendar", "the file is not a list of posts.", "Start each post with a dash.")
    posts = [({"account": account} | each) if account and isinstance(each, dict) else each for each in content]
    for number, (post, following) in enumerate(pairwise(posts), 1):
        if isinstance(post, dict) and not _is_entry(following):
            # The text of a post may have a list in it.
            what = f"post {number + 1} is no post, and may belong to this one. Put the whole text in quotes."
            posts[number - 1] = Unusable("", str(post.get("account") or ""), what)
    return _Written([(f"post {number}", each) for number, each in enumerate(posts, 1)], timezone, name, slots, jitter)


_BESIDE = ("name", "account", "timezone", "slots", "jitter")


def _minutes(written: Any) -> int:
    if isinstance(written, bool) or not str(written).strip().isdecimal():
        raise InvalidInput("calendar", f"jitter: {written!r} is no number.", "Write minutes, such as jitter: 15.")
    return int(written)


def _is_entry(entry: Any) -> bool:
    """Return whether an entry has the form of a post: an account or a content, and no prose with a colon in it."""
    if not isinstance(entry, dict):
        return False
    names = list(map(str, entry))
    return any(name in _OF_A_POST for name in names) and not any(len(name.split()) > 1 for name in names)


_CELLS = ("account", "at", "expires", "repeat", "until", "key", "text", "link_card", "quote", "reply_to")
_LISTS = ("languages", "tags", "labels", "replies_from")
_SWITCHES = ("split_long_text", "numbered", "shorten_links", "quotable")
_OF_A_POST = {"account", "post", "text", "thread", "images", "video", "link_card", "quote"}
"""The fields without which there is no post."""

_FIELDS = {*PlannedPost.model_fields, *Post.model_fields}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_LISTED = re.compile(r"[,;\n]|\s+(?=[#＃])")
_TIMES = ("at", "expires", "until", "date")
_SEVERAL_URLS = re.compile(r"[\s,;|]+(?=https?://)")
_NUMBERED = re.compile(r"(image|alt)(?: ([1-9][0-9]?))?")


_SEPARATORS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"sep=(.)[ \t]*(?:\r\n|\r|\n|$)", re.IGNORECASE)
"""The first line by which Excel is told the separator."""


def _from_csv(text: str, dates: str = "") -> _Written:
    if told := _SEPARATOR_LINE.match(text):
        separator, text, first = told[1], text[told.end() :], 2
    else:
        separator, first = _separator_of(text), 1
    rows = [(number, row) for number, row in _rows(text, separator, first) if any(map(str.strip, row))]
    (_, header), *others = rows or [(first, [])]
    own = [name if _is_column(name) else "" for name in map(_column, header)]
    understood = understand(header, own, [row for _, row in others]) or Columns(_columns(header))
    if not understood.has_header:
        others = rows
    named = [(number, dict(zip(understood.names, row, strict=False)), row) for number, row in others]
    order = dates or order_of(cells.get(name, "") for _, cells, _ in named for name in _TIMES)
    posts: list[tuple[str, Any]] = []
    for number, _, row in named:
        place = f"row {number}"
        try:
            posts.append((place, _from_row(understood, row, place, order)))
        except ValueError as unclear:
            posts.append((place, Unusable(place, _account_in(understood.names, row), str(unclear))))
    whole = 0
    for index, (number, row) in enumerate(others):
        begins = understood.note or _NAME.fullmatch(row[0].strip())
        if len(row) >= len(header) or (len(row) > 1 and begins):
            whole = index
        elif whole < index:
            # A text with a line break that is not in quotes goes on here.
            what = f"row {number} has fewer cells, and may belong to this one. Put a text of several lines in quotes."
            account = _account_in(understood.names, others[whole][1])
            posts[whole] = (posts[whole][0], Unusable("", account, what))
    return _Written(posts, timezone=understood.timezone, note=understood.note)


def _account_in(names: Sequence[str], row: Sequence[str]) -> str:
    """Return the account of a row, or "" if the row may have its cells in other columns than they belong to."""
    found = dict(zip(names, row, strict=False)).get("account", "").strip()
    return found if len(row) <= len(names) else ""


def _rows(text: str, separator: str, first: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows with their numbers, as a spreadsheet counts them: a cell may have several lines."""
    # Lines may end in CR, too.
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    for number in count(first):
        try:
            row = next(rows, None)
        except csv.Error as damaged:
            is_open = "unexpected end of data" in str(damaged)
            reason = "a text begins with a quote, and no quote ends it" if is_open else str(damaged)
            remedy = "Write a quote within a text twice, or save the file as CSV again."
            raise InvalidInput("calendar", f"row {number}: {reason}.", remedy) from None
        if row is None:
            return
        yield number, row


def _separator_of(text: str) -> str:
    """Return what separates the columns: that with which most names in the header are known.

    Spreadsheets write semicolons in countries that use the comma for decimals.
    """
    header = next((line for line in text.splitlines() if line.strip(f"{_SEPARATORS} ")), "")

    def known(separator: str) -> int:
        cells = next(csv.reader([header], delimiter=separator))
        return sum(_is_column(_column(cell)) for cell in cells)

    return max(_SEPARATORS, key=lambda each: (known(each), header.count(each)))


def _column(cell: str) -> str:
    """Return the name of a column, as `_CELLS` and the others have it."""
    name = " ".join(cell.strip().lower().replace("_", " ").split())
    return name if _NUMBERED.fullmatch(name) else name.replace(" ", "_")


def _is_column(name: str) -> bool:
    return name in {*_CELLS, *_LISTS, *_SWITCHES} or _NUMBERED.fullmatch(name) is not None


def _columns(header: list[str]) -> list[str]:
    columns = [_column(cell) for cell in header]
    while columns and not columns[-1]:
        columns.pop()
    for name in filter(None, columns):
        if not _is_column(name):
            known = ", ".join((*_CELLS, "image", "alt", "image 2", "alt 2", *_LISTS, *_SWITCHES))
            near = nearest(name, [*_CELLS, "image", "alt", *_LISTS, *_SWITCHES])
            remedy = f"Did you mean {near}?" if near else f"The columns are {known}."
            raise InvalidInput("calendar", f"there is no column {name!r}.", remedy)
    if twice := [name for name, times in Counter(columns).items() if name and times > 1]:
        raise InvalidInput("calendar", f"the column {twice[0]!r} appears twice.", "Number images: image, image 2.")
    return columns


def _from_row(columns: Columns, row: list[str], place: str, order: str) -> Json | Unusable:
    names = columns.names
    beyond = [
        cell
        for number, cell in enumerate(row)
        if cell.strip() and not "".join(names[number : number + 1]) and number not in columns.left_out
    ]
    if beyond:
        reason = f"{beyond[0][:40]!r} is in no column that has a name. Quote texts with a separator in them."
        return Unusable(place, _account_in(names, row), reason)
    fields: Json = {}
    images: dict[int, Json] = {}
    for name, cell in zip(names, row, strict=False):
        if not cell.strip() or not name or name in fields:
            continue
        if numbered := _NUMBERED.fullmatch(name):
            images.setdefault(int(numbered[2] or 1), {})["source" if numbered[1] == "image" else "alt"] = cell.strip()
        elif name in _LISTS:
            fields[name] = [part.strip() for part in _LISTED.split(cell) if part.strip()]
        elif name in _TIMES:
            fields[name] = year_first(cell.strip(), order)
        else:
            fields[name] = cell if name == "text" else cell.strip()
    date, clock = fields.pop("date", ""), fields.pop("time", "")
    if date and "at" not in fields:
        fields["at"] = f"{date} {clock}".strip()
    if images:
        fields["images"] = [each for number in sorted(images) for each in _each_image(images[number])]
    return fields


def _each_image(image: Json) -> list[Json]:
    """Return the images of a cell, which may have several URLs."""
    sources = _SEVERAL_URLS.split(str(image.get("source", "")))
    return [image] if len(sources) < 2 else [{**image, "source": source} for source in sources]


def _from_markdown(text: str) -> _Written:
    """Read posts, each with front matter and a text."""
    before, *parts = FENCE.split(text)
    if before.strip() or not parts:
        remedy = "Start with a line of three dashes, then account: and at:."
        raise InvalidInput("calendar", "line 1 does not start a front matter.", remedy)
    if len(parts) % 2:
        line = text.count("\n", 0, text.rfind("---")) + 1
        remedy = "Start and end each with a line of three dashes. For a rule within a text, write ***."
        raise InvalidInput("calendar", f"line {line}: the front matter that starts here does not end.", remedy)
    posts: list[tuple[str, Any]] = []
    line = before.count("\n") + 1
    for number, (matter, body) in enumerate(zip(parts[::2], parts[1::2], strict=True), 1):
        place = f"post {number}"
        try:
            posts.append((place, _from_document(matter, body, line)))
        except InvalidInput as unusable:
            posts.append((place, Unusable(place, "", str(unusable))))
        if posts[:-1] and not _HAS_FIELD.search(matter):
            # The text may belong to the post before.
            last = posts[-2][0]
            reason = f"line {line}: no front matter follows the text. For a rule, write ***."
            posts[-2] = (last, Unusable(last, "", reason))
        line += matter.count("\n") + body.count("\n")
    return _Written(posts)


_HAS_FIELD = re.compile(rf"^[ \t]*(?:{'|'.join(sorted(_FIELDS))})[ \t]*:", re.MULTILINE)


def _from_document(matter: str, body: str, line: int) -> Any:
    fields = yaml_content(matter, "front matter", first_line=line) if _HAS_FIELD.search(matter) else None
    if not isinstance(fields, dict):
        raise InvalidInput("front matter", f"line {line} begins none.", "Write fields such as account: and at:.")
    said = read_markdown(body, for_post=True)
    written: Json = {"text": said.text} if said.text else {}
    if said.images:
        written["images"] = said.images
    if twice := written.keys() & fields.keys():
        reason = f"{', '.join(sorted(twice))}: the front matter has it too. Remove it there."
        return Unusable("", str(fields.get("account", "")), reason)
    return {**fields, **written}


_FORMATS: dict[str, Callable[[str], _Written]] = {
    ".yaml": _from_yaml,
    ".yml": _from_yaml,
    ".json": _from_json,
    ".csv": _from_csv,
    ".md": _from_markdown,
    ".markdown": _from_markdown,
}
