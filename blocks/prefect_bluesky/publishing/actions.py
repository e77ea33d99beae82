"""Publish, preview and delete in an account's name, as the block's methods of these names say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from uuid import NAMESPACE_URL, uuid5

from pydantic import ValidationError

from prefect_bluesky.alerts import events
from prefect_bluesky.errors import BlueskyError, BudgetSpent, InvalidInput, KeyConflict, ServiceUnavailable
from prefect_bluesky.posts import Image, Post, Preview, ThreadPost, Video, preview_without_account
from prefect_bluesky.prefect_api import logger
from prefect_bluesky.protocol import (
    POST_COLLECTION,
    POSTGATE_COLLECTION,
    THREADGATE_COLLECTION,
    parse_reference,
    record_keys,
    xrpc,
)
from prefect_bluesky.publishing import budget
from prefect_bluesky.publishing.attempt import Attempt, current_attempt
from prefect_bluesky.publishing.commits import WRITE, Outcome, send
from prefect_bluesky.publishing.drafts import SavedDraft, save_draft
from prefect_bluesky.publishing.materials import LocalMaterials, Materials, ResolvedMaterials, UploadedMaterials
from prefect_bluesky.publishing.post_records import compose
from prefect_bluesky.publishing.publication import Publication, PublishedPost
from prefect_bluesky.publishing.rights import check_right_to_delete
from prefect_bluesky.sessions import Authenticator, SessionAuth, SessionStatus
from prefect_bluesky.validation import in_plain_words, nearest

Publishable = Post | str | Sequence[ThreadPost | str]
"""A post, its text, or the posts of a thread."""


def publish(given: Publishable, key: str | None, authenticator: Authenticator) -> PublishedPost:
    """Publish a post exactly once; see `BlueskyCredentials.publish`."""
    (outcome,) = publish_many([(given, key)], authenticator)
    if isinstance(outcome, BlueskyError):
        raise outcome
    return outcome


def publish_many(given: Sequence[tuple[Publishable, str | None]], authenticator: Authenticator) -> list[Outcome]:
    """Publish posts, each exactly once, in as few commits as hold them; see `BlueskyCredentials.publish_many`."""
    attempt = current_attempt()
    prepared = prepare_many([(post, key, attempt) for post, key in given], authenticator)
    outcomes = prepared.send()
    # The same post may be there twice.
    for post in {each.uri: each for each in outcomes if isinstance(each, PublishedPost)}.values():
        prepared.tell(post)
    return outcomes


def prepare_many(
    given: Sequence[tuple[Publishable, str | None, Attempt]], authenticator: Authenticator
) -> PreparedPosts:
    """Sign in, and make posts of one account ready to be sent. Nothing that they attach is loaded yet."""
    posts = [(_post(each), key, attempt) for each, key, attempt in given]
    account = authenticator.ensure()
    auth = SessionAuth(authenticator)
    materials = UploadedMaterials(account, auth)
    publications: list[Publication] = []
    # A feed shows the posts in this order.
    passed = timedelta()
    for post, key, attempt in posts:
        attempt = replace(attempt, created_at=attempt.created_at + passed)
        publications.append(_publication(post, key, attempt, account, materials))
        passed += len(publications[-1].rkeys) * _A_MOMENT
    return PreparedPosts(account, auth, publications)


class PreparedPosts:
    """Posts of one account, to be sent together when their time has come.

    Attributes:
        account: the account.
        purse: the points that are taken ahead for their writes.
        points: what their writes cost; known once they are loaded.
    """

    def __init__(self, account: SessionStatus, auth: SessionAuth, publications: Sequence[Publication]) -> None:
        self.account = account
        self._auth = auth
        self._publications = publications
        self.purse = budget.Purse(account)
        self.points = 0

    def load(self) -> None:
        """Load and upload what the posts attach. What cannot be loaded is tried again by `send`."""
        writes = 0
        for publication in self._publications:
            with suppress(BlueskyError):
                writes += len(publication.prepare_records())
        self.points = writes * budget.CREATE

    @staticmethod
    def reserve(prepared: Iterable[PreparedPosts], is_time: Callable[[], bool]) -> None:
        """Take the points ahead that loaded posts of many accounts cost, as long as there is time.

        What cannot be taken now is taken by `send`, which returns the error.
        """
        purses: defaultdict[int, list[budget.Purse]] = defaultdict(list)
        for each in prepared:
            purses[each.points].append(each.purse)
        for points, some in purses.items():
            for purse in budget.reserve_together(some, points) if points else []:
                if is_time():
                    with suppress(BudgetSpent):
                        purse.reserve(points, method=WRITE)

    def tell(self, post: PublishedPost) -> None:
        """Tell Prefect that a post is out. However often a post is found, Prefect has one event."""
        event_id = uuid5(NAMESPACE_URL, f"{events.POST_PUBLISHED} {post.uri} {post.cid}")
        if post.is_new:
            events.emit(events.POST_PUBLISHED, self.account, event_id=event_id, uri=post.uri, cid=post.cid)

    def send(self) -> list[Outcome]:
        """Publish each post exactly once; the outcomes, in the order of the posts. Whoever sends has to `tell`."""
        unique: dict[str, Publication] = {}
        for publication in self._publications:
            unique.setdefault(publication.rkeys[0], publication)
        sent = send(list(unique.values()), self.account, self._auth, self.purse)
        outcomes = dict(zip(unique, sent, strict=True))
        return [
            outcomes[each.rkeys[0]] if each.post == unique[each.rkeys[0]].post else KeyConflict(each.uri)
            for each in self._publications
        ]


def preview(given: Publishable, key: str | None, authenticator: Authenticator) -> Preview:
    """Return what `publish` would send; inside a run, also show it among the run's artifacts."""
    account = authenticator.ensure()
    materials = ResolvedMaterials(account)
    publication = _publication(_post(given), key, current_attempt(), account, materials)
    seen = Preview.of(publication.prepare_records(), materials.kept, account.did)
    seen.show()
    return seen


@preview_without_account.register
def _preview_without_account(post: Post) -> Preview:
    """Return what would be sent, except for what only an account and its server can say."""
    materials, did = LocalMaterials(), "did:web:example.com"
    rkeys = record_keys(did, "preview", count=len(post.posts()))
    records = compose(post, materials, did=did, rkeys=rkeys, created_at=datetime.now(UTC))
    return Preview.of(records, materials.kept, did)


def draft(given: Publishable, key: str | None, authenticator: Authenticator) -> SavedDraft:
    """Save a post as a draft; see `BlueskyCredentials.publish`."""
    if key:
        raise InvalidInput("key", "a draft has no key: it is known by its content.", "Leave the key out.")
    return save_draft(_post(given), authenticator)


def delete(post: PublishedPost | str, authenticator: Authenticator) -> None:
    """Delete a post, or a thread, with its gates; see `BlueskyCredentials.delete_post`."""
    account = authenticator.ensure()
    uris = [post] if isinstance(post, str) else [each.uri for each in post.posts or (post,)]
    rkeys = [_own_post(uri, account) for uri in uris]
    check_right_to_delete(account)
    auth = SessionAuth(authenticator)
    # The first post is deleted last: as long as it is there, the same call can be repeated.
    method = "com.atproto.repo.deleteRecord"
    for rkey in reversed(rkeys):
        for collection in (POSTGATE_COLLECTION, THREADGATE_COLLECTION, POST_COLLECTION):
            budget.spend(account, budget.DELETE, method=method)
            body = {"repo": account.did, "collection": collection, "rkey": rkey}
            with auth.problems():
                answer = xrpc.procedure(account.pds_url, method, body, auth=auth)
            # Of a record that is gone already, a PDS says nothing.
            if answer and "commit" not in answer:
                raise ServiceUnavailable(account.pds_url, method, HTTPStatus.OK, message="the answer is not a PDS's")


def refuse_arguments(unknown: Iterable[str], known: Sequence[str], of: str = "publish") -> None:
    """Refuse what is no argument of a function, by the field of the post or the argument that was meant."""
    for name in unknown:
        if name in Post.model_fields:
            remedy = f"Write Post(text=..., {name}=...)."
            raise InvalidInput(name, f"it is a field of Post, not an argument of {of}.", remedy)
        near = nearest(name, [*known, *Post.model_fields])
        remedy = f"Did you mean {near}?" if near else f"The arguments are {', '.join(known)}."
        raise InvalidInput(name, f"{of} has no such argument.", remedy)


_A_MOMENT = timedelta(milliseconds=1)


def _post(given: Publishable) -> Post:
    try:
        post = given if isinstance(given, Post) else Post.model_validate(given)
    except ValidationError as unusable:
        raise in_plain_words(unusable, Post) from None
    for field, attached in post.attachments():
        if isinstance(attached, Image | Video) and not attached.alt:
            logger().warning("%s has no alt text: people who cannot see it will not know what it shows", field)
    return post


def _publication(
    post: Post, key: str | None, attempt: Attempt, account: SessionStatus, materials: Materials
) -> Publication:
    if key and not key.isprintable():
        raise InvalidInput("key", "it holds a character that cannot be printed.", "Write a line of text.")
    return Publication(
        post,
        account,
        materials,
        key=key or f"{attempt.key} {post.content()}",
        # A caller's own key means the same post in a later run, which has another planned time.
        planned_at=None if key else attempt.planned_at,
        created_at=attempt.created_at,
        is_repeatable=bool(key) or attempt.is_repeatable,
        # Under a caller's own key the post may be long out, and its attachments may be gone.
        look_first=not attempt.is_first or (bool(key) and not post.stands_alone()),
    )


def _own_post(uri: str, account: SessionStatus) -> str:
    """Return the record key of one of the account's posts."""
    try:
        place = parse_reference(uri)
    except ValueError as unreadable:
        raise InvalidInput("post", str(unreadable), "Give what publish returned.") from unreadable
    owners = {account.did.lower(), account.handle.lower()}
    if place.collection != POST_COLLECTION or place.authority.lower() not in owners:
        raise InvalidInput("post", f"{uri} is no post of {account.handle}.", "Delete it with its own account's block.")
    return place.rkey
