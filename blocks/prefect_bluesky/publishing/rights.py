"""What a post needs and its account's grant does not allow, found before anything of the post is sent."""

from __future__ import annotations

from collections.abc import Iterator

from prefect_bluesky.errors import AuthError
from prefect_bluesky.posts import Post
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.protocol import POST_COLLECTION, POSTGATE_COLLECTION, THREADGATE_COLLECTION, oauth
from prefect_bluesky.sessions import SessionStatus

_KINDS_OF_IMAGES = ("image/jpeg", "image/png", "image/webp")
_UPLOAD = "com.atproto.repo.uploadBlob"


def check_rights(post: Post, account: SessionStatus) -> None:
    """Check that the account's session allows what a post needs.

    Raises:
        AuthError: `insufficient_scope`; `found` names the field of the post, and the right.
    """
    _raise_if_any(account, _missing_for(post, account.scope))


def check_right_to_delete(account: SessionStatus) -> None:
    """Check that the account's session allows to delete posts. Raises as `check_rights`."""
    if not oauth.allows_record(account.scope, POST_COLLECTION, "delete"):
        _raise_if_any(account, iter(["to delete a post needs the right delete"]))


def _raise_if_any(account: SessionStatus, missing: Iterator[str]) -> None:
    found = ", ".join(missing)
    if found:
        error = AuthError(AuthProblem.INSUFFICIENT_SCOPE, account.handle)
        raise error.explained(error.problem, f"{found}, which was not granted")


def _missing_for(post: Post, scope: str) -> Iterator[str]:
    records = {
        "a post": (POST_COLLECTION, True),
        "replies_from": (THREADGATE_COLLECTION, bool(post.replies_from)),
        "quotable=False": (POSTGATE_COLLECTION, not post.quotable),
    }
    for what, (collection, is_needed) in records.items():
        if is_needed and not oauth.allows_record(scope, collection, "create"):
            yield f"{what} needs the right create (of {collection})"
    for field, part in post.parts():
        if part.images and not any(oauth.allows_blob(scope, kind) for kind in _KINDS_OF_IMAGES):
            yield f"{field}images needs the right create (of blob:image/*)"
        if part.video and not oauth.allows_call(scope, _UPLOAD):
            yield f"{field}video needs the right video"
