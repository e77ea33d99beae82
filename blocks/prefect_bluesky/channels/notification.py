"""A notification block, so that an automation on a Prefect server posts to Bluesky."""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from datetime import timedelta
from uuid import uuid4

from prefect._internal.compatibility.async_dispatch import async_dispatch  # as in Prefect's own notification blocks
from prefect.blocks.abstract import NotificationBlock, NotificationError
from pydantic import ConfigDict, Field, HttpUrl, ValidationError, field_validator

from prefect_bluesky.channels.bluesky import RULES
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError
from prefect_bluesky.posts import Post, ThreadPost, find_entities, normal_language
from prefect_bluesky.prefect_api import as_block_form, in_run, in_thread, logger
from prefect_bluesky.validation import explain_validation_error

_PAUSES = [timedelta(seconds=2), timedelta(seconds=10)]
"""The pauses between attempts after temporary errors. The server's other actions wait meanwhile."""

_SPACE = re.compile(r"\s+")
_MARKS = " ,;:-–—"  # noqa: RUF001 - dashes that a person writes


class BlueskyNotification(NotificationBlock):
    """
    Posts notifications of Prefect's automations to Bluesky, for everybody to read.

    Example:
        Load a stored block and post a notification:
        ```python
        from prefect_bluesky import BlueskyNotification

        news = BlueskyNotification.load("BLOCK_NAME")
        news.notify("It is twice as fast.", subject="Release 2.0 is deployed")
        ```
    """

    # An error message must not show the input, which may be the account's app password.
    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid", json_schema_extra=as_block_form)

    _block_type_name = "Bluesky Notification"
    _block_type_slug = "bluesky-notification"
    _logo_url = HttpUrl("https://bsky.app/static/apple-touch-icon.png")
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/automations")
    _description = "Posts notifications of Prefect's automations to Bluesky. Everybody can read them."

    credentials: BlueskyCredentials = Field(title="Account", description="The account that posts.")
    languages: tuple[str, ...] = Field(
        default=(),
        title="Languages",
        description="Up to three codes of the texts' languages, such as en or pt-BR.",
        examples=[["en"]],
        max_length=3,
    )
    as_thread: bool = Field(
        default=False,
        title="Long texts as threads",
        description="Split a text that is too long for one post into a thread. Otherwise the text is shortened.",
    )

    @field_validator("languages")
    @classmethod
    def _are_languages(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(normal_language, languages))

    async def anotify(self, body: str, subject: str | None = None) -> None:
        """Post a notification, from async code and on a Prefect server; see `notify`."""
        await in_thread(self._notify, body, subject)

    @async_dispatch(anotify)
    def notify(self, body: str, subject: str | None = None) -> None:  # type: ignore[override]  # Prefect's is async
        """Post a notification: the subject, then the body.

        A text that is too long for a post is shortened, or becomes a thread. In a flow run, a retry posts nothing
        twice. Elsewhere, each call is a separate post, and temporary errors are retried.

        Args:
            body: the text.
            subject: the text's heading.

        Raises:
            NotificationError: the notification is not posted. `log` names the cause and the remedy.

        Example:
            >>> BlueskyNotification(credentials=credentials).notify("It took 3 minutes.", subject="Backup is complete")
        """
        self._notify(body, subject)

    def _notify(self, body: str, subject: str | None) -> None:
        try:
            self._publish(self._post(body, subject))
        except ValidationError as unusable:
            raise NotificationError(explain_validation_error(unusable)) from None
        except BlueskyError as error:
            raise NotificationError(str(error)) from error

    def _post(self, body: str, subject: str | None) -> Post:
        parts = [part.replace("\0", "").strip() for part in (subject or "", body)]
        texts = _texts("\n\n".join(filter(None, parts)), RULES.max_posts if self.as_thread else 1)
        return Post(text=texts[0], languages=self.languages, thread=tuple(ThreadPost(text=text) for text in texts[1:]))

    def _publish(self, post: Post) -> None:
        # All attempts of a call have one key. Prefect says of no call for which event it is.
        key = None if in_run() else f"notification {uuid4()}"
        for pause in (*_PAUSES, None):
            try:
                published = self.credentials.publish(post, key)
            except BlueskyError as error:
                if not error.retryable or pause is None:
                    raise
                logger().warning("The notification is not posted yet: %s", error)
                time.sleep(pause.total_seconds())
            else:
                logger().info("Posted %s", published.url)
                return


def _texts(text: str, most: int) -> list[str]:
    """Return a text as at most so many posts. What is left over is cut off from the last one."""
    pieces = RULES.split(text) if most > 1 else [text]
    return [*pieces[: most - 1], *([_shortened(" ".join(pieces[most - 1 :]))] if len(pieces) >= most else [])]


def _shortened(text: str) -> str:
    """Cut a text that is too long for a post after a word, and end it with an ellipsis."""
    if not RULES.excess(text):
        return text
    ends = [found.start() for found in _SPACE.finditer(text)]
    fitting = bisect_left(ends, True, key=lambda end: bool(RULES.excess(f"{text[:end]} …")))
    if not fitting:
        return RULES.shortened(text)
    kept = text[: ends[fitting - 1]]
    if any(entity.end == len(kept) for entity in find_entities(kept)):
        return f"{kept} …"  # without the space, the ellipsis would be part of a link
    return f"{kept.rstrip(_MARKS)}…"
