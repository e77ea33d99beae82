"""Understand the tables that other schedulers and spreadsheets export: their names of columns, and their dates.

The names are those of Buffer's and Hootsuite's bulk uploads, of Postiz's posts, and of spreadsheets in a few languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import available_timezones

from prefect_bluesky.errors import InvalidInput

_PHRASES: dict[str, str] = {
    "text": """message, post, content, caption, body, copy, tweet, post text, post content, post message, social copy,
        tweet text, nachricht, beitrag, inhalt, texte, contenu, texto, mensaje, contenido""",
    "at": """when, datetime, schedule, scheduled, posting time, publish date, publish time, publish at, publish on,
        scheduled at, scheduled for, scheduled date, scheduled time, schedule date, schedule time, date time,
        date and time, date & time, post date, post time, due at, publishing date, publication date, release date,
        send at, veröffentlichen am, veröffentlichungsdatum, datum und uhrzeit, fecha y hora, fecha de publicación,
        date et heure, date de publication, data e ora""",
    "date": "date, day, datum, tag, fecha, jour, data",
    "time": "time, hour, uhrzeit, zeit, heure, hora, ora",
    "link_card": "link, url, lien, enlace, link url, post link, website url, destination url",
    "image": """media, picture, photo, bild, foto, imagen, image url, image urls, image link, media url, media urls,
        media link, picture url, photo url, image path""",
    "alt": "alttext, alternativtext, alt text, image alt text, image description, alternative text",
    "account": """profile, handle, konto, compte, cuenta, social profile, profile name, account name, social account""",
}
_UNDERSTOOD = {phrase.strip(): name for name, phrases in _PHRASES.items() for phrase in phrases.split(",")}

_LOCAL = re.compile(r"\s*(\d{1,2})\s*([./-])\s*(\d{1,2})\s*\2\s*(\d{4})\b(.*)", re.DOTALL)
_ISO = re.compile(r"\s*\d{4}-\d\d?-\d\d?\b")
_CLOCK = re.compile(r"\s*\d{1,2}:\d\d\b")
_TIMES = {"at", "date", "time"}
DAY_FIRST, MONTH_FIRST = "day-first", "month-first"


@dataclass(frozen=True)
class Columns:
    """The meanings of a table's columns.

    Attributes:
        names: the names that calendars have, "" for a column that is left out.
        note: how each column was understood, in words; "" if all have the names that calendars have.
        has_header: whether the first row names the columns.
        left_out: the numbers of the columns that have a name, and are left out.
        timezone: the time zone that a column names, or None.
    """

    names: list[str]
    note: str = ""
    has_header: bool = True
    left_out: frozenset[int] = frozenset()
    timezone: str | None = None


def understand(header: Sequence[str], own: Sequence[str], rows: Sequence[Sequence[str]]) -> Columns | None:
    """Return how the columns of an export are understood, or None if the first row is of no export that is known here.

    Args:
        header: the first row.
        own: the names of its columns where calendars have them, else "".
        rows: the other rows.

    Raises:
        InvalidInput: a column holds times, and nothing says what they are.
    """
    if all(name or not cell.strip() for name, cell in zip(own, header, strict=True)):
        return None
    # Hootsuite's bulk upload has no header: date, message, and perhaps a link.
    if len(header) in {2, 3} and (_LOCAL.match(header[0]) or _ISO.match(header[0])):
        return Columns(["at", "text", "link_card"], "no header: time, text and link", has_header=False)
    found = [name or _UNDERSTOOD.get(_plain(cell), "") for name, cell in zip(own, header, strict=True)]
    if "text" not in found or not any(name and name != mine for name, mine in zip(found, own, strict=True)):
        return None
    if "date" not in found:
        found = ["at" if name == "time" and "at" not in found else name for name in found]
    if "posting time" in map(_plain, header):
        # The tags of Buffer are its own, and no hashtags.
        found = ["" if name == "tags" else name for name in found]
    images = iter(["image", *(f"image {number}" for number in range(2, 100))])
    found = [next(images) if name == "image" else name for name in found]
    left_out = frozenset(number for number, name in enumerate(found) if not name and header[number].strip())
    _check_times(header, found, left_out, rows)
    zones = [zone for cell, name in zip(header, found, strict=True) if name in _TIMES and (zone := _zone_in(cell))]
    return Columns(found, _in_words(header, found), left_out=left_out, timezone=next(iter(zones), None))


def _check_times(
    header: Sequence[str], names: Sequence[str], left_out: Iterable[int], rows: Sequence[Sequence[str]]
) -> None:
    """Raise if the time of posts may be in a column that is not understood: posts would go out at once."""
    if "at" in names or {"date", "time"} <= {*names}:
        return
    for number in left_out:
        cells = [row[number] for row in rows if number < len(row) and row[number].strip()]
        if cells and sum(map(_is_time, cells)) > len(cells) / 2:
            what = f"the column {header[number].strip()!r} holds times, and nothing says that posts go out then."
            raise InvalidInput("calendar", what, "Call the column at, or remove it.")


def _is_time(cell: str) -> bool:
    return bool(_LOCAL.match(cell) or _ISO.match(cell) or _CLOCK.match(cell))


def _zone_in(cell: str) -> str | None:
    """Return the time zone that a column's name has in brackets, such as `Scheduled at (UTC)`."""
    found = re.search(r"\(([^)]+)\)", cell)
    return found[1].strip() if found and found[1].strip() in available_timezones() else None


def _plain(cell: str) -> str:
    return re.sub(r"\s*\(.*?\)\s*", " ", cell).strip(" *:").casefold().replace("_", " ").strip()


def _in_words(header: Sequence[str], names: Sequence[str]) -> str:
    used = [f"“{cell.strip()}” is {name}" for cell, name in zip(header, names, strict=True) if name]
    left = [f"“{cell.strip()}”" for cell, name in zip(header, names, strict=True) if not name and cell.strip()]
    return "; ".join([", ".join(used), *([f"left out: {', '.join(left)}"] if left else [])])


def order_of(dates: Iterable[str]) -> str:
    """Return the order of day and month in the dates of a column, or "" if none of them tells.

    Example:
        >>> order_of(["03/04/2026", "03/25/2026"])
        'month-first'
    """
    orders = set()
    for date in dates:
        if found := _LOCAL.match(date):
            first, separator, second = int(found[1]), found[2], int(found[3])
            # Where dates have dots, the day comes first.
            if separator == "." or first > 12:
                orders.add(DAY_FIRST)
            elif second > 12:
                orders.add(MONTH_FIRST)
    return orders.pop() if len(orders) == 1 else ""


def year_first(date: str, order: str) -> str:
    """Return a date with the year first, in front of whatever follows; any other text as it is.

    Raises:
        ValueError: nothing tells the day from the month.

    Example:
        >>> year_first("1.12.2026 08:00", "day-first")
        '2026-12-01 08:00'
    """
    found = _LOCAL.match(date)
    if not found:
        return date
    first, second, year, rest = int(found[1]), int(found[3]), found[4], found[5]
    if not order and first != second:
        raise ValueError(
            f"at: {date.strip()!r} may be month {first} or month {second}. Write the year first, or set dates to"
            f" {DAY_FIRST} or {MONTH_FIRST} (--dates in a shell)."
        )
    month, day = (first, second) if order == MONTH_FIRST else (second, first)
    return f"{year}-{month:02}-{day:02}{rest}"
