"""The results of the accounts' checks, and the page that shows them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.prefect_api import table_cell
from prefect_bluesky.problems import AuthProblem

if TYPE_CHECKING:
    from PIL import ImageDraw

State = Literal["well", "not due", "stopped", "not reached", "unusable"]

_COLOURS: dict[State | None, str] = {
    "well": "#2da44e",
    "not due": "#aceebb",
    "stopped": "#cf222e",
    "not reached": "#d4a72c",
    "unusable": "#8250df",
    None: "#eaeef2",
}
_MEANINGS: dict[State, str] = {
    "well": "well",
    "not due": "not due: well when last asked",
    "stopped": "stopped: needs a person",
    "not reached": "not reached: tried again",
    "unusable": "unusable block",
}
_MOST_ROWS = 40
_CELL, _GAP, _MARGIN, _LINE = 16, 4, 16, 24

_EACH = 3
"""The checks from one time on the axis to the next: a time is about two columns wide."""


class AccountHealth(BaseModel):
    """The result of an account's check. Safe to log and to show."""

    model_config = ConfigDict(frozen=True)

    account: str = Field(description="The block's handle or DID; the block's name if the block cannot be read.")
    block: str = Field(description="The name of the saved block.")
    did: str | None = Field(default=None, description="The account's DID, if it is known.")
    expires_at: datetime | None = Field(default=None, description="When the access token expires.")
    state: State = Field(
        description="The account can publish, could when last asked, needs a person, or was not reached."
    )
    problem: AuthProblem | None = Field(default=None, description="The cause, if the account cannot publish.")
    remark: str = Field(default="", description="The remedy.")

    def row(self) -> dict[str, str]:
        """Return the account as a table row."""
        return {
            "account": self.account,
            "DID": self.did or "",
            "expiry": f"{self.expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if self.expires_at else "",
            "state": self.state,
            "problem": self.problem.value if self.problem else "",
            "what to do": self.remark,
            "block": self.block,
        }


@dataclass(frozen=True)
class Check:
    """A check of all accounts.

    Args:
        at: when the check was made.
        states: the states that the check found, by block name.
    """

    at: datetime
    states: Mapping[str, State]


def status_page(accounts: Sequence[AccountHealth], past: Sequence[Check], now: datetime) -> str:
    """Return the status page as Markdown. `past` holds earlier checks, oldest first."""
    if not accounts:
        return "# Bluesky accounts\n\nNo account is saved yet: save a Bluesky Credentials block.\n"
    well = [account for account in accounts if account.state in {"well", "not due"}]
    troubled = [account for account in accounts if account.state not in {"well", "not due"}]
    who = f"{len(well)} of {len(accounts)} accounts" if troubled else "All accounts"
    all_asked = all(account.state == "well" for account in well)
    verdict = f"{who} {'are well' if all_asked else 'were well when they were last asked'}"
    lines = ["# Bluesky accounts", f"**{verdict}**, {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC."]
    if troubled:
        rows = [
            f"| {account.account} | {account.state} | {account.problem or ''} | {table_cell(account.remark)} |"
            for account in troubled
        ]
        lines.append("\n".join(["| account | state | problem | what to do |", "|---|---|---|---|", *rows]))
    shown = [*troubled, *well][:_MOST_ROWS]
    history = [*past, Check(now, {account.block: account.state for account in accounts})]
    data = b64encode(picture(shown, history)).decode()
    lines.append(f"![The last {len(history)} checks of {len(shown)} accounts](data:image/png;base64,{data})")
    if len(shown) < len(accounts):
        lines.append(f"The other {len(accounts) - len(shown)} accounts are in the table `bluesky-sessions`.")
    return "\n\n".join(lines) + "\n"


def picture(accounts: Sequence[AccountHealth], history: Sequence[Check]) -> bytes:
    """Return a PNG with a row for each account and a column for each check, the latest on the right."""
    from PIL import Image, ImageDraw, ImageFont  # only this page needs it

    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    names = 2 * _MARGIN + max(font.getlength(account.account) for account in accounts)
    legend = sum(_CELL + 8 + small.getlength(text) + 20 for text in _MEANINGS.values())
    width = int(max(names + len(history) * (_CELL + _GAP), legend) + 2 * _MARGIN)
    height = _MARGIN + len(accounts) * _LINE + 2 * _LINE + _MARGIN
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for index, account in enumerate(accounts):
        y = _MARGIN + index * _LINE
        draw.text((_MARGIN, y), account.account, font=font, fill="#1f2328")
        for column, check in enumerate(history):
            _square(draw, names + column * (_CELL + _GAP), y, check.states.get(account.block))
    y = _MARGIN + len(accounts) * _LINE
    draw.text((_MARGIN, y), "UTC", font=small, fill="#59636e")
    # The latest check always has its time.
    for column in range(len(history) - 1, -1, -_EACH):
        x = names + column * (_CELL + _GAP) + _CELL / 2
        draw.text((x, y), f"{history[column].at.astimezone(UTC):%H:%M}", font=small, fill="#59636e", anchor="ma")
    x, y = float(_MARGIN), y + _LINE + 6
    for state, meaning in _MEANINGS.items():
        _square(draw, x, y, state)
        draw.text((x + _CELL + 8, y), meaning, font=small, fill="#59636e")
        x += _CELL + 8 + small.getlength(meaning) + 20
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _square(draw: ImageDraw.ImageDraw, x: float, y: float, state: State | None) -> None:
    draw.rounded_rectangle((x, y, x + _CELL, y + _CELL), radius=3, fill=_COLOURS[state])
    # Marks help people who cannot distinguish red from green.
    if state in {"stopped", "unusable"}:
        draw.line((x + 5, y + 5, x + _CELL - 5, y + _CELL - 5), fill="white", width=2)
        draw.line((x + 5, y + _CELL - 5, x + _CELL - 5, y + 5), fill="white", width=2)
    elif state == "not reached":
        draw.line((x + 4, y + _CELL / 2, x + _CELL - 4, y + _CELL / 2), fill="white", width=2)
