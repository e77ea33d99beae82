"""Publish one post for many accounts, on Bluesky and on other channels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from prefect import task
from prefect.blocks.core import Block

from prefect_bluesky.channels.direct import publish_on
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import InvalidInput, NotEverywhere
from prefect_bluesky.prefect_api import block_name, can_keep_notes, load_block, logger, name_with_type
from prefect_bluesky.publishing import Publishable
from prefect_bluesky.tasks import RETRIES

Target = str | Block
"""An account or a channel: its block, or the name under which the block is saved."""


@dataclass(frozen=True)
class Delivery:
    """The outcome of a post for one account or channel.

    Args:
        to: the block's name, such as `mastodon-credentials/alice`.
        urls: the public URLs of the published posts; empty if the channel does not report any.
        error: the reason why the post is not out, or may not be out; None if it is.
    """

    to: str
    urls: tuple[str, ...] = ()
    error: Exception | None = None


def publish_everywhere(post: Publishable, to: Sequence[Target] | Target, key: str | None = None) -> list[Delivery]:
    """Publish a post for several accounts and channels. A failure for one stops no other.

    In a flow, each account has a task of its own, which retries temporary errors. A run that is retried publishes only
    what is missing.

    Args:
        post: the post. A string is a post with that text, a list is a thread.
        to: the accounts and channels, as blocks or by the names of saved blocks: `bluesky-credentials/alice`,
            `mastodon-credentials/alice`, `apprise-service/team`. A name without a type is a Bluesky account.
        key: see `BlueskyCredentials.publish`, and for the other channels `MastodonCredentials.publish`.

    Returns:
        for each account or channel, in that order, the URLs of its posts.

    Raises:
        NotEverywhere: the post is not out for each of them; all were tried. The message names each failure, and
            `results` has all outcomes.
        InvalidInput: no account is given.

    Example:
        >>> done = publish_everywhere("Release 2.0 is out", ["alice", "mastodon-credentials/alice"], key="release 2.0")
        >>> [each.to for each in done]
        ['bluesky-credentials/alice', 'mastodon-credentials/alice']
    """
    targets = _targets(to)
    # Outside a flow, a task would start a Prefect server.
    outcomes = _in_tasks(post, targets, key) if can_keep_notes() else _one_by_one(post, targets, key)
    if any(each.error for each in outcomes):
        raise NotEverywhere(outcomes)
    return outcomes


async def apublish_everywhere(
    post: Publishable, to: Sequence[Target] | Target, key: str | None = None
) -> list[Delivery]:
    """Publish a post for several accounts and channels, from async code; see `publish_everywhere`."""
    return await asyncio.to_thread(publish_everywhere, post, to, key)


def _targets(to: Sequence[Target] | Target) -> list[tuple[str, Target]]:
    """Return the targets, each with its name for people. Of a name that is given twice, the first counts."""
    remedy = "Name saved blocks, such as bluesky-credentials/alice."
    given = [to] if isinstance(to, Target) else list(to or [])
    if not given:
        raise InvalidInput("to", "no account is given.", remedy)
    found: list[tuple[str, Target]] = []
    for each in given:
        if not isinstance(each, Target):
            raise InvalidInput("to", f"a value of the type {type(each).__name__} is no account.", remedy)
        target = name_with_type(each, BlueskyCredentials) if isinstance(each, str) else each
        if isinstance(target, Block) or all(known != target for _, known in found):
            found.append((_label(target), target))
    return found


def _label(target: Target) -> str:
    if isinstance(target, str):
        return block_name(target) or "a name that is no block's"
    name = target._block_document_name or getattr(target, "handle", None)  # noqa: SLF001 (Prefect's own)
    return f"{target.get_block_type_slug()}/{name}" if name else target.get_block_type_slug()


def _in_tasks(post: Publishable, targets: list[tuple[str, Target]], key: str | None) -> list[Delivery]:
    futures = [_publish_to.submit(label, target, post, key) for label, target in targets]
    outcomes = [future.result(raise_on_failure=False) for future in futures]
    return [_delivery(label, outcome) for (label, _), outcome in zip(targets, outcomes, strict=True)]


def _one_by_one(post: Publishable, targets: list[tuple[str, Target]], key: str | None) -> list[Delivery]:
    outcomes: list[Delivery] = []
    for label, target in targets:
        try:
            outcomes.append(_delivery(label, _publish_to.fn(label, target, post, key)))
        except Exception as trouble:  # whatever it is, `NotEverywhere` names it once all were tried
            outcomes.append(_delivery(label, trouble))
    return outcomes


def _delivery(label: str, outcome: tuple[str, ...] | Exception) -> Delivery:
    return Delivery(label, error=outcome) if isinstance(outcome, Exception) else Delivery(label, outcome)


@task(
    name="publish-everywhere",
    task_run_name="post on {label}",
    description="Publish a post for one account or channel, once under its key.",
    **RETRIES,
)
def _publish_to(label: str, target: Target, post: Publishable, key: str | None) -> tuple[str, ...]:
    block = load_block(target, "to") if isinstance(target, str) else target
    published = publish_on(block, post, key)
    logger().info("Published on %s: %s", label, ", ".join(published.urls) or "no address is known")
    return published.urls
