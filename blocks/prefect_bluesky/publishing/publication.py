"""A `Post` made final, and the look whether it is out.

The account's own repository is the ledger: that is decided by looking under its record key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.errors import CidMismatch, KeyConflict, RequestRefused, ServiceUnavailable
from prefect_bluesky.posts import Post, ThreadPost
from prefect_bluesky.protocol import POST_COLLECTION, Record, record_keys, xrpc
from prefect_bluesky.publishing.materials import NoMaterials
from prefect_bluesky.publishing.post_records import Materials, compose, images_in, outline
from prefect_bluesky.sessions import SessionStatus


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
        look_first: whether it may be out already.
    """

    post: Post
    account: SessionStatus
    rkeys: Sequence[str]
    next_rkey: str
    created_at: datetime
    materials: Materials
    is_repeatable: bool
    look_first: bool

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
        look_first: bool,
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
            look_first: whether it may be out already.
        """
        *rkeys, next_rkey = record_keys(account.did, key, planned_at, count=len(post.posts()) + 1)
        return cls(post, account, rkeys, next_rkey, created_at, materials, is_repeatable, look_first)

    @property
    def uri(self) -> str:
        """The at:// URI that it will have."""
        return f"at://{self.account.did}/{POST_COLLECTION}/{self.rkeys[0]}"

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Its posts in order, then its gates, as they are sent and stored.

        Raises:
            InvalidInput, SourceUnavailable: something that it attaches or refers to cannot be used, or be had.
            AuthError: the account cannot sign in, or may not upload.
            ServiceError: an upload failed, or something could not be looked up; nothing is out.
        """
        return self._composed(self.materials)

    def find(self) -> PublishedPost | None:
        """The post, if an earlier attempt has published it.

        Nothing is loaded for it: what was published needs its images and pages no more, and they may be gone.

        Raises:
            KeyConflict: the key is taken by another post.
            ServiceUnavailable, RateLimited: it cannot be said now.
        """
        return self._found(self._composed(NoMaterials()))

    def written(self) -> PublishedPost | None:
        """The post, if a write whose answer was lost has published it.

        Raises: as `find`.
        """
        return self._found(self.records)

    def published(self, cids: Sequence[str]) -> PublishedPost:
        """The post, as the server says that it has stored it.

        Args:
            cids: the CIDs that it answered, one for each of `records`.

        Raises:
            CidMismatch: published, but the server computed another CID.
        """
        for record, cid in zip(self.records, cids, strict=True):
            if cid != record.cid:
                raise CidMismatch(record.uri(self.account.did), record.cid, cid)
        return self._published(
            {record.rkey: record.cid for record in self.records if record.collection == POST_COLLECTION}
        )

    def check_for_remains(self) -> None:
        """Whether the server refuses to write because something of a thread that was deleted is left under the key.

        Raises:
            KeyConflict: something is.
            ServiceUnavailable, RateLimited: it cannot be said now.
        """
        for record in self.records[1:]:
            if self._stored(record.collection, record.rkey):
                raise KeyConflict(record.uri(self.account.did))

    def _composed(self, materials: Materials) -> tuple[Record, ...]:
        return compose(self.post, materials, did=self.account.did, rkeys=self.rkeys, created_at=self.created_at)

    def _found(self, wanted: Sequence[Record]) -> PublishedPost | None:
        """The post, if it is out: all of a thread is, once its first post is."""
        posts = [record for record in wanted if record.collection == POST_COLLECTION]
        if (first := self._stored(POST_COLLECTION, posts[0].rkey)) is None:
            return None
        others = (self._stored(POST_COLLECTION, post.rkey) for post in posts[1:])
        cids: dict[str, str] = {}
        for record, part, found in zip(posts, self.post.posts(), chain([first], others), strict=True):
            if found is None or not (found[0] == record.cid or _is_same(part, record.value, found[1])):
                raise KeyConflict(record.uri(self.account.did))
            cids[record.rkey] = found[0]
        if self._stored(POST_COLLECTION, self.next_rkey):
            raise KeyConflict(posts[0].uri(self.account.did))  # a longer thread that begins alike
        return self._published(cids)

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
                uri=f"at://{self.account.did}/{POST_COLLECTION}/{rkey}",
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
