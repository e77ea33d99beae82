"""Save a post as a draft, which a person finishes and publishes in the Bluesky app.

A draft is kept privately by the account's AppView (https://github.com/bluesky-social/atproto, lexicons/app/bsky/draft).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.errors import InvalidInput, ServiceUnavailable
from prefect_bluesky.posts import Post, ThreadPost
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.publishing.materials import ResolvedMaterials
from prefect_bluesky.publishing.post_records import gate_rules
from prefect_bluesky.sessions import Authenticator, SessionAuth

_CREATE, _LIST = "app.bsky.draft.createDraft", "app.bsky.draft.getDrafts"

_LOOK_BACK = "100"
"""The number of drafts that are looked through for an equal one."""

Json = dict[str, Any]


class SavedDraft(BaseModel):
    """A draft in the Bluesky app, under *Drafts*.

    Example:
        >>> credentials.publish("To be finished", as_draft=True).id
        '3...'
    """

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="The draft's name, for the app.")


def save_draft(post: Post, authenticator: Authenticator) -> SavedDraft:
    """Save a post as a draft, once; see `BlueskyCredentials.publish`."""
    for field, why in _what_it_cannot_hold(post):
        raise InvalidInput(field, f"a draft cannot hold it: {why}.", "Leave it out, and add it in the app.")
    account = authenticator.ensure()
    draft = _draft(post, ResolvedMaterials(account))
    auth = SessionAuth(authenticator)
    with auth.problems():
        # An answer may have been lost, and drafts have no keys.
        known = xrpc.query(account.pds_url, _LIST, {"limit": _LOOK_BACK}, auth=auth).get("drafts")
        for each in known if isinstance(known, list) else []:
            if each.get("draft") == draft:
                return SavedDraft(id=str(each["id"]))
        made = xrpc.procedure(account.pds_url, _CREATE, {"draft": draft}, auth=auth).get("id")
    if not isinstance(made, str):
        raise ServiceUnavailable(account.pds_url, _CREATE, 200, message="no draft")
    return SavedDraft(id=made)


def _what_it_cannot_hold(post: Post) -> Iterator[tuple[str, str]]:
    """Yield each field that a draft has no place for, and why."""
    on_a_device = "the app keeps a draft's pictures on one device"
    nowhere = "there is no place for it in a draft"
    if post.reply_to:
        yield "reply_to", nowhere
    if post.expires:
        yield "expires", "a person decides when the draft goes out"
    for field, part in post.parts():
        if part.images:
            yield f"{field}images", on_a_device
        if part.video:
            yield f"{field}video", on_a_device
        if part.tags:
            yield f"{field}tags", nowhere
        if part.link_card and (part.link_card.title or part.link_card.description or part.link_card.thumbnail):
            yield f"{field}link_card", "of a card it holds the address alone"


def _draft(post: Post, materials: ResolvedMaterials) -> Json:
    """Return the draft, as the lexicon `app.bsky.draft.defs#draft` has it."""
    draft: Json = {"posts": [_part(field, part, materials) for field, part in post.parts()]}
    if languages := list(post.languages):
        draft["langs"] = languages
    if not post.quotable:
        draft["postgateEmbeddingRules"] = [{"$type": "app.bsky.feed.postgate#disableRule"}]
    if post.replies_from:
        draft["threadgateAllow"] = gate_rules(post, materials)
    return draft


def _part(field: str, part: ThreadPost, materials: ResolvedMaterials) -> Json:
    shown: Json = {"text": part.text}
    if part.labels:
        values = [{"val": label} for label in part.labels]
        shown["labels"] = {"$type": "com.atproto.label.defs#selfLabels", "values": values}
    if part.link_card:
        shown["embedExternals"] = [{"uri": str(part.link_card.url)}]
    if part.quote:
        shown["embedRecords"] = [{"record": materials.reference(part.quote, f"{field}quote").json}]
    return shown
