"""Read what became of an account's posts: from its repository, and from the AppView that counts. No login is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.protocol import (
    POST_COLLECTION,
    TIMELESS_KEYS_END,
    did_document,
    first_record_key,
    pds_in,
    resolve_handle,
    xrpc,
)
from prefect_bluesky.settings import current_settings

_LIST, _COUNTS = "com.atproto.repo.listRecords", "app.bsky.feed.getPosts"
_AT_ONCE = 25
"""The posts that `app.bsky.feed.getPosts` takes in one request (lexicons/app/bsky/feed/getPosts.json)."""

_KINDS = {
    "app.bsky.embed.images": "images",
    "app.bsky.embed.gallery": "images",
    "app.bsky.embed.video": "video",
    "app.bsky.embed.external": "link card",
    "app.bsky.embed.record": "quote",
}

Json = dict[str, Any]


@dataclass(frozen=True)
class PostCounts:
    """A post that is out, and what readers did with it.

    Attributes:
        account: the account's handle, or its DID if its block has that.
        uri: the post's at:// URI.
        at: the time that the post states.
        text: the post's text.
        kind: `text`, `link`, `images`, `video`, `link card`, `quote` or `thread`.
        likes, reposts, replies, quotes: how often.
    """

    account: str
    uri: str
    at: datetime
    text: str
    kind: str
    likes: int
    reposts: int
    replies: int
    quotes: int

    @property
    def total(self) -> int:
        """All that readers did."""
        return self.likes + self.reposts + self.replies + self.quotes

    @property
    def url(self) -> str:
        """The post's page in Bluesky's app."""
        return f"https://bsky.app/profile/{self.account}/post/{self.uri.rpartition('/')[2]}"


def read_counts(credentials: BlueskyCredentials, since: datetime, until: datetime) -> list[PostCounts]:
    """Return an account's posts of a span of time with their counts, the newest first. Replies to others are left out.

    Args:
        credentials: the account, of which only the handle and the service are used.
        since: the beginning of the span.
        until: its end.

    Raises:
        ServiceError: the account's server or the AppView does not answer.
        InvalidInput: nobody has the handle.
    """
    did, pds_url = _home(credentials)
    records = [record for record in _records(pds_url, did, since) if since <= _stated(record) <= until]
    roots = {str(_root(record)) for record in records if _root(record)}
    own = [record for record in records if _root(record) is None]
    counts = {view["uri"]: view for view in _views([record["uri"] for record in own])}
    known = [record for record in own if record["uri"] in counts]
    posts = [_counted(credentials.handle, record, counts[record["uri"]], roots) for record in known]
    return sorted(posts, key=lambda post: post.at, reverse=True)


def _home(credentials: BlueskyCredentials) -> tuple[str, str]:
    """Return the account's DID and its PDS."""
    handle, service = credentials.handle, credentials.service_url
    did = handle if handle.startswith("did:") else resolve_handle(service, handle)
    if did is None:
        reason = f"{service} knows no account {handle}."
        raise InvalidInput("handle", reason, "Correct the handle in the account's block.")
    return did, pds_in(did_document(did, current_settings().did_directory_url)) or service


def _records(pds_url: str, did: str, since: datetime) -> Iterator[Json]:
    """Yield the posts that may be of a time or later, with their replies.

    Record keys are times, but those of posts without a planned time are of another year (`protocol/records`).
    """
    yield from _listed(pds_url, did, None, first_record_key(since))
    yield from _listed(pds_url, did, first_record_key(TIMELESS_KEYS_END), "")


def _listed(pds_url: str, did: str, cursor: str | None, last: str) -> Iterator[Json]:
    """Yield the posts whose record keys are below a cursor and not below the last one, the newest first."""
    while True:
        asked = {"repo": did, "collection": POST_COLLECTION, "limit": "100"} | ({"cursor": cursor} if cursor else {})
        page = xrpc.query(pds_url, _LIST, asked).get("records") or []
        for record in page:
            if record["uri"].rpartition("/")[2] < last:
                return
            yield record
        if len(page) < 100:
            return
        cursor = page[-1]["uri"].rpartition("/")[2]


def _views(uris: Sequence[str]) -> Iterator[Json]:
    appview = current_settings().appview_url
    for start in range(0, len(uris), _AT_ONCE):
        yield from xrpc.query(appview, _COUNTS, {"uris": uris[start : start + _AT_ONCE]}).get("posts") or []


def _stated(record: Json) -> datetime:
    try:
        at = datetime.fromisoformat(str(record["value"].get("createdAt")))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _root(record: Json) -> str | None:
    """Return the first post of the thread that a post is in, or None if it begins one."""
    reply = record["value"].get("reply")
    return reply["root"]["uri"] if reply else None


def _counted(account: str, record: Json, view: Json, roots: set[str]) -> PostCounts:
    value = record["value"]
    return PostCounts(
        account=account,
        uri=record["uri"],
        at=_stated(record),
        text=str(value.get("text", "")),
        kind="thread" if record["uri"] in roots else _kind(value),
        likes=int(view.get("likeCount", 0)),
        reposts=int(view.get("repostCount", 0)),
        replies=int(view.get("replyCount", 0)),
        quotes=int(view.get("quoteCount", 0)),
    )


def _kind(value: Json) -> str:
    embed = value.get("embed") or {}
    if embed.get("$type") == "app.bsky.embed.recordWithMedia":
        embed = embed.get("media") or {}
    if embed:
        return _KINDS.get(embed.get("$type", ""), "other")
    features = (feature for facet in value.get("facets", []) for feature in facet.get("features", []))
    return "link" if any(feature.get("$type") == "app.bsky.richtext.facet#link" for feature in features) else "text"
