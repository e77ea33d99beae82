"""A `Post` made final, and sent so that it exists exactly once.

The account's own repository is the ledger: whether a post is out is decided by looking under its record key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky import xrpc
from prefect_bluesky.client import BearerAuth
from prefect_bluesky.composition import Materials, Record, compose, images_in, outline
from prefect_bluesky.errors import (
    CidMismatch,
    InvalidInput,
    KeyConflict,
    RateLimited,
    RequestRefused,
    ServiceUnavailable,
)
from prefect_bluesky.materials import Placeholders
from prefect_bluesky.post import Post, ThreadPost
from prefect_bluesky.records import record_keys
from prefect_bluesky.references import POST
from prefect_bluesky.session import SessionStatus

_MAX_BODY = 1_000_000
"""Bytes of JSON that a PDS takes in one request (measured; it answers 413 to more)."""


class PublishedPost(BaseModel):
    """A post that is out.

    Example:
        >>> credentials.publish("Hello").url
        'https://bsky.app/profile/alice.test/post/3...'
    """

    model_config = ConfigDict(frozen=True)

    uri: str = Field(description="Its at:// URI.")
    cid: str = Field(description="The CID of this version of it.")
    url: str = Field(description="Its page in the Bluesky app.")
    posts: tuple[PublishedPost, ...] = Field(
        default=(), description="The posts of a thread in order, this one first; empty if it is none."
    )


@dataclass(frozen=True)
class Publication:
    """A post with everything fixed that the server will store.

    Args:
        post: what the person wrote.
        account: whose repository it goes to.
        rkeys: the record keys of its posts.
        next_rkey: the one that a post after the last would have.
        created_at: what it will say of its time.
        materials: what its records need from outside; asked once, and not before they are needed.
        is_repeatable: whether another attempt would have the same record keys.
    """

    post: Post
    account: SessionStatus
    rkeys: Sequence[str]
    next_rkey: str
    created_at: datetime
    materials: Materials
    is_repeatable: bool

    @classmethod
    def of(
        cls,
        post: Post,
        account: SessionStatus,
        materials: Materials,
        *,
        key: str,
        planned_at: datetime | None,
        created_at: datetime,
        is_repeatable: bool,
    ) -> Publication:
        """Make a post final.

        Args:
            post: what the person wrote.
            account: whose repository it goes to.
            materials: what its records need from outside.
            key: what tells this post from all others of the account, on each attempt the same.
            planned_at: the planned time, if it is the same on each attempt.
            created_at: what the post will say of its time.
            is_repeatable: whether another attempt would have the same key.
        """
        *rkeys, next_rkey = record_keys(account.did, key, planned_at, count=len(post.posts()) + 1)
        return cls(post, account, rkeys, next_rkey, created_at, materials, is_repeatable)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Its posts in order, then its gates, as they are sent and stored.

        Raises:
            InvalidInput, SourceUnavailable: something that it attaches or refers to cannot be used, or be had.
            AuthError, ServiceError: as `send`; nothing is out.
        """
        return self._composed(self.materials)

    def find(self) -> PublishedPost | None:
        """The post, if an earlier attempt has published it.

        Nothing is loaded for it: what was published needs its images and pages no more, and they may be gone.

        Raises:
            KeyConflict: the key is taken by another post.
            ServiceUnavailable, RateLimited: it cannot be said now.
        """
        return self._found(self._composed(Placeholders()))

    def send(self, auth: BearerAuth) -> PublishedPost:
        """Publish it, unless it is published already.

        Args:
            auth: signs the writes.

        Raises:
            KeyConflict: the key is taken by another post.
            CidMismatch: published, but the server computed another CID.
            AuthError: the account cannot sign in, or may not write.
            RequestRefused: the server refuses the post.
            RateLimited: it is not out.
            ServiceUnavailable: it is not known whether it is out; if `retryable`, the same publication may be sent
                again.
            InvalidInput, SourceUnavailable: as `records`.
        """
        body = self._body()
        try:
            return self._write(body, auth)
        except ServiceUnavailable:
            pass  # A broken connection says nothing, and an existing key is answered with 500 too.
        try:
            return self._found(self.records) or self._write_again(body, auth)
        except (ServiceUnavailable, RateLimited) as unknown:
            unknown.retryable = self.is_repeatable
            raise

    def _write_again(self, body: dict[str, Any], auth: BearerAuth) -> PublishedPost:
        try:
            return self._write(body, auth)
        except (ServiceUnavailable, RateLimited):
            # The first write may have landed after the look.
            if found := self._found(self.records):
                return found
            self._check_for_remains()
            raise

    def _composed(self, materials: Materials) -> tuple[Record, ...]:
        return compose(self.post, materials, did=self.account.did, rkeys=self.rkeys, created_at=self.created_at)

    def _body(self) -> dict[str, Any]:
        creates = [
            {
                "$type": "com.atproto.repo.applyWrites#create",
                "collection": record.collection,
                "rkey": record.rkey,
                "value": record.value,
            }
            for record in self.records
        ]
        body = {"repo": self.account.did, "writes": creates}
        size = len(json.dumps(body, ensure_ascii=False).encode())
        if size > _MAX_BODY:
            over = f"it takes {size:,} bytes as JSON, over the limit of {_MAX_BODY:,}."
            raise InvalidInput("thread", over, "Publish it as two threads, or shorten its links and alt texts.")
        return body

    def _write(self, body: dict[str, Any], auth: BearerAuth) -> PublishedPost:
        method = "com.atproto.repo.applyWrites"
        with auth.problems():
            answer = xrpc.procedure(self.account.pds_url, method, body, auth=auth)
        try:
            cids = [str(result["cid"]) for result in answer["results"]]
        except (KeyError, TypeError):
            cids = []
        if len(cids) != len(self.records):
            raise ServiceUnavailable(self.account.pds_url, method, 200, message="no results")
        for record, cid in zip(self.records, cids, strict=True):
            if cid != record.cid:
                raise CidMismatch(record.uri(self.account.did), record.cid, cid)
        return self._published({record.rkey: record.cid for record in self.records if record.collection == POST})

    def _found(self, wanted: Sequence[Record]) -> PublishedPost | None:
        """The post, if it is out: all of a thread is, once its first post is."""
        posts = [record for record in wanted if record.collection == POST]
        if (first := self._stored(POST, posts[0].rkey)) is None:
            return None
        others = (self._stored(POST, post.rkey) for post in posts[1:])
        cids: dict[str, str] = {}
        for record, part, found in zip(posts, self.post.posts(), chain([first], others), strict=True):
            if found is None or not (found[0] == record.cid or _is_same(part, record.value, found[1])):
                raise KeyConflict(record.uri(self.account.did))
            cids[record.rkey] = found[0]
        if self._stored(POST, self.next_rkey):
            raise KeyConflict(posts[0].uri(self.account.did))  # a longer thread that begins alike
        return self._published(cids)

    def _check_for_remains(self) -> None:
        """Whether the server refuses to write because something of a thread that was deleted is left under the key."""
        for record in self.records[1:]:
            if self._stored(record.collection, record.rkey):
                raise KeyConflict(record.uri(self.account.did))

    def _stored(self, collection: str, rkey: str) -> tuple[str, dict[str, Any]] | None:
        """The CID and the JSON of what lies under a record key."""
        method = "com.atproto.repo.getRecord"
        params = {"repo": self.account.did, "collection": collection, "rkey": rkey}
        try:
            found = xrpc.query(self.account.pds_url, method, params)
        except RequestRefused as refused:
            if refused.error == "RecordNotFound":
                return None
            raise
        cid, value = found.get("cid"), found.get("value")
        if not isinstance(value, dict) or not isinstance(cid, str):
            raise ServiceUnavailable(self.account.pds_url, method, 200, message="no record")
        return cid, value

    def _published(self, cids: dict[str, str]) -> PublishedPost:
        posts = tuple(
            PublishedPost(
                uri=f"at://{self.account.did}/{POST}/{rkey}",
                cid=cid,
                url=f"https://bsky.app/profile/{self.account.handle}/post/{rkey}",
            )
            for rkey, cid in cids.items()
        )
        return posts[0].model_copy(update={"posts": posts}) if len(self.rkeys) > 1 else posts[0]


def _is_same(post: ThreadPost, wanted: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether a stored record is this post, published at another time."""
    if outline(wanted) != outline(found):
        return False
    # Images of the same source are the same here, where nothing else than this attempt may have loaded them.
    if any(images_in(wanted)) and images_in(wanted) != images_in(found):
        return False
    embed = found.get("embed", {})
    shown = embed.get("media", embed).get("external", {})
    said = {"title": post.link_card.title, "description": post.link_card.description} if post.link_card else {}
    return all(text is None or shown.get(name) == text for name, text in said.items())
