"""Posts planned for an account and a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from prefect_bluesky.planning.recurrence import cron_of, is_at_most_daily, occurrences
from prefect_bluesky.posts import Post, Time, in_utc
from prefect_bluesky.prefect_api import as_form
from prefect_bluesky.validation import explain_validation_error, nearest

KEYLESS = "planned-"
"""The beginning of the keys of posts that a person has given no key."""

AHEAD = timedelta(weeks=4)
"""How far ahead repeated posts are planned."""

_UTC = ZoneInfo("UTC")
_NAME = re.compile(r"[a-z0-9-]+")


class PlannedPost(BaseModel):
    """A post with its account and its time.

    The post's own fields can be given beside the account: `{"account": "alice", "text": "Hello"}`.

    Raises:
        pydantic.ValidationError: the post cannot be published, or a field is unknown. The message names the field.

    Example:
        >>> planned = PlannedPost(account="alice", post="Good morning", at="2026-12-01T08:00+01:00")
        >>> planned.post.text
        'Good morning'
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra=as_form,
        # People write a key such as 2026 without quotes in YAML and JSON.
        coerce_numbers_to_str=True,
    )

    account: str = Field(
        title="Account", description="The name of the account's saved Bluesky Credentials block.", examples=["alice"]
    )
    post: Post = Field(title="Post", description="What to publish.")
    at: Time = Field(default=None, title="Time", description="When to publish the post. Left out or in the past: now.")
    key: str | None = Field(
        default=None,
        title="Key",
        description="A name for this post, unique within the account: each key is published once.",
        examples=["release-2.0"],
    )

    repeat: str | None = Field(
        default=None,
        title="Repeat",
        description="How often the post goes out, from its time on: daily, weekdays, weekly, monthly, or as cron.",
        examples=["weekly", "0 9 * * 1"],
    )
    until: Time = Field(default=None, title="Until", description="When a repeated post goes out for the last time.")
    variants: tuple[str, ...] = Field(
        default=(), title="Variants", description="Other texts of a repeated post, which take turns with its own text."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_fields_of_the_post(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known = cls.model_fields.keys() | Post.model_fields.keys()
        for name in map(str, value.keys() - known):
            if near := nearest(name, known):
                raise ValueError(f"{name}: there is no such field. Did you mean {near}?")
        written = {name: each for name, each in value.items() if name in Post.model_fields}
        if not written:
            return value
        if "post" in value:
            raise ValueError(f"post: {' and '.join(written)} given beside post. Move all fields of the post into it.")
        return {name: each for name, each in value.items() if name not in written} | {"post": written}

    @field_validator("account")
    @classmethod
    def _names_a_block(cls, account: str) -> str:
        account = account.strip()
        if not _NAME.fullmatch(account):
            raise ValueError(f"{account!r} is not a block's name. Use only lower-case letters, digits and dashes.")
        return account

    @field_validator("key")
    @classmethod
    def _is_a_line(cls, key: str | None) -> str | None:
        if key and not key.isprintable():
            raise ValueError("the key has characters that cannot be printed. Write one line of text.")
        return key or None

    @model_validator(mode="after")
    def _can_repeat(self) -> Self:
        if not self.repeat:
            if self.until or self.variants:
                name = "until" if self.until else "variants"
                raise ValueError(f"{name}: only repeated posts have it. Write repeat: weekly, or remove it.")
            return self
        if self.at is None:
            raise ValueError("at: a repeated post needs the time at which it first goes out. Write it.")
        cron_of(self.repeat, self.at)
        if self.until and in_utc(self.until, _UTC) < in_utc(self.at, _UTC):
            raise ValueError("until: it is before the first time, so the post never goes out. Correct one of them.")
        for number, text in enumerate(self.variants):
            try:
                self._with_text(text)
            except ValidationError as unusable:
                raise ValueError(f"variants[{number}]: {explain_validation_error(unusable)}") from None
        return self

    def _with_text(self, text: str) -> Post:
        """Return the post with another text."""
        return Post.model_validate(self.post.model_dump(exclude_unset=True) | {"text": text})

    def in_turn(self, timezone: ZoneInfo, now: datetime) -> Iterator[PlannedPost]:
        """Yield the post, or for a repeated post one with a key of its own for each time in the next four weeks.

        Args:
            timezone: the time zone of times without an offset.
            now: the time.
        """
        if not self.repeat or not self.at:
            yield self
            return
        first = self.at if self.at.tzinfo else self.at.replace(tzinfo=timezone)
        until = in_utc(self.until, timezone) if self.until else None
        said = f"{self.repeat} {self.post.content()} {self.variants}"
        base = self.key or f"{KEYLESS}{sha256(said.encode()).hexdigest()[:32]}"
        texts = (self.post.text, *self.variants)
        alone = {"repeat": None, "until": None, "variants": ()}
        is_daily = is_at_most_daily(self.repeat, first)
        for number, at in occurrences(self.repeat, first, until, now, now + AHEAD):
            text = texts[number % len(texts)]
            post = self._with_text(text) if number % len(texts) else self.post
            # The day alone, if it can: a post that goes out an hour later is the same.
            when = f"{at:%Y-%m-%d}" if is_daily else f"{at.astimezone(UTC):%Y-%m-%d %H:%MZ}"
            yield self.model_copy(update=alone | {"post": post, "at": at, "key": f"{base} {when}"})

    def with_time_and_key(self, timezone: ZoneInfo, occasion: str = "") -> PlannedPost:
        """Return the post with its times, which then have an offset, and with a key.

        Args:
            timezone: the time zone of times without an offset.
            occasion: tells posts without a time apart if an equal post was published before.
        """
        at = self.at and (self.at if self.at.tzinfo else self.at.replace(tzinfo=timezone))
        when = in_utc(at, timezone).isoformat() if at else occasion
        digest = sha256(f"{when} {self.post.content()}".encode()).hexdigest()
        key = self.key or f"{KEYLESS}{digest[:32]}"
        return self.model_copy(update={"at": at, "key": key, "post": self.post.in_zone(timezone)})
