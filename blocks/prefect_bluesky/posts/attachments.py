"""The attachments of a post: images, a video, a link card. Only their sources are named here; nothing is loaded."""

from __future__ import annotations

from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from prefect_bluesky.media import File
from prefect_bluesky.posts.language import normal_language
from prefect_bluesky.prefect_api import Written, as_form

MAX_ALT_LENGTH = 2000
"""The limit of the Bluesky app's own editor (bluesky-social/social-app, src/lib/constants.ts). The lexicon has none."""


class Image(File):
    """An image. Publishing turns it upright, removes its metadata and makes it fit Bluesky's limits.

    Raises:
        InvalidInput: the alt text is too long, or there is no source.

    Example:
        >>> Image(source="cat.jpg", alt="A cat on a keyboard").alt
        'A cat on a keyboard'
    """

    alt: str = Field(
        default="",
        title="Alt text",
        description="What the image shows, for people who cannot see it.",
        examples=["A cat on a keyboard"],
        max_length=MAX_ALT_LENGTH,
    )


class Captions(File):
    """Captions of a video in one language, as a WebVTT file of up to 20,000 bytes.

    Example:
        >>> Captions(source="talk.de.vtt", language="de").language
        'de'
    """

    language: str = Field(
        title="Language", description="The captions' language, such as en or pt-BR.", examples=["en", "pt-BR"]
    )

    _normal_language = field_validator("language")(normal_language)


class Video(File):
    """A video: an MP4 file of up to 300 MB, or a moving GIF. Bluesky's video service makes it playable first.

    Raises:
        InvalidInput: there are over 20 captions.

    Example:
        >>> Video(source="talk.mp4", alt="A talk about Prefect", captions=[Captions(source="t.vtt", language="en")]).alt
        'A talk about Prefect'
    """

    alt: str = Field(default="", title="Alt text", description="What the video shows, for people who cannot see it.")
    captions: tuple[Captions, ...] = Field(
        default=(), title="Captions", description="Up to 20 files, one per language.", max_length=20
    )
    presentation: Literal["", "gif"] = Field(
        default="",
        title="Presentation",
        description="gif: play without a sound, again and again, as the app does with a GIF. A GIF is always shown so.",
    )


class LinkCard(Written):
    """A card with a page's title, description and picture, as the page itself gives them.

    Raises:
        InvalidInput: the URL is not a web address.

    Example:
        >>> LinkCard(url="https://example.com").url
        'https://example.com'
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, title="Link card", json_schema_extra=as_form
    )

    url: str | None = Field(
        default=None,
        title="URL",
        description="The page. If empty, the first link in the text.",
        examples=["https://example.com/news"],
    )
    title: str | None = Field(default=None, title="Title", description="If empty, the page's own.", max_length=1000)
    description: str | None = Field(
        default=None, title="Description", description="If empty, the page's own.", max_length=3000
    )
    thumbnail: File | None = Field(default=None, title="Picture", description="If empty, the page's own.")

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_a_web_page(self) -> Self:
        if self.url and not is_web_address(self.url):
            raise ValueError("url: it is not a web address. Begin it with https:// or http://, without a password.")
        return self


def is_web_address(url: str) -> bool:
    """Return True if a URL begins with https:// or http:// and holds no password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    whole = not any(character.isspace() for character in url) and url.isprintable()
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and whole and "@" not in parts.netloc
