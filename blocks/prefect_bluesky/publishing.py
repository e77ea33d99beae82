"""What is done in an account's name: publish, preview and delete, as the block's methods of these names say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from prefect_bluesky import events, xrpc
from prefect_bluesky.attachments import Image, Video
from prefect_bluesky.authenticator import Authenticator
from prefect_bluesky.client import BearerAuth
from prefect_bluesky.composition import POSTGATE, THREADGATE, Materials, compose
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.materials import Loaded, Resolved, Uploaded
from prefect_bluesky.post import Post, ThreadPost
from prefect_bluesky.preview import Preview
from prefect_bluesky.publication import Publication, PublishedPost
from prefect_bluesky.records import record_keys
from prefect_bluesky.references import POST, parse_reference
from prefect_bluesky.runtime import Attempt, current_attempt, logger
from prefect_bluesky.session import SessionStatus

Publishable = Post | str | Sequence[ThreadPost | str]
"""A post, its text, or the posts of a thread."""


def publish(given: Publishable, key: str | None, authenticator: Authenticator) -> PublishedPost:
    """Publish a post exactly once; see `BlueskyCredentials.publish`.

    Args:
        given: what to publish.
        key: what tells it from all others, if the caller says so.
        authenticator: keeps the account signed in.
    """
    post, attempt, account = _post(given), current_attempt(), authenticator.ensure()
    auth = BearerAuth(authenticator)
    publication = _publication(post, key, attempt, account, Uploaded(account, auth))
    # Under a key of the caller's own it may be out since long, and what it needs may be gone.
    look_first = not attempt.is_first or (key and not post.stands_alone())
    published = (publication.find() if look_first else None) or publication.send(auth)
    events.emit(events.POST_PUBLISHED, account, uri=published.uri, cid=published.cid)
    return published


def preview(given: Publishable, key: str | None, authenticator: Authenticator) -> Preview:
    """What `publish` would send; inside a run, shown among its artifacts.

    Args:
        given: what to publish.
        key: as for `publish`.
        authenticator: keeps the account signed in.
    """
    account = authenticator.ensure()
    materials = Resolved(account)
    publication = _publication(_post(given), key, current_attempt(), account, materials)
    seen = Preview.of(publication.records, materials.pictures, account.did)
    seen.show()
    return seen


def preview_without_account(post: Post) -> Preview:
    """What would be sent, but for what only an account and its server can say.

    Args:
        post: what the person wrote.
    """
    materials, did = Loaded(), "did:web:example.com"
    rkeys = record_keys(did, "preview", count=len(post.posts()))
    records = compose(post, materials, did=did, rkeys=rkeys, created_at=datetime.now(UTC))
    return Preview.of(records, materials.pictures, did)


def delete(post: PublishedPost | str, authenticator: Authenticator) -> None:
    """Delete a post, or a thread, with its gates; see `BlueskyCredentials.delete`.

    Args:
        post: what was published, or where it lies.
        authenticator: keeps the account signed in.
    """
    account = authenticator.ensure()
    uris = [post] if isinstance(post, str) else [each.uri for each in post.posts or (post,)]
    rkeys = [_own_post(uri, account) for uri in uris]
    auth = BearerAuth(authenticator)
    # The first post goes last: as long as it is there, the same call can be made again.
    for rkey in reversed(rkeys):
        for collection in (POSTGATE, THREADGATE, POST):
            body = {"repo": account.did, "collection": collection, "rkey": rkey}
            with auth.problems():
                xrpc.procedure(account.pds_url, "com.atproto.repo.deleteRecord", body, auth=auth)


def _post(given: Publishable) -> Post:
    post = given if isinstance(given, Post) else Post.model_validate(given)
    for field, attached in post.attachments():
        if isinstance(attached, Image | Video) and not attached.alt:
            logger().warning("%s has no alt text: people who do not see it will not know what it shows", field)
    return post


def _publication(
    post: Post, key: str | None, attempt: Attempt, account: SessionStatus, materials: Materials
) -> Publication:
    if key and not key.isprintable():
        raise InvalidInput("key", "it holds what cannot be printed.", "A key is a line of text.")
    return Publication.of(
        post,
        account,
        materials,
        key=key or f"{attempt.key} {post.model_dump_json(exclude_defaults=True)}",
        # A key of the caller's own stands for the same post in a later run, which has another planned time.
        planned_at=None if key else attempt.planned_at,
        created_at=attempt.created_at,
        is_repeatable=bool(key) or attempt.is_repeatable,
    )


def _own_post(uri: str, account: SessionStatus) -> str:
    """The record key of one of the account's posts."""
    try:
        place = parse_reference(uri)
    except ValueError as unreadable:
        raise InvalidInput("post", str(unreadable), "Give what publish returned.") from unreadable
    if place.collection != POST or place.authority.lower() not in {account.did.lower(), account.handle.lower()}:
        raise InvalidInput("post", f"{uri} is no post of {account.handle}.", "Delete it with its own account's block.")
    return place.rkey
