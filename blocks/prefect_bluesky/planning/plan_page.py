"""Show what would become of a calendar's posts: the lines of a table, and the artifact `bluesky-batch-preview`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from prefect_bluesky.planning.comparison import Fate, Row
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.planned_run import PlannedRun
from prefect_bluesky.prefect_api import escape_markdown, shorten

Sign = Literal["+", "~", "-", "!"]

MOST = 500
"""Lines of the artifact."""

_SIGNS: dict[Fate, Sign] = {"publish": "+", "plan": "+", "change": "~", "remove": "-"}
_WORDS = {"+": "to add", "~": "to change", "-": "to remove", "!": "left alone"}

_UNBROKEN = str.maketrans(" -", "\N{NO-BREAK SPACE}\N{NON-BREAKING HYPHEN}")

_NOTES: dict[Fate, str] = {
    "edited": "a person has changed it; {overwrite} brings it in line",
    "cancelled": "a person has cancelled it; {overwrite} plans it again",
    "expired": "it has expired",
    "too late": "its time has passed long ago; correct the time",
}


@dataclass(frozen=True)
class PlanLine:
    """A post that is not simply unchanged.

    Attributes:
        sign: `+` is added, `~` is changed, `-` is removed, `!` is left alone.
        when: the post's time, or `now`.
        account: the account's block, or its handle.
        text: the beginning of the text.
        place: where the post stands in the calendar, or "".
        note: what changes, or why the post is left alone.
    """

    sign: Sign
    when: str
    account: str
    text: str
    place: str
    note: str


def plan_lines(rows: Iterable[Row], switch: str = "`{}`") -> Iterator[PlanLine]:
    """Yield a line for each post that is added, changed, removed, or left alone for a reason.

    Args:
        rows: what would become of each post.
        switch: how an option is written where the lines are read, such as `--{}` in a shell.
    """
    for row in rows:
        note = _note(row, switch)
        sign = _SIGNS.get(row.fate)
        if sign is None and not note:
            continue
        planned, run = row.planned, row.run
        written = planned.post.text if planned else run.text if run else ""
        yield PlanLine(
            sign=sign or "!",
            when=_when(row),
            account=planned.account if planned else (run.name.partition(" · ")[0] if run else ""),
            text=shorten(written),
            place=row.place,
            note=note,
        )


def plan_page(rows: Sequence[Row], summary: str) -> str:
    """Return what would be done as a page of Markdown."""
    lines = list(plan_lines(rows))
    page = [f"# {summary}", "Nothing was sent, and nothing was changed."]
    for sign, words in _WORDS.items():
        some = [line for line in lines if line.sign == sign]
        if some:
            page += [f"## {words.capitalize()}", _table(some[:MOST])]
        if len(some) > MOST:
            page.append(f"And {len(some) - MOST:,} more.")
    return "\n\n".join(page) + "\n"


def _table(lines: Iterable[PlanLine]) -> str:
    cells = [
        f"| `{line.sign}` | {line.when.translate(_UNBROKEN)} | {line.account} | {escape_markdown(line.text)} |"
        f" {escape_markdown(line.note)} | {line.place} |"
        for line in lines
    ]
    return "\n".join(["| | when | account | post | | place |", "|---|---|---|---|---|---|", *cells])


def _when(row: Row) -> str:
    if row.fate == "publish":
        return "now"
    at = row.planned.at if row.planned else row.run and row.run.at
    return shown_time(at) if at else "now"


def shown_time(at: datetime) -> str:
    """Return a time as a person reads it, such as `Tue 2026-12-01 08:00 CET`."""
    return f"{at:%a %Y-%m-%d %H:%M} {at.tzname() or 'UTC'}"


def _note(row: Row, switch: str) -> str:
    overwrite = switch.format("overwrite")
    changes = ", ".join(row.changes)
    match row.fate:
        case "change" if row.run and row.planned:
            return ", ".join(_what_changed(row.run, row.planned, row.changes))
        case "edited" if row.run:
            what = changes.replace("text", f"text: “{shorten(row.run.text)}”")
            return f"{_NOTES['edited'].format(overwrite=overwrite)} ({what})"
        case "out" if row.changes:
            return f"it is out; the change comes too late ({changes})"
        case "held":
            return f"held: {row.run.message if row.run else ''}" + (f" To change: {changes}." if changes else "")
        case "left":
            return f"the calendar no longer has it, and it still goes out; {switch.format('prune')} removes it"
        case fate:
            return _NOTES.get(fate, "").format(overwrite=overwrite)


def _what_changed(run: PlannedRun, planned: PlannedPost, names: Iterable[str]) -> Iterator[str]:
    """Yield the changed fields, each with what it was if that is short."""
    for name in names:
        match name:
            case "time" if run.at:
                yield f"time (was {shown_time(run.at.astimezone(planned.at.tzinfo if planned.at else UTC))})"
            case "text":
                yield f"text (was “{shorten(run.text)}”)"
            case "account":
                yield f"account (was {run.name.partition(' · ')[0]})"
            case _:
                yield name
