"""What a run of `compose` has drafted and what a person has decided, for when the run is tried again.

Of two attempts at a time the first one's counts: notes are written once.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from prefect_bluesky.compose.plan import COMPOSED, Composed
from prefect_bluesky.prefect_api import note, noted


def kept_drafts(channel: str) -> list[Composed] | None:
    """What was drafted for a channel; None if nothing was yet.

    Args:
        channel: the block of the channel.
    """
    return _kept(_drafts_of(channel))


def keep_drafts(channel: str, drafted: list[Composed]) -> list[Composed]:
    """Keep what was drafted for a channel; what is kept.

    Args:
        channel: the block of the channel.
        drafted: its variants.
    """
    return _keep(_drafts_of(channel), drafted)


def kept_approved() -> list[Composed]:
    """What was decided in earlier attempts of this run; of two decisions the first counts."""
    found: dict[str, Composed] = {}
    for number in count(1):
        kept = _kept(_approved(number))
        if kept is None:
            break
        found = {each.key: each for each in kept} | found
    return list(found.values())


def keep_approved(approved: list[Composed]) -> list[Composed]:
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


def _keep(key: str, composed: list[Composed]) -> list[Composed]:
    note(key, COMPOSED.dump_python(composed, mode="json"))
    return _kept(key) or composed


def _kept(key: str) -> list[Composed] | None:
    kept: Any = noted(key)
    return None if kept is None else COMPOSED.validate_python(kept)
