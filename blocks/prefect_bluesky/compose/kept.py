"""What a run of `compose` has drafted and what a person has decided, for when the run is tried again.

Of two attempts at a time the first one's counts: notes are written once.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from prefect_bluesky.compose.plan import PLANNED_VARIANTS, PlannedVariant
from prefect_bluesky.prefect_api import load_note, save_note


def kept_drafts(channel: str) -> list[PlannedVariant] | None:
    """What was drafted for a channel; None if nothing was yet.

    Args:
        channel: the block of the channel.
    """
    return _kept(_drafts_of(channel))


def keep_drafts(channel: str, drafted: list[PlannedVariant]) -> list[PlannedVariant]:
    """Keep what was drafted for a channel; what is kept.

    Args:
        channel: the block of the channel.
        drafted: its variants.
    """
    return _keep(_drafts_of(channel), drafted)


def kept_approved() -> list[PlannedVariant]:
    """What was decided in earlier attempts of this run; of two decisions the first counts."""
    found: dict[str, PlannedVariant] = {}
    for number in count(1):
        kept = _kept(_approved(number))
        if kept is None:
            break
        found = {each.key: each for each in kept} | found
    return list(found.values())


def keep_approved(approved: list[PlannedVariant]) -> list[PlannedVariant]:
    """Keep what was decided; what is kept.

    Args:
        approved: what is to go out, with its times.
    """
    if not approved:
        return approved
    return _keep(_approved(next(number for number in count(1) if _kept(_approved(number)) is None)), approved)


def _drafts_of(channel: str) -> str:
    return f"drafted-{channel.replace('/', '--')}"


def _approved(number: int) -> str:
    return f"approved-{number}"


def _keep(key: str, composed: list[PlannedVariant]) -> list[PlannedVariant]:
    save_note(key, PLANNED_VARIANTS.dump_python(composed, mode="json"))
    return _kept(key) or composed


def _kept(key: str) -> list[PlannedVariant] | None:
    kept: Any = load_note(key)
    return None if kept is None else PLANNED_VARIANTS.validate_python(kept)
