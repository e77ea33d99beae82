"""The page that shows what is planned, what went out and what is held: the artifact `bluesky-calendar`."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from prefect_bluesky.prefect_api import escape_markdown, table_cell

if TYPE_CHECKING:
    from PIL import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

State = Literal["planned", "out", "held", "failed"]

AHEAD = timedelta(days=7)
"""How far ahead the page looks."""

BACK = timedelta(days=1)
"""How far back the page looks."""

_COLOURS: dict[State, str] = {"planned": "#b6e3ff", "out": "#aceebb", "held": "#fae17d", "failed": "#ff8182"}
_TABLES: dict[State, tuple[str, str]] = {
    "failed": ("Failed", "why"),
    "held": ("Held", "why"),
    "planned": ("Next", "calendar"),
    "out": ("Went out", "where"),
}
_MOST_ROWS = 40
_HOURS, _CELL, _GAP, _MARGIN, _NAMES, _LINE = 24, 52, 6, 32, 208, 52
"""Pixels, two for each that a screen shows."""

_DARK, _GREY, _EMPTY = "#1f2328", "#59636e", "#f6f8fa"


@dataclass(frozen=True)
class Entry:
    """A post on the page.

    Args:
        at: when the post is due, or was due.
        account: the handle, or another channel's block.
        text: the beginning of the text.
        calendar: the calendar that the post comes from, or "".
        state: what became of the post.
        remark: the reason, or how late the post went out.
        link: the post's page, or "".
    """

    at: datetime
    account: str
    text: str
    calendar: str
    state: State
    remark: str = ""
    link: str = ""

    @property
    def cell(self) -> str:
        """What the last column of its table says."""
        said = table_cell(self.remark or self.calendar)
        return f"[See the post]({self.link}) {table_cell(self.remark)}".rstrip() if self.link else said


def calendar_page(entries: Sequence[Entry], planned: int, now: datetime) -> str:
    """Return the page as Markdown.

    Args:
        entries: the posts of the time that the page shows.
        planned: how many posts are planned for that time; more than the entries have if there are very many.
        now: the time.
    """
    counts = Counter(entry.state for entry in entries)
    said = [f"{planned} planned for the next {AHEAD.days} days", f"{counts['out']} out since yesterday"]
    said += [f"{counts[state]} {state}" for state in ("failed", "held") if counts[state]]
    lines = ["# Bluesky calendar", f"**{', '.join(said)}**, {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC."]
    if not entries:
        lines.append("Plan posts with `publish-batch`: give it a calendar, or posts with a time.")
        return "\n\n".join(lines) + "\n"
    data = b64encode(picture(entries, now)).decode()
    lines.append(f"![Posts by day and hour, in UTC](data:image/png;base64,{data})")
    for state, (title, last) in _TABLES.items():
        # What is next and what went out last come first.
        some = sorted(
            (each for each in entries if each.state == state), key=lambda each: each.at, reverse=state == "out"
        )
        if some:
            lines += [f"## {title}", _table(some, last)]
    return "\n\n".join(lines) + "\n"


def _table(entries: Sequence[Entry], last: str) -> str:
    rows = [
        f"| {entry.at.astimezone(UTC):%a\N{NO-BREAK SPACE}%d\N{NO-BREAK SPACE}%b\N{NO-BREAK SPACE}%H:%M} |"
        f" {entry.account} | {escape_markdown(entry.text)} | {entry.cell} |"
        for entry in entries[:_MOST_ROWS]
    ]
    more = [f"\nAnd {len(entries) - _MOST_ROWS} more."] if len(entries) > _MOST_ROWS else []
    return "\n".join([f"| UTC | account | post | {last} |", "|---|---|---|---|", *rows, *more])


def picture(entries: Sequence[Entry], now: datetime) -> bytes:
    """Return a PNG with a row for each day and a cell for each hour, in UTC, with the number of posts."""
    from PIL import Image, ImageDraw, ImageFont  # only pages need it

    first = (now - BACK).astimezone(UTC).date()
    days = (now + AHEAD).astimezone(UTC).date() - first
    cells: dict[tuple[int, int], Counter[State]] = {}
    for entry in entries:
        at = entry.at.astimezone(UTC)
        if 0 <= (day := (at.date() - first).days) <= days.days:
            cells.setdefault((day, at.hour), Counter())[entry.state] += 1
    font, small = ImageFont.load_default(30), ImageFont.load_default(26)
    width = _MARGIN + _NAMES + _HOURS * (_CELL + _GAP) + _MARGIN
    height = _MARGIN + _LINE + (days.days + 1) * (_CELL + _GAP) + _LINE + _MARGIN
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for hour in range(0, _HOURS, 3):
        draw.text((_MARGIN + _NAMES + hour * (_CELL + _GAP), _MARGIN), f"{hour:02}:00", font=small, fill=_GREY)
    for day in range(days.days + 1):
        y = _MARGIN + _LINE + day * (_CELL + _GAP)
        draw.text(
            (_MARGIN, y + _CELL / 2), f"{first + timedelta(days=day):%a %d %b}", font=font, fill=_DARK, anchor="lm"
        )
        for hour in range(_HOURS):
            x = _MARGIN + _NAMES + hour * (_CELL + _GAP)
            box = (x, y, x + _CELL, y + _CELL)
            _cell(draw, box, cells.get((day, hour), Counter()), small)
            if day == BACK.days and hour == now.astimezone(UTC).hour:
                draw.rounded_rectangle(box, radius=6, outline=_DARK, width=4)
    _legend(draw, height - _MARGIN - _CELL / 2, small)
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _cell(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], found: Counter[State], font: Font) -> None:
    """Draw the number of posts of an hour, over stripes as wide as each state's share."""
    left, top, right, bottom = box
    if not found:
        draw.rounded_rectangle(box, radius=6, fill=_EMPTY)
        return
    shares = {state: found[state] for state in _COLOURS if found[state]}
    # A single failed post among a hundred is seen, too.
    widths = {state: max(0.15, share / found.total()) for state, share in shares.items()}
    x, total = float(left), sum(widths.values())
    for state, width in widths.items():
        end = x + (right - left) * width / total
        draw.rectangle((x, top, end, bottom), fill=_COLOURS[state])
        x = end
    middle = ((left + right) / 2, (top + bottom) / 2)
    draw.text(middle, str(found.total()), font=font, fill=_DARK, anchor="mm")


def _legend(draw: ImageDraw.ImageDraw, y: float, font: Font) -> None:
    x = float(_MARGIN + _NAMES)
    for state, colour in _COLOURS.items():
        draw.rounded_rectangle((x, y, x + 24, y + 24), radius=6, fill=colour)
        draw.text((x + 36, y + 12), state, font=font, fill=_GREY, anchor="lm")
        x += 200
    draw.rounded_rectangle((x, y, x + 24, y + 24), radius=6, outline=_DARK, width=4)
    draw.text((x + 36, y + 12), "this hour", font=font, fill=_GREY, anchor="lm")
