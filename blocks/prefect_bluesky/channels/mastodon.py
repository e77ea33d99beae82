"""Mastodon as a channel, and servers with the same API."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from hashlib import sha256
from http import HTTPStatus
from math import isqrt
from typing import TYPE_CHECKING, Any

from prefect_bluesky.channels.base import Channel, Published, channel_of
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.channels.fitting import Rules, Variant, fit
from prefect_bluesky.channels.mastodon_credentials import MastodonCredentials
from prefect_bluesky.errors import InvalidInput, RateLimited, RequestRefused, ServiceUnavailable
from prefect_bluesky.extras import extra
from prefect_bluesky.media import fit_image, read_file
from prefect_bluesky.posts import MAX_POSTS, Entity, Image, Measure
from prefect_bluesky.prefect_api import can_keep_notes, load_note, load_notes, save_note

if TYPE_CHECKING:
    from mastodon import Mastodon

_MAX_IMAGE_BYTES = 100_000_000
"""What is read of an image; it is made to fit afterwards."""

# What an instance says otherwise counts; these are Mastodon 4's own (app/validators/status_length_validator.rb,
# app/models/media_attachment.rb).
_LENGTH, _URL_LENGTH, _IMAGES, _ALT = 500, 23, 4, 1500
_IMAGE_BYTES, _IMAGE_PIXELS = 16 * 1024 * 1024, 33_177_600

_OVERLAP = timedelta(minutes=1)
"""How far an instance's clock may be behind ours."""

_PAGE = 40
"""How many statuses a request returns at most (docs.joinmastodon.org/methods/accounts)."""

# After these Mastodon sees no link (its twitter_regex.rb); where it would see one that we do not, we count more.
_URL = r"(?<![A-Za-z0-9@＠$#＃\ufffe\ufeff\uffff])https?://[!-~]+"
_MENTION = r"(?<![=/\w@])@[A-Za-z0-9_]+@[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*"
_ENTITY = re.compile(f"(?P<link>{_URL})|(?P<mention>{_MENTION})", re.IGNORECASE)


def _entities(text: str) -> list[Entity]:
    return [
        Entity(found.start(), found.end(), "link" if found["link"] else "mention", found[0])
        for found in _ENTITY.finditer(text)
    ]


def _counted(text: str, entity: Entity) -> str:
    follows = text[entity.end : entity.end + 1]
    if entity.kind == "mention":
        # A letter that follows is part of it there.
        return entity.value if re.match(r"\w", follows) else f"@{entity.value.split('@')[1]}"
    with extra("compose", "channels"):
        from mastodon import Mastodon

    if not follows or follows.isspace():
        return "x" * Mastodon.get_status_length(entity.value)
    # What follows may belong to it, or keep it from being a link: it counts no more than both.
    return "x" * (_URL_LENGTH + len(entity.value))


COUNTED = Measure(_entities, _counted)
"""As Mastodon counts: each link as 23 characters, and a mention without its server."""

RULES = Rules(
    channel="Mastodon",
    max_length=_LENGTH,
    max_posts=MAX_POSTS,
    max_images=_IMAGES,
    max_alt_length=_ALT,
    measure=COUNTED,
)
"""Those of an instance that changes none of Mastodon's limits."""


class MastodonChannel:
    """An account on Mastodon.

    A server remembers for an hour what was published under a key. A flow run that is tried again, however late, knows
    what it has published, and looks for what it may have published among the account's own statuses.

    Args:
        credentials: the account's block.

    Example:
        >>> channel = MastodonChannel(MastodonCredentials.load("alice"))
        >>> channel.publish(channel.fit(Draft(kind="hook", posts=["Good morning"])), key="morning").urls
        ('http.../@alice/115...',)
    """

    def __init__(self, credentials: MastodonCredentials) -> None:
        self._url = credentials.instance_url
        self._client: Mastodon = credentials.get_client()

    @cached_property
    def rules(self) -> Rules:
        """The limits that the instance has told."""
        statuses, media = self._limits.get("statuses") or {}, self._media_limits
        return replace(
            RULES,
            max_length=statuses.get("max_characters") or _LENGTH,
            max_images=statuses.get("max_media_attachments") or _IMAGES,
            max_alt_length=media.get("description_limit") or _ALT,
        )

    @cached_property
    def _limits(self) -> dict[str, Any]:
        # What an instance does not tell is None.
        with self._answers("what its limits are"):
            return dict(self._client.instance_v2().get("configuration") or {})

    @property
    def _media_limits(self) -> dict[str, Any]:
        return dict(self._limits.get("media_attachments") or {})

    def fit(self, draft: Draft) -> Variant:
        """A draft as it goes out here; see `Channel`."""
        return fit(draft, self.rules)

    def publish(self, variant: Variant, key: str) -> Published:
        """Publish its posts, each but the first as a reply to the one before; see `Channel`.

        Raises:
            InvalidInput: the access token is refused, or an image cannot be used.
            SourceUnavailable: an image cannot be read.
            ServiceUnavailable, RateLimited: the same call may be made again.
            RequestRefused: the instance does not take it.
        """
        urls: list[str] = []
        previous: str | None = None
        for number, text in enumerate(variant.posts):
            images = variant.images if number == 0 else ()
            post = partial(self._post, text, previous, images, variant.languages)
            previous, url = self._once(f"{key} {number}", text, previous, post)
            urls.append(url)
        return Published(tuple(urls))

    def _once(
        self, key: str, text: str, reply_to: str | None, post: Callable[[str], tuple[str, str]]
    ) -> tuple[str, str]:
        """A status under a key: its id and its URL.

        The run notes when it begins to send one, and what became of it. What has begun and is not known to have ended
        is looked for first.
        """
        digest = sha256(key.encode()).hexdigest()[:32]
        if not can_keep_notes():
            return post(digest)
        ended = f"status-{digest}"
        known = load_note(ended)
        if known is None:
            began = f"began-{digest}"
            is_new = save_note(began, datetime.now(UTC).isoformat())
            found = None if is_new else self._found(datetime.fromisoformat(load_note(began)), text, reply_to)
            save_note(ended, found or post(digest))
            known = load_note(ended)
        return known[0], known[1]

    def _post(
        self, text: str, reply_to: str | None, images: tuple[Image, ...], languages: tuple[str, ...], key: str
    ) -> tuple[str, str]:
        media = [self._uploaded(image, f"images[{number}]") for number, image in enumerate(images)]
        with self._answers("a status"):
            status: Any = self._client.status_post(
                text,
                in_reply_to_id=reply_to,
                media_ids=media or None,
                # It takes one, and no region.
                language=languages[0].partition("-")[0] if languages else None,
                idempotency_key=key,
            )
        return _shown(status)

    def _uploaded(self, image: Image, field: str) -> Any:
        """An image that stands ready on the server; one that no status takes is deleted there."""
        limits = self._media_limits
        fitted = fit_image(
            read_file(image, field, max_bytes=_MAX_IMAGE_BYTES),
            max_bytes=limits.get("image_size_limit") or _IMAGE_BYTES,
            max_side=isqrt(limits.get("image_matrix_limit") or _IMAGE_PIXELS),
        )
        with self._answers("an image"):
            media = self._client.media_post(fitted.data, fitted.mime_type, description=image.alt or None)
            deadline = time.monotonic() + self._client.request_timeout
            # Until it has been worked on there, no status can take it.
            while media.url is None and time.monotonic() < deadline:
                time.sleep(0.5)
                media = self._client.media(media.id)
        if media.url is None:
            raise ServiceUnavailable(self._url, "an image", None, message="it is still being worked on")
        return media.id

    def _found(self, since: datetime, text: str, reply_to: str | None) -> tuple[str, str] | None:
        """The account's own status of since then that has this text, as it was written, and stands in this place."""
        # Of two with the same text each is found once.
        others = {name for name, _ in load_notes("status-")}
        for status in self._own(since - _OVERLAP):
            in_place = status.in_reply_to_id is None if reply_to is None else str(status.in_reply_to_id) == reply_to
            if in_place and str(status.id) not in others and self._text(status) == text.strip():
                return _shown(status)
        return None

    def _own(self, since: datetime) -> Iterator[Any]:
        """The account's own statuses since then, the newest first."""
        with self._answers("the account's statuses"):
            account = self._client.account_verify_credentials().id
        last: Any = None
        while True:
            with self._answers("the account's statuses"):
                page = self._client.account_statuses(account, exclude_reblogs=True, limit=_PAGE, max_id=last)
            young = [status for status in page if status.created_at >= since]
            yield from young
            if not page or len(young) < len(page):
                return
            last = page[-1].id

    def _text(self, status: Any) -> str | None:
        """A status as it was written; None if it is gone."""
        from mastodon import MastodonNotFoundError

        with self._answers("the text of a status"):
            try:
                return str(self._client.status_source(status.id).text).strip()
            except MastodonNotFoundError:
                return None

    @contextmanager
    def _answers(self, what: str) -> Iterator[None]:
        """What an instance says no to, as an error of ours. Of the client's own errors, some would show a header."""
        from mastodon import MastodonAPIError, MastodonNetworkError, MastodonRatelimitError

        try:
            yield
        except MastodonRatelimitError:
            raise RateLimited(self._url, what, HTTPStatus.TOO_MANY_REQUESTS) from None
        except MastodonNetworkError as trouble:
            reason = type(trouble.__context__ or trouble).__name__
            raise ServiceUnavailable(self._url, what, None, message=reason) from None
        except MastodonAPIError as refusal:
            status, message = _status_of(refusal), str(refusal.args[-1] or "")
            if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise InvalidInput(
                    "access_token",
                    f"{self._url} refuses it: {message}.",
                    "Make one under Preferences > Development, with the scopes that the block's form names.",
                ) from None
            if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise ServiceUnavailable(self._url, what, status, message=message) from None
            raise RequestRefused(self._url, what, status, message=message) from None


@channel_of.register
def _(credentials: MastodonCredentials) -> Channel:
    return MastodonChannel(credentials)


def _status_of(refusal: Exception) -> int | None:
    """The HTTP status of a refusal; None where the answer was none of Mastodon's."""
    status = refusal.args[1] if len(refusal.args) > 1 else None
    return status if isinstance(status, int) else None


def _shown(status: Any) -> tuple[str, str]:
    """A status as it is noted: its id, and where a person sees it."""
    return str(status.id), str(status.url or status.uri)
