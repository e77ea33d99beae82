"""What a channel is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from prefect_bluesky.channels.fitter import Rules, Variant
from prefect_bluesky.drafts import Draft


@dataclass(frozen=True)
class Published:
    """A variant that is out.

    Args:
        urls: where a person sees its posts; empty where a channel does not say it.
    """

    urls: tuple[str, ...]


class Channel(Protocol):
    """A place where posts go out.

    Another channel is a class with these; nothing else needs to know of it.
    """

    @property
    def rules(self) -> Rules:
        """What it takes."""

    def fit(self, draft: Draft) -> Variant:
        """A draft as it goes out here.

        Raises:
            DoesNotFit: it cannot; the message names each post, by how much it is over, and the remedy.
        """

    def publish(self, variant: Variant, key: str) -> Published:
        """Publish what fits, once under a key, however often and from wherever it is called.

        Raises:
            BlueskyError: it is not out, or it is not known; `retryable` says whether the same call may be made again.
        """
