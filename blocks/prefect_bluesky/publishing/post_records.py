"""Make a post's records, under record keys that are fixed already, as the server will store them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from prefect_bluesky.posts import NOBODY, REPLY_RULES, Image, LinkCard, Post, ThreadPost, Video, rich_text, trimmed
from prefect_bluesky.protocol import (
    POST_COLLECTION,
    POSTGATE_COLLECTION,
    THREADGATE_COLLECTION,
    Record,
    StrongRef,
    cid,
    image_items,
)
from prefect_bluesky.publishing.materials import Materials
from prefect_bluesky.web import Page

_GALLERY_FROM = 5
"""More than four images are a gallery (lexicons/app/bsky/embed/images.json takes four)."""

Json = dict[str, Any]


def compose(
    post: Post, materials: Materials, *, did: str, rkeys: Sequence[str], created_at: datetime
) -> tuple[Record, ...]:
    """Return the records of a post or thread: its posts in order, then its gates.

    The first post states the time `created_at`; each further post states a millisecond more.

    Raises: as `materials`.
    """
    records: list[Record] = []
    parent: Json | None = None
    root: Json | None = None
    if post.reply_to:
        answered = materials.reference(post.reply_to, "reply_to")
        parent, root = answered.json, _root_of(answered)
    for number, ((field, part), rkey) in enumerate(zip(post.parts(), rkeys, strict=True)):
        time = _timestamp(created_at + number * timedelta(milliseconds=1))
        value = {
            "$type": POST_COLLECTION,
            "createdAt": time,
            **_content(part, materials, field, shorten_links=post.shorten_links),
        }
        if parent:
            value["reply"] = {"root": root, "parent": parent}
        record = _record(POST_COLLECTION, rkey, value)
        records.append(record)
        parent = {"uri": record.uri(did), "cid": record.cid}
        root = root or parent
    return (*records, *_gates(post, materials, records[0].uri(did), rkeys[0], _timestamp(created_at)))


def outline(record: Json) -> Json:
    """Return the parts of a record that are the same on every attempt, to recognise our own post by.

    Left out are the time, the DIDs of mentions, what a page says about itself, and the encoding of images.
    """
    reply = record.get("reply")
    features = [feature for facet in record.get("facets", []) for feature in facet.get("features", [])]
    return {
        **{name: record.get(name) for name in ("langs", "labels", "tags")},
        # Earlier versions did not trim it.
        "text": trimmed(str(record.get("text", ""))),
        "links": [feature["uri"] for feature in features if "uri" in feature],
        "reply": reply and _place(reply.get("parent")),
        "embed": _outline_of_embed(record.get("embed")),
    }


def _outline_of_embed(embed: Any) -> Any:
    if not isinstance(embed, dict):
        return None
    external, record = embed.get("external") or {}, embed.get("record") or {}
    return {
        "type": embed.get("$type"),
        "alt": embed.get("alt"),
        "captions": [captions.get("lang") for captions in embed.get("captions", [])],
        "images": [item.get("alt") for item in image_items(embed)],
        "page": external.get("uri"),
        "quote": _place(record.get("record") or record),
        "media": _outline_of_embed(embed.get("media")),
    }


def images_in(record: Json) -> list[str]:
    """Return the CIDs of the images in a post's record."""
    embed = record.get("embed") or {}
    embed = embed.get("media") or embed
    blobs = (item.get("image", {}) for item in image_items(embed))
    return [blob.get("ref", {}).get("$link", "") for blob in blobs]


def _place(reference: Any) -> Any:
    """Return a reference's collection and record key: its authority may be a handle or a DID."""
    return reference.get("uri", "").rsplit("/", 2)[1:] if isinstance(reference, dict) else None


def _record(collection: str, rkey: str, value: Json) -> Record:
    return Record(collection, rkey, value, cid(value))


def _root_of(answered: StrongRef) -> Json:
    reply = answered.value.get("reply")
    root = reply.get("root") if isinstance(reply, dict) else None
    if not isinstance(root, dict) or not {"uri", "cid"} <= root.keys():
        return answered.json
    return {"uri": root["uri"], "cid": root["cid"]}


def _content(post: ThreadPost, materials: Materials, field: str, *, shorten_links: bool) -> Json:
    text, facets = rich_text(post.text, materials.did_of, shorten_links=shorten_links)
    labels = [{"val": label} for label in post.labels]
    content = {
        "facets": facets,
        "embed": _embed(post, materials, field),
        "langs": list(post.languages),
        "labels": labels and {"$type": "com.atproto.label.defs#selfLabels", "values": labels},
        "tags": list(post.tags),
    }
    return {"text": text, **{name: value for name, value in content.items() if value}}


def _embed(post: ThreadPost, materials: Materials, field: str) -> Json | None:
    media = _media(post, materials, field)
    if not post.quote:
        return media
    quote = {"$type": "app.bsky.embed.record", "record": materials.reference(post.quote, f"{field}quote").json}
    return {"$type": "app.bsky.embed.recordWithMedia", "record": quote, "media": media} if media else quote


def _media(post: ThreadPost, materials: Materials, field: str) -> Json | None:
    if post.images:
        return _images(post.images, materials, field)
    if post.video:
        return _video(post.video, materials, f"{field}video")
    if post.link_card:
        return _card(post.link_card, materials, f"{field}link_card")
    return None


def _images(images: Sequence[Image], materials: Materials, field: str) -> Json:
    items = []
    for number, image in enumerate(images):
        blob, width, height = materials.image(image, f"{field}images[{number}]")
        items.append({"image": blob, "alt": image.alt, "aspectRatio": {"width": width, "height": height}})
    if len(items) < _GALLERY_FROM:
        return {"$type": "app.bsky.embed.images", "images": items}
    kind = "app.bsky.embed.gallery"
    return {"$type": kind, "items": [{"$type": f"{kind}#image", **item} for item in items]}


def _video(video: Video, materials: Materials, field: str) -> Json:
    # The small files first: their errors show before hundreds of megabytes are sent.
    captions = [
        {"lang": each.language, "file": materials.captions(each, f"{field}.captions[{number}]")}
        for number, each in enumerate(video.captions)
    ]
    blob, size, is_gif = materials.video(video, field)
    options = {
        "alt": video.alt,
        "aspectRatio": size and {"width": size[0], "height": size[1]},
        "captions": captions,
        "presentation": "gif" if is_gif else video.presentation,
    }
    return {"$type": "app.bsky.embed.video", "video": blob, **{name: value for name, value in options.items() if value}}


def _card(card: LinkCard, materials: Materials, field: str) -> Json:
    url = str(card.url)
    complete = card.title is not None and card.description is not None and card.thumbnail is not None
    page = Page("", "") if complete else materials.page(url)
    thumb: Json | None = None
    if card.thumbnail:
        thumb, *_ = materials.image(card.thumbnail, f"{field}.thumbnail")
    else:
        thumb = next(filter(None, map(materials.picture, page.image_urls)), None)
    external: Json = {
        "uri": url,
        "title": card.title or page.title or urlsplit(url).netloc,
        "description": page.description if card.description is None else card.description,
    }
    if refs := [found.json for uri in page.records if (found := materials.article(uri)) is not None]:
        external["associatedRefs"] = refs
    return {"$type": "app.bsky.embed.external", "external": {**external, **({"thumb": thumb} if thumb else {})}}


def _gates(post: Post, materials: Materials, uri: str, rkey: str, created_at: str) -> list[Record]:
    gates = []
    about = {"post": uri, "createdAt": created_at}
    if post.replies_from:
        rules = {"$type": THREADGATE_COLLECTION, "allow": gate_rules(post, materials), **about}
        gates.append(_record(THREADGATE_COLLECTION, rkey, rules))
    if not post.quotable:
        forbidden = [{"$type": f"{POSTGATE_COLLECTION}#disableRule"}]
        gates.append(
            _record(POSTGATE_COLLECTION, rkey, {"$type": POSTGATE_COLLECTION, "embeddingRules": forbidden, **about})
        )
    return gates


def gate_rules(post: Post, materials: Materials) -> list[Json]:
    """Return the rules of who may reply to a post, as a threadgate has them; none if nobody may."""
    return [_reply_rule(rule, materials) for rule in post.replies_from if rule != NOBODY]


def _reply_rule(rule: str, materials: Materials) -> Json:
    if rule in REPLY_RULES:
        return {"$type": f"{THREADGATE_COLLECTION}#{REPLY_RULES[rule]}"}
    return {"$type": f"{THREADGATE_COLLECTION}#listRule", "list": materials.reference(rule, "replies_from").uri}


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
