"""A post or a thread, as a person writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field, field_validator, model_validator

from prefect_bluesky.posts.attachments import Image, LinkCard, Video, is_web_address
from prefect_bluesky.posts.language import normal_language
from prefect_bluesky.posts.limits import MAX_BYTES, MAX_GRAPHEMES, MAX_IMAGES, MAX_POSTS
from prefect_bluesky.posts.preview import Preview, preview_without_account
from prefect_bluesky.posts.richtext import (
    MAX_TAG_GRAPHEMES,
    SHOWN,
    WRITTEN,
    count_graphemes,
    find_entities,
    is_short_tag,
    trimmed,
)
from prefect_bluesky.posts.split import split_text
from prefect_bluesky.posts.times import Time, in_utc
from prefect_bluesky.prefect_api import Written, as_form
from prefect_bluesky.protocol import (
    KINDS,
    LIST_COLLECTION,
    POST_COLLECTION,
    STARTER_PACK,
    is_short_address,
    parse_reference,
)

_MAX_TEXT = MAX_POSTS * MAX_BYTES

Label = Literal["sexual", "nudity", "porn", "graphic-media"]
"""The content warnings that authors may set (lexicons/com/atproto/label/defs.json)."""

REPLY_RULES = {"mentioned": "mentionRule", "followers": "followerRule", "following": "followingRule"}
"""The groups of people who may reply, with their names in lexicons/app/bsky/feed/threadgate.json."""

NOBODY = "nobody"

_UTC = ZoneInfo("UTC")


class ThreadPost(Written):
    """A post that continues a thread."""

    # An error hides the input, because a URL in the input may hold a signature.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, json_schema_extra=as_form)

    text: str = Field(
        default="",
        title="Text",
        description=f"Up to {MAX_GRAPHEMES} characters (graphemes). Links, @mentions and #hashtags become clickable.",
        examples=["Hello from Prefect! https://prefect.io #automation"],
    )
    images: tuple[Image, ...] = Field(
        default=(),
        title="Images",
        description=f"Up to {MAX_IMAGES}. More than four are shown as a gallery.",
        max_length=MAX_IMAGES,
    )
    video: Video | None = Field(default=None, title="Video", description="One video, instead of images.")
    link_card: LinkCard | None = Field(
        default=None,
        title="Link card",
        description="A card with a page's title, description and picture, instead of images.",
    )
    quote: str | None = Field(
        default=None,
        title="Quote",
        description="The post, list or feed to show below the text: its at:// URI or its address in the Bluesky app.",
        examples=["https://bsky.app/profile/bsky.app/post/3l6oveex3ii2l"],
    )
    languages: tuple[str, ...] = Field(
        default=(),
        title="Languages",
        description="Up to three codes, such as en or pt-BR. The first post's languages apply to the whole thread.",
        examples=[["en"]],
        max_length=3,
    )
    labels: tuple[Label, ...] = Field(
        default=(), title="Content warnings", description="What the pictures show. Apps hide such pictures at first."
    )
    tags: tuple[str, ...] = Field(
        default=(),
        title="Tags",
        description="Up to eight hashtags that are not in the text.",
        examples=[["automation"]],
        max_length=8,
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @field_validator("text")
    @classmethod
    def _is_text(cls, text: str) -> str:
        size = _size_of(text)
        if "\0" in text:
            raise ValueError(f"character {text.index(chr(0)) + 1} is U+0000, which no database keeps. Remove it.")
        if size > _MAX_TEXT:
            raise ValueError(f"it has {size:,} bytes, and a thread takes up to {_MAX_TEXT:,}. Shorten it.")
        return text

    @field_validator("languages", "labels", "tags", mode="before")
    @classmethod
    def _from_words(cls, value: Any) -> Any:
        return [part.strip() for part in re.split(r"[,;]", value) if part.strip()] if isinstance(value, str) else value

    @field_validator("images", mode="before")
    @classmethod
    def _from_one_image(cls, value: Any) -> Any:
        return [value] if value and isinstance(value, str | bytes | Path | dict | Image) else value or ()

    @field_validator("quote", mode="before")
    @classmethod
    def _is_quotable(cls, quote: Any) -> Any:
        return _reference(quote, *KINDS)

    @field_validator("languages")
    @classmethod
    def _are_languages(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(normal_language, languages))

    @field_validator("tags")
    @classmethod
    def _are_tags(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        tags = tuple(" ".join(tag.split()).lstrip("#＃") for tag in tags)
        for tag in tags:
            _size_of(tag)
            if not tag or not is_short_tag(tag):
                raise ValueError(f"{tag!r} is not a tag. Write 1 to {MAX_TAG_GRAPHEMES} characters.")
        return tags

    @model_validator(mode="after")
    def _shows_one_thing(self) -> Self:
        given = [name for name in ("images", "video", "link_card") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: a post shows one of them. Move the other to the next post.")
        if (card := _card_of(self)) and not card.url:
            raise ValueError("link_card: there is no link in the text. Give the card a url.")
        return self


class Post(ThreadPost):
    """A post as a person writes it, or the first post of a thread.

    A plain string is accepted in place of a `Post`, and a list of strings or posts is a thread.

    Raises:
        InvalidInput: a field cannot be published. The message names the field and the remedy, and how many characters
            or bytes a text is too long.

    Example:
        >>> Post(text="Hello from #Prefect").text
        'Hello from #Prefect'
        >>> thread = Post.model_validate(["A thread", "of two"])
        >>> [post.text for post in thread.posts()]
        ['A thread', 'of two']
    """

    thread: tuple[ThreadPost, ...] = Field(
        default=(), title="Thread", description="The posts that continue this one. Either all are published, or none."
    )
    split_long_text: bool = Field(
        default=False,
        title="Split a long text",
        description="Make a thread of a text that is too long, cut after a paragraph, else a sentence, else a word.",
    )
    numbered: bool = Field(
        default=False,
        title="Number the posts",
        description="Begin each post of a thread with 1/3, 2/3, 3/3. The Bluesky app shows such numbers by itself.",
    )
    shorten_links: bool = Field(
        default=True,
        title="Shorten links",
        description="Show long links shortened, as the Bluesky app does. The targets stay, and links count as shown.",
    )
    reply_to: str | None = Field(
        default=None,
        title="Reply to",
        description="The post to answer: its at:// URI or its address in the Bluesky app.",
        examples=["https://bsky.app/profile/bsky.app/post/3l6oveex3ii2l"],
    )
    replies_from: tuple[str, ...] = Field(
        default=(),
        title="Replies from",
        description=(
            "Who may reply: mentioned, followers, following, or lists by their URI or address; or nobody. If empty,"
            " everybody."
        ),
        examples=[["mentioned", "followers"]],
        max_length=5,
    )
    quotable: bool = Field(default=True, title="May be quoted", description="Whether others may quote the post.")
    expires: Time = Field(
        default=None,
        title="Expires",
        description=(
            "Until when the post makes sense. If it could not be sent by then, it is not sent, and you are told. A time"
            " without an offset is in UTC, or in a calendar's time zone."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or not value:
            return value
        first = cls.model_validate(value[0])
        return {**dict(first), "thread": [*first.thread, *value[1:]]}

    @field_validator("thread")
    @classmethod
    def _continues(cls, thread: tuple[ThreadPost, ...]) -> tuple[ThreadPost, ...]:
        for number, post in enumerate(thread):
            for name in Post.model_fields.keys() - ThreadPost.model_fields.keys():
                if getattr(post, name, None) not in {None, Post.model_fields[name].default}:
                    raise ValueError(f"thread[{number}].{name}: only the first post of a thread has it. Leave it out.")
        return thread

    @field_validator("reply_to", mode="before")
    @classmethod
    def _is_answerable(cls, reply_to: Any) -> Any:
        return _reference(reply_to, POST_COLLECTION)

    @field_validator("replies_from")
    @classmethod
    def _are_rules(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        if NOBODY in rules and len(rules) > 1:
            raise ValueError(f"{NOBODY} cannot be combined with other rules. Give {NOBODY} alone.")
        known = sorted({*REPLY_RULES, NOBODY})
        for rule in rules:
            if rule not in known and parse_reference(rule).collection != LIST_COLLECTION:
                raise ValueError(f"{rule!r} is not a list. Write {', '.join(known)} or the address of a list.")
        return rules

    @model_validator(mode="after")
    def _can_be_published(self) -> Self:
        if self.reply_to and self.replies_from:
            raise ValueError("replies_from: the post that this one replies to decides who may reply. Leave it out.")
        for field, post in self._written():
            if not (post.text.strip() or post.images or post.video or post.link_card or post.quote):
                raise ValueError(f"{field}text: the post is empty. Write something.")
        parts = self.parts()
        if len(parts) > MAX_POSTS:
            raise ValueError(f"thread: it has {len(parts)} posts, {len(parts) - MAX_POSTS} over the limit. Shorten it.")
        for field, post in parts:
            self._check_length(f"{field}text", post.text)
        return self

    def posts(self) -> tuple[ThreadPost, ...]:
        """Return the posts as they will appear: long texts split and posts numbered, if the fields ask for that."""
        return tuple(post for _, post in self.parts())

    def parts(self) -> tuple[tuple[str, ThreadPost], ...]:
        """Return the posts as they will appear, each with the prefix of its fields' names: none, or `thread[0].`."""
        parts = [(prefix, piece) for prefix, post in self._written() for piece in self._pieces(post)]
        is_numbered = self.numbered and len(parts) > 1

        def final(number: int, post: ThreadPost) -> ThreadPost:
            text = f"{number}/{len(parts)} {post.text}".rstrip() if is_numbered else post.text
            languages = post.languages or self.languages
            return post.model_copy(update={"text": text, "languages": languages, "link_card": _card_of(post)})

        return tuple((prefix, final(number, post)) for number, (prefix, post) in enumerate(parts, 1))

    def attachments(self) -> Iterator[tuple[str, Image | Video | LinkCard]]:
        """Yield each attachment with the name of its field."""
        for field, post in self._written():
            yield from ((f"{field}images[{index}]", image) for index, image in enumerate(post.images))
            if post.video:
                yield f"{field}video", post.video
            if post.link_card:
                yield f"{field}link_card", post.link_card

    def preview(self) -> Preview:
        """Return a preview without an account: files and pages are loaded, but Bluesky is not called.

        Mentions stay text, quotes are not looked up, and the record keys are examples. `publish(..., dry_run=True)`
        shows the real ones.

        Raises:
            InvalidInput: an attachment cannot be used.
            SourceUnavailable: an attachment cannot be read.

        Example:
            >>> print(Post(text="Hello from Prefect").preview())
            [1/1] 18 characters, 18 bytes
            Hello from Prefect
        """
        return preview_without_account(self)

    def content(self) -> str:
        """Return as JSON what tells the post from others: all but the time at which it expires."""
        return self.model_dump_json(exclude_defaults=True, exclude={"expires"})

    def in_zone(self, zone: ZoneInfo) -> Self:
        """Return the post with a time that has an offset. A time without one is taken as a time of the zone."""
        return self.model_copy(update={"expires": in_utc(self.expires, zone)}) if self.expires else self

    def expired_at(self, now: datetime) -> datetime | None:
        """Return since when the post makes no sense any more, or None if it still does."""
        return self.expires if self.expires and in_utc(self.expires, _UTC) <= now else None

    def stands_alone(self) -> bool:
        """Return True if the post needs nothing that may disappear before a retry: no file, page or other record."""
        refers = self.reply_to or self.replies_from or any(post.quote for _, post in self._written())
        return not refers and not any(self.attachments())

    def _written(self) -> Iterator[tuple[str, ThreadPost]]:
        """Yield the posts as written, each with the prefix of its fields' names."""
        first = ThreadPost.model_construct(**{name: getattr(self, name) for name in ThreadPost.model_fields})
        yield "", _trimmed(first)
        yield from ((f"thread[{number}].", _trimmed(post)) for number, post in enumerate(self.thread))

    def _pieces(self, post: ThreadPost) -> list[ThreadPost]:
        if not self.split_long_text:
            return [post]
        reserve = len(f"{MAX_POSTS}/{MAX_POSTS} ") if self.numbered else 0
        max_length, max_bytes = MAX_GRAPHEMES - reserve, MAX_BYTES - reserve
        graphemes, size = self._measure(post.text)
        if graphemes <= max_length and size <= max_bytes:
            return [post]
        measure = SHOWN if self.shorten_links else WRITTEN
        language = next(iter(post.languages or self.languages), "")
        texts = split_text(post.text, max_length=max_length, max_bytes=max_bytes, measure=measure, language=language)
        # The first piece keeps the attachments, but a card goes with the link that it belongs to.
        pieces = [ThreadPost.model_construct(text=text) for text in texts]
        pieces[0] = post.model_copy(update={"text": texts[0], "link_card": None})
        if card := _card_of(post):
            place = next((number for number, piece in enumerate(pieces) if _holds_link(piece.text, card.url)), 0)
            pieces[place] = pieces[place].model_copy(update={"link_card": card})
        return pieces

    def _measure(self, text: str) -> tuple[int, int]:
        """Return the characters and bytes of a text as it will be shown."""
        graphemes, size = count_graphemes(text), len(text.encode())
        if self.shorten_links and (graphemes > MAX_GRAPHEMES or size > MAX_BYTES):
            text = SHOWN.of(text)
            return count_graphemes(text), len(text.encode())
        return graphemes, size

    def _check_length(self, field: str, text: str) -> None:
        graphemes, size = self._measure(text)
        for count, limit, unit in ((graphemes, MAX_GRAPHEMES, "characters"), (size, MAX_BYTES, "bytes")):
            if count > limit:
                raise ValueError(
                    f"{field}: it has {count} {unit}, {count - limit} over the limit of {limit}. Shorten it, or"
                    " set split_long_text to make a thread of it."
                )


def _size_of(text: str) -> int:
    """Return how many bytes of UTF-8 a text has."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as broken:
        raise ValueError(
            f"character {broken.start + 1} is half of a surrogate pair, which is not valid text. Remove it."
        ) from None


def _trimmed(post: ThreadPost) -> ThreadPost:
    # The field keeps what the person has written: it names the post, in calendars that are read again.
    text = trimmed(post.text)
    return post if text == post.text else post.model_copy(update={"text": text})


def _reference(value: Any, *kinds: str) -> Any:
    uri = getattr(value, "uri", value)  # a PublishedPost has a `uri`
    if isinstance(uri, str) and is_short_address(uri) and STARTER_PACK in kinds:
        return uri
    if isinstance(uri, str) and uri and parse_reference(uri).collection not in kinds:
        raise ValueError(f"{uri!r} is a record of the wrong kind. Its kind must be {' or '.join(kinds)}.")
    return uri or None


def _card_of(post: ThreadPost) -> LinkCard | None:
    """Return the post's link card; a card without a URL gets that of the first link in the text."""
    card = post.link_card
    if card is None or card.url:
        return card
    links = (each.value for each in find_entities(post.text) if each.kind == "link" and is_web_address(each.value))
    return card.model_copy(update={"url": next(links, None)})


def _holds_link(text: str, url: str | None) -> bool:
    return any(entity.value == url for entity in find_entities(text))
