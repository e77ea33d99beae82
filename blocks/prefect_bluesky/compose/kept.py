"""Keep the drafts and decisions of a `compose` run for its retries.

A note is written once, so if two attempts run at the same time, the first one counts.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from prefect_bluesky.compose.plan import PLANNED_VARIANTS, PlannedVariant
from prefect_bluesky.prefect_api import load_note, save_note


def kept_drafts(channel: str) -> list[PlannedVariant] | None:
    """Return the drafts that are kept for a channel's block; None if there are none yet."""
    return _load(_drafts_of(channel))


def keep_drafts(channel: str, drafts: list[PlannedVariant]) -> list[PlannedVariant]:
    """Keep the drafts for a channel's block, and return the kept ones."""
    return _save(_drafts_of(channel), drafts)


def kept_approved() -> list[PlannedVariant]:
    """Return the decisions of earlier attempts of this run; of two decisions the first counts."""
    found: dict[str, PlannedVariant] = {}
    for key in map(_approved, count(1)):
        kept = _load(key)
        if kept is None:
            break
        found = {each.key: each for each in kept} | found
    return list(found.values())


def keep_approved(approved: list[PlannedVariant]) -> list[PlannedVariant]:
    """Keep the approved variants with their times, and return the kept ones."""
    if not approved:
        return approved
    return _save(next(key for key in map(_approved, count(1)) if _load(key) is None), approved)


def _drafts_of(channel: str) -> str:
    return f"drafted-{channel.replace('/', '--')}"


def _approved(number: int) -> str:
    return f"approved-{number}"


def _save(key: str, variants: list[PlannedVariant]) -> list[PlannedVariant]:
    save_note(key, PLANNED_VARIANTS.dump_python(variants, mode="json"))
    return _load(key) or variants


def _load(key: str) -> list[PlannedVariant] | None:
    kept: Any = load_note(key)
    return None if kept is None else PLANNED_VARIANTS.validate_python(kept)
