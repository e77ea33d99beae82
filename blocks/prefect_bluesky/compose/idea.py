"""An idea, and its readers: from a sentence, notes, the page behind a link, or a file."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from prefect_bluesky.channels import Draft, Kind, Rules
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.extras import extra
from prefect_bluesky.media import (
    File,
    is_draft,
    read_file,
    read_markdown,
    read_web_page,
    resolve_files,
    split_front_matter,
)
from prefect_bluesky.posts import Image, find_entities, is_web_address, normal_language, tidy
from prefect_bluesky.prefect_api import as_form
from prefect_bluesky.validation import explain_validation_error
from prefect_bluesky.web import text_of

MAX_BYTES = 2_000_000
"""The largest part of a page or file that is read; a long book has half as many bytes."""

MAX_TEXT = 50_000
"""The largest number of characters of an idea: several longest threads, and short enough to be kept with a run."""

_MARKDOWN = {".md", ".markdown"}
_TEXT = {".txt", ""}
_FIELDS = ("title", "link", "languages")

_LINK_ALONE = re.compile(r"(?::\s*|\n\s*|(?<=[.!?…。！？])\s+)(https?://\S+)\Z", re.IGNORECASE)
"""A link at the end, on a line of its own, behind a colon or behind a sentence."""


class Idea(BaseModel):
    """An idea to publish posts about.

    Raises:
        pydantic.ValidationError: the text and the title are empty, or a field is not valid.

    Example:
        >>> Idea(text="Release 2.0 is out. It is twice as fast.", link="https://example.com/2.0").title
        ''
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, json_schema_extra=as_form)

    text: str = Field(default="", title="Text", description="A sentence, or paragraphs of text.", max_length=MAX_TEXT)
    title: str = Field(default="", title="Title", description="If empty, the first sentence.", max_length=1000)
    link: str | None = Field(default=None, title="Link", description="A page to read more.")
    images: tuple[Image, ...] = Field(default=(), title="Images", description="The images of the idea.")
    languages: tuple[str, ...] = Field(default=(), title="Languages", description="Up to three codes.", max_length=3)

    @field_validator("text", "title")
    @classmethod
    def _is_tidy(cls, text: str) -> str:
        return tidy(text)

    @field_validator("languages")
    @classmethod
    def _are_languages(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(normal_language, languages))

    @field_validator("link")
    @classmethod
    def _is_a_web_page(cls, link: str | None) -> str | None:
        if link and not is_web_address(link):
            raise ValueError("it is no web address. Give one with https:// or http://, and without a password.")
        return link or None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.text and not self.title:
            raise ValueError("text: there is no idea in it. Write a sentence.")
        return self

    def draft(self, kind: Kind, posts: Sequence[str], link: str | None, rules: Rules) -> Draft:
        """Return a draft with the idea's languages, and its images unless a single post shows a link card."""
        shows_card = link and rules.has_cards and len(posts) == 1
        images = () if shows_card else self.images[: rules.max_images]
        return Draft(kind=kind, posts=tuple(posts), link=link, images=images, languages=self.languages)


def read_idea(text: str, link: str = "") -> Idea:
    """Read an idea from a text: a sentence or notes, with a link below; or a link alone, whose page is read.

    A link within a sentence stays there, and is the link of the idea too.

    Args:
        text: the sentence or the notes.
        link: the link, if it is not in the text. Without a text, its page is read.

    Raises:
        InvalidInput: the text or the page has no idea in it.
        SourceUnavailable: the page cannot be read.
    """
    text = text.strip()
    if link:
        return _idea("idea", {"text": text, "link": link}) if text else _from_page(link)
    if is_web_address(text) and not any(character.isspace() for character in text):
        return _from_page(text)
    if alone := _LINK_ALONE.search(text):
        # Without the link, a colon before the link leads nowhere.
        return _idea("idea", {"text": text[: alone.start()].rstrip(" :\n"), "link": alone[1]})
    links = [each.value for each in find_entities(text) if each.kind == "link" and is_web_address(each.value)]
    return _idea("idea", {"text": text, "link": links[-1] if links else None})


def read_idea_file(file: File) -> Idea:
    """Read an idea from a plain text file, or from Markdown, whose front matter may have title:, link: and languages:.

    The file's name ends in .md, .markdown or .txt. Markdown images on separate lines become the idea's images.

    Raises:
        InvalidInput: the file has no idea in it; the message names the field and the remedy.
        SourceUnavailable: the file cannot be read.
    """
    suffix = PurePosixPath(file.source.partition("?")[0]).suffix.lower()
    if suffix not in _MARKDOWN | _TEXT:
        raise InvalidInput("file", f"{suffix!r} is none of .md, .markdown and .txt.", "Rename the file.")
    try:
        text = read_file(file, "file", max_bytes=MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("file", f"{file.source} is not UTF-8.", "Save the file as UTF-8.") from None
    return read_idea(text) if suffix in _TEXT else _from_markdown(text, file)


def _from_markdown(text: str, file: File) -> Idea:
    fields, text = split_front_matter(text, "file")
    if is_draft(fields):
        raise InvalidInput("file", "its front matter calls it a draft.", "Remove draft: or published: there.")
    said = read_markdown(text)
    if any(image["source"].startswith("data:") for image in said.images):
        raise InvalidInput("images", "one is a data URL in the text.", "Save the image as a file beside the text.")
    # Ignore other fields that a blog keeps in the front matter (a date, a layout).
    known = {name: fields[name] for name in _FIELDS if fields.get(name)}
    idea: Idea = resolve_files(
        file, _idea(file.source, {"title": said.title, "text": said.text, "images": said.images} | known)
    )
    return idea


def _from_page(url: str) -> Idea:
    with extra("compose", "idea"):
        from trafilatura import bare_extraction

    fetched, page = read_web_page(url, max_bytes=MAX_BYTES)
    if not _is_page(fetched.content_type):
        reason = f"{url} is no page with a text: {fetched.content_type}."
        raise InvalidInput("idea", reason, "Write a sentence of your own, with the link below.")
    # The library calls each page without an article an error.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    found: Any = bare_extraction(text_of(fetched), url=fetched.url, include_comments=False, include_tables=False)
    # A page without an article has a description in its head.
    text = _paragraphs(found.text or "")[:MAX_TEXT] if found else ""
    idea = {"title": page.title or (found and found.title) or "", "text": text or page.description, "link": url}
    return _idea(url, idea)


def _is_page(content_type: str) -> bool:
    return not content_type or content_type.startswith("text/") or "xml" in content_type


def _paragraphs(article: str) -> str:
    """Return an article, each line of which is a paragraph, as paragraphs and lists."""
    text = ""
    was_item = False
    for line in filter(str.strip, article.split("\n")):
        is_item = line.lstrip().startswith("- ")
        shown = f"• {line.lstrip()[2:]}" if is_item else line
        text += ("\n" if is_item and was_item else "\n\n") + shown
        was_item = is_item
    return text.strip()


def _idea(where: str, fields: dict[str, Any]) -> Idea:
    try:
        return Idea.model_validate(fields)
    except ValidationError as unusable:
        raise InvalidInput(where, explain_validation_error(unusable), "") from None
