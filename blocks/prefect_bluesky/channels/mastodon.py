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

from prefect_bluesky.channels.base import Published, channel_of
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
"""The largest image file that is read. A large image is scaled down afterwards."""

# Mastodon 4's defaults (app/validators/status_length_validator.rb, app/models/media_attachment.rb). Limits that an
# instance reports replace them.
_LENGTH, _URL_LENGTH, _IMAGES, _ALT = 500, 23, 4, 1500
_IMAGE_BYTES, _IMAGE_PIXELS = 16 * 1024 * 1024, 33_177_600

_BETWEEN_LOOKS = 0.5
"""Seconds between two questions whether an image has been processed."""

_OVERLAP = timedelta(minutes=1)
"""The largest tolerated lag of an instance's clock behind ours."""

_KEY_REMEMBERED = timedelta(hours=1)
"""How long Mastodon remembers an idempotency key (app/services/post_status_service.rb)."""

_NOT_OURS = {None, "Endpoint not found."}
"""What Mastodon.py puts in place of the message if the answer is not Mastodon's: a firewall's page, for example."""

_PAGE = 40
"""The largest number of statuses in one response (docs.joinmastodon.org/methods/accounts)."""

# Mastodon finds no link after these characters (its twitter_regex.rb). If Mastodon finds a link that this pattern
# misses, we count more characters than Mastodon does.
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
        # Mastodon takes a following letter as part of the mention.
        return entity.value if re.match(r"\w", follows) else f"@{entity.value.split('@')[1]}"
    with extra("compose", "channels"):
        from mastodon import Mastodon

    if not follows or follows.isspace():
        return "x" * Mastodon.get_status_length(entity.value)
    # The next character may belong to the link or break the link. Mastodon never counts more than both lengths.
    return "x" * (_URL_LENGTH + len(entity.value))


COUNTED = Measure(_entities, _counted)
"""Counts as Mastodon does: each link as 23 characters, and a mention without its server."""

RULES = Rules("Mastodon", _LENGTH, max_posts=MAX_POSTS, max_images=_IMAGES, max_alt_length=_ALT, measure=COUNTED)
"""The rules of an instance with Mastodon's default limits."""


class MastodonChannel:
    """A Mastodon account, as a channel.

    A server remembers an idempotency key for one hour. A flow run notes each status that it sends. A retry, however
    late, therefore knows the published statuses, and searches the account's own statuses for an unconfirmed one.
    Outside a run, the same key may be sent again within the hour.
    """

    def __init__(self, credentials: MastodonCredentials) -> None:
        self._url = credentials.instance_url
        self._client: Mastodon = credentials.get_client()
        self._published: dict[str, tuple[str, str]] = {}

    @cached_property
    def rules(self) -> Rules:
        """The limits that the instance reports, else Mastodon's defaults."""
        return replace(
            RULES,
            max_length=self._limit("statuses", "max_characters", _LENGTH),
            max_images=self._limit("statuses", "max_media_attachments", _IMAGES),
            max_alt_length=self._limit("media_attachments", "description_limit", _ALT),
        )

    @cached_property
    def _limits(self) -> dict[str, Any]:
        with self._errors_of("the request for its limits"):
            instance = self._client.instance_v2()
        return dict(self._checked(instance, "the request for its limits", "version").get("configuration") or {})

    def _limit(self, kind: str, name: str, default: int) -> int:
        # A limit that the instance does not report is None.
        return (self._limits.get(kind) or {}).get(name) or default

    def fit(self, draft: Draft) -> Variant:
        return fit(draft, self.rules)

    def publish(self, variant: Variant, key: str) -> Published:
        """Publish the posts, each as a reply to the previous post; see `Channel`."""
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
        """Publish a status once under a key, and return its id and URL.

        The run notes the start and the result of each sending. If only the start is noted, search for the status first.
        """
        digest = sha256(key.encode()).hexdigest()[:32]
        if not can_keep_notes():
            if digest not in self._published:
                self._published[digest] = self._posted_or_found(digest, text, reply_to, post)
            return self._published[digest]
        ended = f"status-{digest}"
        known = load_note(ended)
        if known is None:
            began = f"began-{digest}"
            is_new = save_note(began, datetime.now(UTC).isoformat())
            found = None if is_new else self._find(datetime.fromisoformat(load_note(began)), text, reply_to)
            save_note(ended, found or post(digest))
            known = load_note(ended)
        return known[0], known[1]

    def _posted_or_found(
        self, digest: str, text: str, reply_to: str | None, post: Callable[[str], tuple[str, str]]
    ) -> tuple[str, str]:
        """Publish a status, and look for it if the answer does not say that it is out.

        A status that is out already may get a 500 under its key: https://github.com/mastodon/mastodon/issues/40399.
        """
        since = datetime.now(UTC) - _KEY_REMEMBERED
        try:
            return post(digest)
        except ServiceUnavailable:
            found = self._find(since, text, reply_to)
            if found is None:
                raise
            return found

    def _post(
        self, text: str, reply_to: str | None, images: tuple[Image, ...], languages: tuple[str, ...], key: str
    ) -> tuple[str, str]:
        media = [self._upload(image, f"images[{number}]") for number, image in enumerate(images)]
        with self._errors_of("a status"):
            status: Any = self._client.status_post(
                text,
                in_reply_to_id=reply_to,
                media_ids=media or None,
                # Mastodon accepts one language, without a region.
                language=languages[0].partition("-")[0] if languages else None,
                idempotency_key=key,
            )
        return _id_and_url(self._checked(status, "a status"))

    def _upload(self, image: Image, field: str) -> Any:
        """Upload an image, and return its id once the server has processed it. The server deletes unused images."""
        fitted = fit_image(
            read_file(image, field, max_bytes=_MAX_IMAGE_BYTES),
            max_bytes=self._limit("media_attachments", "image_size_limit", _IMAGE_BYTES),
            max_side=isqrt(self._limit("media_attachments", "image_matrix_limit", _IMAGE_PIXELS)),
        )
        with self._errors_of("an image"):
            media: Any = self._client.media_post(fitted.data, fitted.mime_type, description=image.alt or None)
            deadline = time.monotonic() + self._client.request_timeout
            # A status cannot use the image before the server has processed it.
            while self._checked(media, "an image").url is None and time.monotonic() < deadline:
                time.sleep(_BETWEEN_LOOKS)
                media = self._client.media(media.id)
        if media.url is None:
            raise ServiceUnavailable(self._url, "an image", None, message="the image is still being processed")
        return media.id

    def _find(self, since: datetime, text: str, reply_to: str | None) -> tuple[str, str] | None:
        """Find the account's own status since then with this source text and this parent."""
        # Skip statuses that another note names, so that of two posts with the same text each is found once.
        noted = load_notes("status-") if can_keep_notes() else self._published.values()
        others = {name for name, _ in noted}
        for status in self._statuses_since(since - _OVERLAP):
            in_place = status.in_reply_to_id is None if reply_to is None else str(status.in_reply_to_id) == reply_to
            if in_place and str(status.id) not in others and self._source_text(status) == text.strip():
                return _id_and_url(status)
        return None

    def _statuses_since(self, since: datetime) -> Iterator[Any]:
        """Yield the account's own statuses, newest first."""
        with self._errors_of("the account's statuses"):
            account = self._checked(self._client.account_verify_credentials(), "the account's statuses").id
        last: Any = None
        while True:
            with self._errors_of("the account's statuses"):
                page = self._client.account_statuses(account, exclude_reblogs=True, limit=_PAGE, max_id=last)
            if not all(hasattr(status, "created_at") for status in page):
                raise self._not_ours("the account's statuses")
            young = [status for status in page if status.created_at >= since]
            yield from young
            if not page or len(young) < len(page):
                return
            last = page[-1].id

    def _source_text(self, status: Any) -> str | None:
        """Return the text of a status as it was written; None if the status was deleted."""
        from mastodon import MastodonNotFoundError

        with self._errors_of("the text of a status"):
            try:
                source = self._client.status_source(status.id)
                return str(self._checked(source, "the text of a status").text).strip()
            except MastodonNotFoundError:
                return None

    def _checked(self, entity: Any, request: str, what: str = "id") -> Any:
        """Return an entity of an answer, which has what every such entity has. The client takes any JSON for one."""
        if getattr(entity, what, None) is None:
            raise self._not_ours(request)
        return entity

    def _not_ours(self, request: str) -> ServiceUnavailable:
        return ServiceUnavailable(self._url, request, HTTPStatus.OK, message="the answer is not Mastodon's")

    @contextmanager
    def _errors_of(self, request: str) -> Iterator[None]:
        """Raise our errors instead of the client's, some of which would show a header."""
        from mastodon import MastodonAPIError, MastodonNetworkError, MastodonRatelimitError

        try:
            yield
        except MastodonRatelimitError:
            raise RateLimited(self._url, request, HTTPStatus.TOO_MANY_REQUESTS) from None
        except MastodonNetworkError as trouble:
            reason = type(trouble.__context__ or trouble).__name__
            raise ServiceUnavailable(self._url, request, None, message=reason) from None
        except MastodonAPIError as refusal:
            status, message = _status_of(refusal), str(refusal.args[-1] or "")
            if status is None or refusal.args[-1] in _NOT_OURS:
                raise ServiceUnavailable(self._url, request, status or HTTPStatus.OK) from None
            if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                remedy = "Create one under Preferences > Development, with the scopes that the block's form lists."
                raise InvalidInput("access_token", f"{self._url} refuses it: {message}.", remedy) from None
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise ServiceUnavailable(self._url, request, status, message) from None
            raise RequestRefused(self._url, request, status, message) from None


channel_of.register(MastodonCredentials, MastodonChannel)


def _status_of(refusal: Exception) -> int | None:
    """Return the HTTP status of a refusal; None if the answer did not come from Mastodon."""
    status = refusal.args[1] if len(refusal.args) > 1 else None
    return status if isinstance(status, int) else None


def _id_and_url(status: Any) -> tuple[str, str]:
    return str(status.id), str(status.url or status.uri)
