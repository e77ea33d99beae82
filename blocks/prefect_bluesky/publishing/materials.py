"""Load what a post needs from disk and network: files made to fit and uploaded, handles, records and pages."""

from __future__ import annotations

import json
from functools import partial
from mmap import mmap
from typing import Any
from urllib.parse import urlencode

from prefect_bluesky.errors import InvalidInput, RequestRefused, ServiceError, ServiceUnavailable, SourceUnavailable
from prefect_bluesky.media import (
    File,
    fit_image,
    gif_size,
    is_gif,
    is_mp4,
    map_file,
    picture_size,
    read_file,
    read_url,
    read_web_page,
)
from prefect_bluesky.posts import Captions, Video
from prefect_bluesky.prefect_api import logger
from prefect_bluesky.protocol import (
    Reference,
    StrongRef,
    blob_reference,
    did_document,
    is_short_address,
    parse_reference,
    pds_in,
    resolve_handle,
    xrpc,
)
from prefect_bluesky.publishing.video_service import upload_video
from prefect_bluesky.sessions import SessionAuth, SessionStatus
from prefect_bluesky.settings import current_settings
from prefect_bluesky.web import Page, redacted

MAX_IMAGE_SOURCE = 50_000_000
"""Bytes of an image at most, before it is made to fit."""

MAX_VIDEO = 300_000_000
MAX_CAPTIONS = 20_000
"""Both from lexicons/app/bsky/embed/video.json."""

_MAX_PAGE = 3_000_000
"""Bytes of a page that are read for its link card. Large pages describe themselves after 0.7 MB of scripts."""

_MAX_THUMBNAIL_SIDE = 2000

_ARTICLES = "site.standard."
"""The beginning of the kinds of records that a card shows with its page (https://standard.site)."""

_GET_RECORD = "com.atproto.repo.getRecord"

Json = dict[str, Any]


def _long_address(text: str, field: str) -> str:
    """Return the address that a short address of the app leads to; any other text as it is.

    Raises:
        InvalidInput: the short address leads to no starter pack.
        SourceUnavailable: the service behind the short address does not answer.
    """
    if not is_short_address(text):
        return text
    address = read_url(text, max_bytes=_MAX_PAGE, keep_truncated=True).url
    try:
        parse_reference(address)
    except ValueError as unreadable:
        raise InvalidInput(field, f"{text} leads to something else. {unreadable}", "Check the address.") from None
    return address


class NoMaterials:
    """Stand-ins for what a record needs from outside, with nothing loaded: enough to recognise a post by its text."""

    def did_of(self, handle: str) -> str | None:
        """Return the DID of a mentioned handle, or None if nobody has the handle."""
        return None

    def reference(self, text: str, field: str) -> StrongRef:
        """Return the record that a URI or an address names; errors name `field`, as in each of these methods."""
        return StrongRef(str(parse_reference(_long_address(text, field))), "", {})

    def image(self, file: File, field: str) -> tuple[Json, int, int]:
        """Return an image's blob, width and height in pixels."""
        return {}, 1, 1

    def video(self, video: Video, field: str) -> tuple[Json, tuple[int, int] | None, bool]:
        """Return a video's blob, its width and height in pixels if they are known, and whether it is a GIF."""
        return {}, None, False

    def captions(self, captions: Captions, field: str) -> Json:
        """Return the blob of a caption file."""
        return {}

    def page(self, url: str) -> Page:
        """Return what a page says about itself: nothing if the page cannot be read."""
        return Page("", "")

    def picture(self, url: str) -> Json | None:
        """Return the blob of a page's picture, or None if it cannot be loaded."""
        return None

    def article(self, uri: str) -> StrongRef | None:
        """Return the record that a page says it is of, or None if there is no such record of an article or its site."""
        return None


Materials = NoMaterials  # the interface: each kind of materials builds on the stand-ins


class LocalMaterials(NoMaterials):
    """Files and pages, loaded without asking a PDS anything or sending it anything."""

    def __init__(self) -> None:
        self._settings = current_settings()
        self._images: dict[File, tuple[Json, int, int]] = {}
        self.kept: dict[str, bytes] = {}
        """Images, GIFs and captions as they would be sent, by the CID of their blob."""

    def image(self, file: File, field: str) -> tuple[Json, int, int]:
        if file not in self._images:
            self._images[file] = self._fitted(read_file(file, field, max_bytes=MAX_IMAGE_SOURCE), field)
        return self._images[file]

    def video(self, video: Video, field: str) -> tuple[Json, tuple[int, int] | None, bool]:
        data = map_file(video, field, max_bytes=MAX_VIDEO)
        if is_gif(data):
            return self._processed(data, "image/gif"), gif_size(data), True
        if not is_mp4(data):
            raise InvalidInput(field, "the file is neither MP4 nor GIF.", "Convert the video to MP4 (H.264).")
        return self._processed(data, "video/mp4"), picture_size(data), False

    def captions(self, captions: Captions, field: str) -> Json:
        data = read_file(captions, field, max_bytes=MAX_CAPTIONS)
        if not data.removeprefix(b"\xef\xbb\xbf").startswith(b"WEBVTT"):
            raise InvalidInput(field, "the file is no WebVTT file.", "The first line of such a file is WEBVTT.")
        return self._stored(data, "text/vtt")

    def page(self, url: str) -> Page:
        try:
            return read_web_page(url, max_bytes=_MAX_PAGE)[1]
        except SourceUnavailable as trouble:
            logger().warning("The link card is sent without the page's own title, description and picture. %s", trouble)
            return super().page(url)

    def picture(self, url: str) -> Json | None:
        try:
            data = read_url(url, max_bytes=MAX_IMAGE_SOURCE).data
            blob, *_ = self._fitted(data, url, max_side=_MAX_THUMBNAIL_SIDE)
        except (SourceUnavailable, InvalidInput) as trouble:
            logger().warning("A picture of the page is not used for its link card. %s", trouble)
            return None
        return blob

    def _fitted(self, data: bytes, field: str, **options: int) -> tuple[Json, int, int]:
        try:
            image = fit_image(data, max_bytes=self._settings.max_image_bytes, **options)
        except InvalidInput as unusable:
            raise InvalidInput(field, unusable.reason, unusable.remedy) from unusable
        return self._stored(image.data, image.mime_type), image.width, image.height

    def _stored(self, data: bytes, mime_type: str) -> Json:
        blob = blob_reference(data, mime_type)
        self.kept[blob["ref"]["$link"]] = data
        return blob

    def _processed(self, data: bytes | mmap, mime_type: str) -> Json:
        """Return the blob of a video, which the service makes of a file of this kind."""
        blob = blob_reference(bytes(data), "video/mp4")
        if mime_type == "image/gif":
            self.kept[blob["ref"]["$link"]] = bytes(data)  # a preview shows the first frame
        return blob


class ResolvedMaterials(LocalMaterials):
    """Local materials, and handles and records as an account sees them; nothing is sent."""

    def __init__(self, account: SessionStatus) -> None:
        super().__init__()
        self._account = account
        self._dids: dict[str, str | None] = {}

    def did_of(self, handle: str) -> str | None:
        if handle not in self._dids:
            self._dids[handle] = resolve_handle(self._account.pds_url, handle)
        return self._dids[handle]

    def reference(self, text: str, field: str) -> StrongRef:
        wanted = parse_reference(_long_address(text, field))
        did = wanted.authority if wanted.authority.startswith("did:") else self.did_of(wanted.authority)
        if did is None:
            raise InvalidInput(field, f"nobody has the handle of {text}.", "Write the at:// URI with the DID instead.")
        place = Reference(did, wanted.collection, wanted.rkey)
        params = {"repo": did, "collection": place.collection, "rkey": place.rkey}
        # Most PDSs answer for the whole network. If this one does not, the record's own PDS is asked.
        found = self._answer_of_ours(params) or self._answer_of_its_home(did, params, field)
        if found is None:
            raise InvalidInput(field, f"there is no {place}; it may have been deleted.", "Check that it exists.")
        cid, value = found.get("cid"), found.get("value")
        if not isinstance(cid, str) or not isinstance(value, dict):
            raise SourceUnavailable(f"{field}, {place}", "the answer has no record.", retryable=True)
        return StrongRef(str(place), cid, value)

    def article(self, uri: str) -> StrongRef | None:
        try:
            found = self.reference(uri, "link_card")
        except (InvalidInput, SourceUnavailable, ServiceError, ValueError) as trouble:
            logger().warning("The link card is sent without the record of its page. %s", trouble)
            return None
        kind = parse_reference(uri).collection
        return found if kind.startswith(_ARTICLES) and found.value.get("$type") == kind else None

    def _answer_of_ours(self, params: dict[str, str]) -> Json | None:
        try:
            return xrpc.query(self._account.pds_url, _GET_RECORD, params)
        except RequestRefused:
            return None

    def _answer_of_its_home(self, did: str, params: dict[str, str], field: str) -> Json | None:
        if did == self._account.did:
            return None
        # Anybody may name any server in a DID document: it is asked with the caution that any stranger's URL needs.
        if did.startswith("did:web:"):
            document = self._json(f"https://{did.removeprefix('did:web:')}/.well-known/did.json", field)
        else:
            try:
                document = did_document(did, self._settings.did_directory_url)
            except ServiceError as trouble:
                raise SourceUnavailable(f"{field}, {did}", str(trouble), retryable=True) from None
        home = pds_in(document)
        return self._json(f"{home}/xrpc/{_GET_RECORD}?{urlencode(params)}", field) if home else None

    def _json(self, url: str, field: str) -> Json | None:
        """Return what a stranger's server has, or None if it has nothing."""
        try:
            found = json.loads(read_url(url, max_bytes=_MAX_PAGE).data)
        except SourceUnavailable as trouble:
            if trouble.retryable:
                raise SourceUnavailable(f"{field}, {trouble.source}", trouble.reason, retryable=True) from None
            return None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise SourceUnavailable(f"{field}, {redacted(url)}", "the answer is no JSON object.", retryable=True)
        return found


class UploadedMaterials(ResolvedMaterials):
    """Resolved materials, uploaded to the account's PDS, which drops an upload that no record uses."""

    def __init__(self, account: SessionStatus, auth: SessionAuth) -> None:
        super().__init__(account)
        self._auth = auth

    def _stored(self, data: bytes, mime_type: str) -> Json:
        method = "com.atproto.repo.uploadBlob"
        with self._auth.problems():
            answer = xrpc.upload(self._account.pds_url, method, data, mime_type, auth=self._auth)
        blob = answer.get("blob")
        if not isinstance(blob, dict) or blob.get("ref") != blob_reference(data, mime_type)["ref"]:
            raise ServiceUnavailable(self._account.pds_url, method, 200, message="another blob than was sent")
        return blob

    def _processed(self, data: bytes | mmap, mime_type: str) -> Json:
        service_url = self._settings.video_service_url
        try:
            with self._auth.problems():
                return upload_video(
                    data,
                    # Not the file's own name: it may be a path or a signed URL.
                    name=f"video.{mime_type.partition('/')[2]}",
                    mime_type=mime_type,
                    account=self._account,
                    auth=self._auth,
                    service_url=service_url,
                    on_progress=partial(logger().info, "The video is being processed: %s, %s %%"),
                )
        except ServiceError as trouble:
            if trouble.server_url != service_url or not trouble.retryable:
                raise
            # Of the account's posts, only those with a video need this service.
            raise SourceUnavailable("video", str(trouble), retryable=True) from trouble
