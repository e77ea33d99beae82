"""A post made final, and the search for it in the account's own repository, which alone decides whether it is out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky.errors import CidMismatch, KeyConflict, RequestRefused, ServiceUnavailable
from prefect_bluesky.posts import Post, ThreadPost
from prefect_bluesky.protocol import POST_COLLECTION, Record, record_keys, xrpc
from prefect_bluesky.publishing.materials import Materials, NoMaterials
from prefect_bluesky.publishing.post_records import compose, images_in, outline
from prefect_bluesky.publishing.rights import check_rights
from prefect_bluesky.sessions import SessionStatus


class PublishedPost(BaseModel):
    """A published post.

    Example:
        >>> credentials.publish("Hello").url
        'https://bsky.app/profile/alice.test/post/3...'
    """

    model_config = ConfigDict(frozen=True)

    uri: str = Field(description="The post's at:// URI.")
    cid: str = Field(description="The CID of this version of the post.")
    url: str = Field(description="The post's page in the Bluesky app.")
    posts: tuple[PublishedPost, ...] = Field(
        default=(), description="All posts of a thread in order, this one first; empty for a single post."
    )
    is_new: bool = Field(default=True, description="False if the post was out already, so that nothing was sent.")

    def __eq__(self, other: object) -> bool:
        """Return whether this is the same version of the same post, whoever has published it."""
        if not isinstance(other, PublishedPost):
            return NotImplemented
        return (self.uri, self.cid, self.posts) == (other.uri, other.cid, other.posts)

    def __hash__(self) -> int:
        return hash((self.uri, self.cid))

    if not TYPE_CHECKING:  # type checkers refuse an `await` by themselves

        def __await__(self) -> NoReturn:
            """Say what to do in place of awaiting the result of `publish_post`."""
            raise TypeError("publish_post is not awaited. Call it without await, or await apublish_post.")


@dataclass(frozen=True)
class Publication:
    """A post with everything fixed that the server will store.

    Args:
        post: the post, as a person wrote it.
        account: the account whose repository the post goes to.
        materials: everything that the records need from outside; loaded once, when it is needed.
        key: distinguishes the post from all others of the account; the same on each attempt.
        planned_at: the planned time, if it is the same on each attempt.
        created_at: the time that the post states.
        is_repeatable: whether another attempt has the same key.
        look_first: whether the post may be out already.
    """

    post: Post
    account: SessionStatus
    materials: Materials
    _: KW_ONLY
    key: str
    planned_at: datetime | None
    created_at: datetime
    is_repeatable: bool
    look_first: bool

    @cached_property
    def _keys(self) -> list[str]:
        # One more than there are posts: the key that a longer thread with the same beginning would use.
        return record_keys(self.account.did, self.key, self.planned_at, count=len(self.post.posts()) + 1)

    @property
    def rkeys(self) -> Sequence[str]:
        """The record keys of the posts."""
        return self._keys[:-1]

    @property
    def uri(self) -> str:
        """The at:// URI that the post will have."""
        return f"at://{self.account.did}/{POST_COLLECTION}/{self.rkeys[0]}"

    def prepare_records(self) -> tuple[Record, ...]:
        """Load and upload what the post attaches, once, and return its records: the posts in order, then the gates.

        Raises:
            InvalidInput, SourceUnavailable: an attachment or a reference cannot be used, or cannot be loaded.
            AuthError: the account cannot sign in, or has no right to what the post needs.
            ServiceError: an upload or a look-up failed; nothing is published.
        """
        return self._records

    @cached_property
    def _records(self) -> tuple[Record, ...]:
        check_rights(self.post, self.account)
        return self._composed(self.materials)

    def find_earlier(self) -> PublishedPost | None:
        """Return the post if an earlier attempt has published it; its images and pages, perhaps gone, are not loaded.

        Raises:
            KeyConflict: another post has the key.
            ServiceUnavailable, RateLimited: the server cannot be asked now.
        """
        found = self._found(self._composed(NoMaterials()))
        return found and found.model_copy(update={"is_new": False})

    def find_after_write(self) -> PublishedPost | None:
        """Return the post if a write whose answer was lost has published it; raises as `find_earlier`."""
        return self._found(self._records)

    def confirm(self, cids: Sequence[str]) -> PublishedPost:
        """Return the published post, or raise CidMismatch if the server answered other CIDs than were computed."""
        for record, cid in zip(self._records, cids, strict=True):
            if cid != record.cid:
                raise CidMismatch(record.uri(self.account.did), record.cid, cid)
        return self._published({each.rkey: each.cid for each in self._records if each.collection == POST_COLLECTION})

    def check_for_remains(self) -> None:
        """Raise KeyConflict if the rest of a deleted thread is stored under the key: the server refuses the write."""
        for record in self._records[1:]:
            if self._stored(record.collection, record.rkey):
                raise KeyConflict(record.uri(self.account.did))

    def _composed(self, materials: Materials) -> tuple[Record, ...]:
        return compose(self.post, materials, did=self.account.did, rkeys=self.rkeys, created_at=self.created_at)

    def _found(self, wanted: Sequence[Record]) -> PublishedPost | None:
        """Return the post if it is out: all of a thread is out if its first post is."""
        posts = [record for record in wanted if record.collection == POST_COLLECTION]
        if (first := self._stored(POST_COLLECTION, posts[0].rkey)) is None:
            return None
        others = (self._stored(POST_COLLECTION, post.rkey) for post in posts[1:])
        cids: dict[str, str] = {}
        for record, part, found in zip(posts, self.post.posts(), chain([first], others), strict=True):
            if found is None or not (found[0] == record.cid or _is_same(part, record.value, found[1])):
                raise KeyConflict(record.uri(self.account.did))
            cids[record.rkey] = found[0]
        if self._stored(POST_COLLECTION, self._keys[-1]):
            raise KeyConflict(posts[0].uri(self.account.did))  # a longer thread with the same beginning
        return self._published(cids)

    def _stored(self, collection: str, rkey: str) -> tuple[str, dict[str, Any]] | None:
        """Return the CID and the JSON of the record under a record key, or None."""
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
    """Return whether a stored record is this post, published at another time."""
    if outline(wanted) != outline(found):
        return False
    # The same source gives the same image here, unless only this attempt has loaded it.
    if any(images_in(wanted)) and images_in(wanted) != images_in(found):
        return False
    embed = found.get("embed", {})
    shown = embed.get("media", embed).get("external", {})
    said = {"title": post.link_card.title, "description": post.link_card.description} if post.link_card else {}
    return all(text is None or shown.get(name) == text for name, text in said.items())
