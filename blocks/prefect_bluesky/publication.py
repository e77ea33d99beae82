"""A `Post` made final, and sent so that it exists exactly once.

The account's own repository is the ledger: whether a post is out is decided by looking under its record key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky import xrpc
from prefect_bluesky.client import auth_problems
from prefect_bluesky.composition import Materials, Record, compose, outline
from prefect_bluesky.errors import CidMismatch, KeyConflict, RateLimited, RequestRefused, ServiceUnavailable
from prefect_bluesky.materials import Placeholders
from prefect_bluesky.post import Post
from prefect_bluesky.records import record_keys
from prefect_bluesky.references import POST
from prefect_bluesky.session import SessionStatus


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
    """

    post: Post
    account: SessionStatus
    rkeys: Sequence[str]
    next_rkey: str
    created_at: datetime
    materials: Materials

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
    ) -> Publication:
        """Make a post final.

        Args:
            post: what the person wrote.
            account: whose repository it goes to.
            materials: what its records need from outside.
            key: what tells this post from all others of the account, on each attempt the same.
            planned_at: the planned time, if it is the same on each attempt.
            created_at: what the post will say of its time.
        """
        *rkeys, next_rkey = record_keys(account.did, key, planned_at, count=len(post.posts()) + 1)
        return cls(post, account, rkeys, next_rkey, created_at, materials)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Its posts in order, then its gates, as they are sent and stored.

        Raises:
            InvalidInput, SourceUnavailable: something that it attaches or refers to cannot be used, or be had.
            AuthError, ServiceError: as `send`; nothing is out.
        """
        return self._composed(self.materials)

    def send(self, auth: httpx.Auth, *, look_first: bool) -> PublishedPost:
        """Publish it, unless it is published already.

        Args:
            auth: signs the writes.
            look_first: whether an attempt under this key may have been made before.

        Raises:
            KeyConflict: the key is taken by another post.
            CidMismatch: published, but the server computed another CID.
            AuthError: the account cannot sign in, or may not write.
            RequestRefused: the server refuses the post.
            ServiceUnavailable: it is not known whether it is out; the same publication may be sent again.
            RateLimited: likewise.
            InvalidInput, SourceUnavailable: as `records`.
        """
        # Before anything is loaded: what was published needs its images and pages no more, and they may be gone.
        if look_first and (found := self._find(self._composed(Placeholders()))):
            return found
        records = self.records
        try:
            return self._write(auth)
        except ServiceUnavailable:
            # A broken connection says nothing, and an existing key is answered with 500 too: look before writing again.
            if found := self._find(records):
                return found
        try:
            return self._write(auth)
        except (ServiceUnavailable, RateLimited):
            # The first write may have landed after the look.
            if found := self._find(records):
                return found
            raise

    def _composed(self, materials: Materials) -> tuple[Record, ...]:
        return compose(self.post, materials, did=self.account.did, rkeys=self.rkeys, created_at=self.created_at)

    def _write(self, auth: httpx.Auth) -> PublishedPost:
        method = "com.atproto.repo.applyWrites"
        creates = [
            {
                "$type": "com.atproto.repo.applyWrites#create",
                "collection": record.collection,
                "rkey": record.rkey,
                "value": record.value,
            }
            for record in self.records
        ]
        with auth_problems(self.account.handle):
            answer = xrpc.procedure(
                self.account.pds_url, method, {"repo": self.account.did, "writes": creates}, auth=auth
            )
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

    def _find(self, wanted: Sequence[Record]) -> PublishedPost | None:
        """The post, if it is out: all of a thread is, once its first post is."""
        posts = [record for record in wanted if record.collection == POST]
        if (first := self._stored(posts[0].rkey)) is None:
            return None
        cids: dict[str, str] = {}
        for record, found in zip(posts, chain([first], (self._stored(post.rkey) for post in posts[1:])), strict=True):
            if found is None or (found[0] != record.cid and outline(found[1]) != outline(record.value)):
                raise KeyConflict(record.uri(self.account.did))
            cids[record.rkey] = found[0]
        if self._stored(self.next_rkey):
            raise KeyConflict(posts[0].uri(self.account.did))  # a longer thread that begins alike
        return self._published(cids)

    def _stored(self, rkey: str) -> tuple[str, dict[str, Any]] | None:
        """The CID and the JSON of the post that lies under a record key."""
        method = "com.atproto.repo.getRecord"
        params = {"repo": self.account.did, "collection": POST, "rkey": rkey}
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
