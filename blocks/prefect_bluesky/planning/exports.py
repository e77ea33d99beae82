"""Understand the tables that other schedulers and spreadsheets export: their names of columns, and their dates.

The names are those of Buffer's and Hootsuite's bulk uploads, of Postiz's posts, and of spreadsheets in a few languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PHRASES: dict[str, str] = {
    "text": """message, post, content, caption, body, copy, tweet, post text, post content, post message, social copy,
        tweet text, nachricht, beitrag, inhalt, texte, contenu, texto, mensaje, contenido""",
    "at": """when, datetime, schedule, scheduled, posting time, publish date, publish time, publish at, publish on,
        scheduled at, scheduled for, scheduled date, scheduled time, schedule date, schedule time, date time,
        date and time, date & time, post date, post time, due at, publishing date, release date, send at,
        veröffentlichen am, fecha de publicación, date de publication""",
    "date": "date, datum, fecha, data",
    "time": "time, uhrzeit, zeit, heure, hora",
    "link_card": "link, url, lien, enlace, link url, post link, website url, destination url",
    "image": """media, picture, photo, bild, foto, imagen, image url, image urls, image link, media url, media urls,
        media link, picture url, photo url, image path""",
    "alt": "alttext, alternativtext, alt text, image alt text, image description, alternative text",
    "account": """profile, handle, konto, compte, cuenta, social profile, profile name, account name, social account""",
}
_UNDERSTOOD = {phrase.strip(): name for name, phrases in _PHRASES.items() for phrase in phrases.split(",")}

_LOCAL = re.compile(r"\s*(\d{1,2})\s*([./-])\s*(\d{1,2})\s*\2\s*(\d{4})\b(.*)", re.DOTALL)
_ISO = re.compile(r"\s*\d{4}-\d\d?-\d\d?\b")
DAY_FIRST, MONTH_FIRST = "day-first", "month-first"


@dataclass(frozen=True)
class Columns:
    """How the columns of a table are understood.

    Attributes:
        names: the names that calendars have, "" for a column that is left out.
        note: how each column was understood, in words; "" if all have the names that calendars have.
        has_header: whether the first row names the columns.
    """

    names: list[str]
    note: str = ""
    has_header: bool = True


def understand(header: Sequence[str], own: Sequence[str]) -> Columns | None:
    """Return how the columns of an export are understood, or None if the first row is of no export that is known here.

    Args:
        header: the first row.
        own: the names of its columns where calendars have them, else "".
    """
    if all(name or not cell.strip() for name, cell in zip(own, header, strict=True)):
        return None
    # Hootsuite's bulk upload has no header: date, message, link.
    if len(header) in {2, 3} and (_LOCAL.match(header[0]) or _ISO.match(header[0])):
        names = ["at", "text", "link_card"][: len(header)]
        return Columns(names, "no header: time, text and link", has_header=False)
    found = [name or _UNDERSTOOD.get(_plain(cell), "") for name, cell in zip(own, header, strict=True)]
    if "text" not in found or not any(name and name != mine for name, mine in zip(found, own, strict=True)):
        return None
    if "at" in found:
        found = ["" if name in {"date", "time"} else name for name in found]
    elif "date" in found and "time" not in found:
        found = ["at" if name == "date" else name for name in found]
    if "posting_time" in {_plain(cell).replace(" ", "_") for cell in header}:
        # The tags of Buffer are its own, and no hashtags.
        found = ["" if name == "tags" else name for name in found]
    found = [name if name not in found[:number] else "" for number, name in enumerate(found)]
    return Columns(found, _in_words(header, found))


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
            f"at: {date.strip()!r} may be month {first} or month {second}. Write the year first, or say which order"
            f" the dates have: {DAY_FIRST} or {MONTH_FIRST}."
        )
    month, day = (first, second) if order == MONTH_FIRST else (second, first)
    return f"{year}-{month:02}-{day:02}{rest}"
