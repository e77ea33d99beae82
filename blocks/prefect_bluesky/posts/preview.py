"""Preview a post: its records, keys and counts as they would be sent."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from prefect.artifacts import acreate_markdown_artifact
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media import thumbnail
from prefect_bluesky.posts.limits import MAX_BYTES, MAX_GRAPHEMES
from prefect_bluesky.posts.richtext import count_graphemes
from prefect_bluesky.prefect_api import escape_markdown, ignoring_api_trouble, in_run, markdown_paragraph
from prefect_bluesky.protocol import POST_COLLECTION, Record, image_items

ARTIFACT_KEY = "bluesky-preview"

_IN_TARGET = str.maketrans({"<": "%3C", ">": "%3E", "\\": "%5C"})


@dataclass(frozen=True)
class PreviewedPost:
    """A post as it would be published now, with its characters as a reader counts them and its bytes of UTF-8."""

    uri: str
    cid: str
    text: str
    characters: int
    bytes: int
    record: dict[str, Any]


@dataclass(frozen=True)
class Preview:
    """A publication that was not sent. `print` the preview, or read its `markdown`.

    Args:
        posts: the posts in order.
        records: all records in the order of sending: the posts, then the gates.
        pictures: the bytes of the images and GIFs that would be sent, by the CID of their blob.

    Example:
        >>> preview = credentials.publish("Hello", dry_run=True)
        >>> preview.posts[0].characters
        5
    """

    posts: tuple[PreviewedPost, ...]
    records: tuple[Record, ...]
    pictures: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, records: Sequence[Record], pictures: Mapping[str, bytes], did: str) -> Preview:
        """Make a preview of the records that a publication would write for the account with this DID."""
        posts = tuple(
            PreviewedPost(
                uri=record.uri(did),
                cid=record.cid,
                text=record.value["text"],
                characters=count_graphemes(record.value["text"]),
                bytes=len(record.value["text"].encode()),
                record=record.value,
            )
            for record in records
            if record.collection == POST_COLLECTION
        )
        return cls(posts, tuple(records), pictures)

    @property
    def markdown(self) -> str:
        """The posts as a page of Markdown, with their images."""
        count = len(self.posts)
        title = "# A post, not sent" if count == 1 else f"# A thread of {count} posts, not sent"
        return "\n\n".join([title, *self._sections(), "## Records", *self._records()]) + "\n"

    def __str__(self) -> str:
        """Return the posts as plain text, with their counts."""
        return "\n\n".join(
            f"[{number}/{len(self.posts)}] {post.characters} characters, {post.bytes} bytes\n"
            + "\n".join([post.text, *(f"  + {line}" for line, _ in _attached(post.record.get("embed")))])
            for number, post in enumerate(self.posts, 1)
        )

    def show(self) -> None:
        """Show the preview in the Prefect UI, if this is a run."""
        if not in_run():
            return
        with ignoring_api_trouble("The preview's artifact could not be made"):
            run_coro_as_sync(
                acreate_markdown_artifact(self.markdown, key=ARTIFACT_KEY, description="A preview: nothing was sent.")
            )

    def _sections(self) -> Iterator[str]:
        for number, post in enumerate(self.posts, 1):
            if len(self.posts) > 1:
                yield f"## {number} of {len(self.posts)}"
            if post.text:
                yield markdown_paragraph(_marked(post.record))
            yield from self._shown(post.record.get("embed"))
            yield "\n".join(["| | |", "|---|---|", *_facts(post)])

    def _records(self) -> Iterator[str]:
        for record in self.records:
            yield f"### `{record.collection}/{record.rkey}`"
            yield _code(record.value)

    def _shown(self, embed: Any) -> Iterator[str]:
        for line, picture in _attached(embed):
            shown = ""
            if picture and (data := self.pictures.get(picture["ref"]["$link"])):
                with suppress(InvalidInput):  # a GIF that the video service may read all the same
                    shown = f"![](data:image/jpeg;base64,{b64encode(thumbnail(data)).decode()})  \n"
            yield shown + " ".join(escape_markdown(line).split())


@singledispatch
def preview_without_account(post: Any) -> Preview:
    """Return the preview of a post without an account.

    Only `publishing` can make the records of a post. It registers its function for `Post` here, because this room must
    not import it.
    """
    raise TypeError(f"A {type(post).__name__} has no preview. Give a Post.")


def _attached(embed: Any) -> Iterator[tuple[str, Any]]:
    """Yield a line for each thing in an embed, with the blob of its picture or None."""
    if not isinstance(embed, dict):
        return
    yield from _attached(embed.get("media"))
    for item in image_items(embed):
        ratio, blob = item["aspectRatio"], item["image"]
        alt = f"“{item['alt']}”" if item["alt"] else "no alt text"
        yield f"image, {ratio['width']} x {ratio['height']}, {blob['size']:,} bytes of {blob['mimeType']}: {alt}", blob
    if "video" in embed:
        is_gif = embed.get("presentation") == "gif"
        line = f"{embed['video']['size']:,} bytes: {embed.get('alt') or 'no alt text'}"
        yield (f"moving picture, {line}", embed["video"]) if is_gif else (f"video, {line}", None)
    if external := embed.get("external"):
        line = f"link card: {external['title']} ({external['uri']}) {external['description']}".rstrip()
        yield line, external.get("thumb")
        for article in external.get("associatedRefs", ()):
            yield f"of the article: {article['uri']}", None
    record = embed.get("record") or {}
    if quoted := record.get("record") or record:
        yield f"quote: {quoted['uri']}", None


def _facts(post: PreviewedPost) -> Iterator[str]:
    record = post.record
    yield f"| characters | {post.characters} of {MAX_GRAPHEMES} |"
    yield f"| bytes | {post.bytes:,} of {MAX_BYTES:,} |"
    if "reply" in record:
        yield f"| reply to | `{record['reply']['parent']['uri']}` |"
    if "langs" in record:
        yield f"| languages | {', '.join(record['langs'])} |"
    if "labels" in record:
        yield f"| content warnings | {', '.join(value['val'] for value in record['labels']['values'])} |"
    if "tags" in record:
        yield f"| tags | {escape_markdown(', '.join(record['tags']))} |"
    yield f"| URI | `{post.uri}` |"
    yield f"| CID | `{post.cid}` |"


def _marked(record: dict[str, Any]) -> str:
    """Return a record's text as Markdown, with its links."""
    data = record["text"].encode()
    pieces, last = [], 0
    for facet in record.get("facets", []):
        start, end = facet["index"]["byteStart"], facet["index"]["byteEnd"]
        (feature,) = facet["features"]
        shown = escape_markdown(data[start:end].decode())
        pieces += [escape_markdown(data[last:start].decode()), f"[{shown}](<{_target(feature)}>)"]
        last = end
    return "".join([*pieces, escape_markdown(data[last:].decode())])


def _target(feature: dict[str, str]) -> str:
    if "did" in feature:
        return f"https://bsky.app/profile/{feature['did']}"
    url = feature.get("uri") or f"https://bsky.app/hashtag/{feature['tag']}"
    return url.translate(_IN_TARGET)


def _code(value: dict[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    # The text cannot close a fence that is longer than any of its own.
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}json\n{text}\n{fence}"
