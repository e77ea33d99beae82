"""What an account's profile says of the account."""

from __future__ import annotations

from typing import Any

PROFILE = "app.bsky.actor.profile"

BOT = "bot"
"""The label by which an account says that a program writes its posts; apps show a badge
(lexicons/com/atproto/label/defs.json)."""


def labels_of(profile: dict[str, Any]) -> list[str]:
    """Return the labels that an account has given itself.

    Example:
        >>> labels_of({"labels": {"values": [{"val": "bot"}]}})
        ['bot']
    """
    labels = profile.get("labels")
    values = labels.get("values") if isinstance(labels, dict) else None
    return [str(each["val"]) for each in values or [] if isinstance(each, dict) and "val" in each]
