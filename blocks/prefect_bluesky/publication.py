"""A `Post` made final, and sent so that it exists exactly once.

The account's own repository is the ledger: whether a post is out is decided by looking under its record key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field

from prefect_bluesky import xrpc
from prefect_bluesky.errors import AuthError, CidMismatch, KeyConflict, RateLimited, RequestRefused, ServiceUnavailable
from prefect_bluesky.identity import resolve_handle
from prefect_bluesky.post import Post
from prefect_bluesky.problems import AuthProblem, classify, is_token_refusal
from prefect_bluesky.records import cid, record_key
from prefect_bluesky.richtext import detect_facets
from prefect_bluesky.session import SessionStatus

_COLLECTION = "app.bsky.feed.post"


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


@dataclass(frozen=True)
class Publication:
    """A post with everything fixed that the server will store.

    Args:
        account: whose repository it goes to.
        rkey: the record key.
        record: the record's JSON.
        cid: the CID that the server will give it.
    """

    account: SessionStatus
    rkey: str
    record: dict[str, Any]
    cid: str

    @classmethod
    def of(
        cls, post: Post, account: SessionStatus, *, key: str, planned_at: datetime | None, created_at: datetime
    ) -> Publication:
        """Make a post final.

        Args:
            post: what the person wrote.
            account: whose repository it goes to.
            key: what tells this post from all others of the account, on each attempt the same.
            planned_at: the planned time, if it is the same on each attempt.
            created_at: what the post will say of its time.

        Raises:
            ServiceUnavailable, RateLimited: a mention could not be looked up.
        """
        record: dict[str, Any] = {"$type": _COLLECTION, "text": post.text, "createdAt": _timestamp(created_at)}
        facets = detect_facets(post.text, partial(resolve_handle, account.pds_url))
        if facets:
            record["facets"] = facets
        return cls(account, record_key(account.did, key, planned_at), record, cid(record))

    @property
    def uri(self) -> str:
        """The at:// URI that the post has or will have."""
        return f"at://{self.account.did}/{_COLLECTION}/{self.rkey}"

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
        """
        if look_first and (found := self._find()):
            return found
        try:
            return self._write(auth)
        except ServiceUnavailable:
            # A broken connection says nothing, and an existing key is answered with 500 too: look before writing again.
            if found := self._find():
                return found
        try:
            return self._write(auth)
        except (ServiceUnavailable, RateLimited):
            # The first write may have landed after the look.
            if found := self._find():
                return found
            raise

    def _write(self, auth: httpx.Auth) -> PublishedPost:
        method = "com.atproto.repo.applyWrites"
        create = {
            "$type": "com.atproto.repo.applyWrites#create",
            "collection": _COLLECTION,
            "rkey": self.rkey,
            "value": self.record,
        }
        body = {"repo": self.account.did, "writes": [create]}
        try:
            answer = xrpc.procedure(self.account.pds_url, method, body, auth=auth)
        except RequestRefused as refused:
            if is_token_refusal(error=refused.error, message=refused.message):
                # It refuses even the token that the recovery brought. That one may have come from another worker, and
                # an attempt of its own will refresh it.
                raise AuthError(AuthProblem.WRONG_SERVICE, self.account.handle, retryable=True) from refused
            problem = classify(error=refused.error, message=refused.message)
            if problem is None:
                raise
            raise AuthError(problem, self.account.handle) from refused
        try:
            found = answer["results"][0]["cid"]
        except (KeyError, IndexError, TypeError):
            raise ServiceUnavailable(self.account.pds_url, method, 200, message="no results") from None
        if found != self.cid:
            raise CidMismatch(self.uri, self.cid, str(found))
        return self._published(found)

    def _find(self) -> PublishedPost | None:
        """The post, if it is out."""
        method = "com.atproto.repo.getRecord"
        params = {"repo": self.account.did, "collection": _COLLECTION, "rkey": self.rkey}
        try:
            found = xrpc.query(self.account.pds_url, method, params)
        except RequestRefused as refused:
            if refused.error == "RecordNotFound":
                return None
            raise
        record, cid = found.get("value"), found.get("cid")
        if not isinstance(record, dict) or not isinstance(cid, str):
            raise ServiceUnavailable(self.account.pds_url, method, 200, message="no record")
        if cid != self.cid and _as_written(record) != _as_written(self.record):
            raise KeyConflict(self.uri)
        return self._published(cid)

    def _published(self, cid: str) -> PublishedPost:
        url = f"https://bsky.app/profile/{self.account.handle}/post/{self.rkey}"
        return PublishedPost(uri=self.uri, cid=cid, url=url)


def _as_written(record: dict[str, Any]) -> dict[str, Any]:
    """What the person wrote of it: a later attempt has a later time, and may resolve a mention otherwise."""
    return {name: value for name, value in record.items() if name not in {"createdAt", "facets"}}


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
