"""Upload a large video in parts, so that an upload that was cut goes on where it was.

Parts may be sent again, and so may what finishes the upload (https://github.com/bluesky-social/atproto,
lexicons/app/bsky/video). A flow run notes its upload; without a run, the process remembers it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Any, TypeVar

from prefect_bluesky.errors import RateLimited, RequestRefused, ServiceError, ServiceUnavailable
from prefect_bluesky.prefect_api import can_keep_notes, load_notes, save_note
from prefect_bluesky.protocol import xrpc

WORTH_PARTS = 16_000_000
"""Bytes of a video that is sent in one request at the most."""

_START, _PART, _FINISH, _STATUS = (
    f"app.bsky.video.{name}" for name in ("startUpload", "uploadPart", "finishUpload", "getUploadStatus")
)

_TRIES, _PAUSE = 3, 2.0
"""How often a part is sent at the most, and the seconds between."""

_LIMITS = {"daily_limit", "DailyLimitExceeded", "TooManyOpenUploads"}
"""The names of refusals that end by themselves."""

_OF_THE_UPLOAD = {
    "MissingParts", "UploadAborted", "UploadExpired", "UploadFailed", "UploadNotFound", "UploadNotReady",
}  # fmt: skip
"""The names of refusals that concern this upload and not the video: the next attempt looks what has become of it."""

_MISSING = {HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED}

T = TypeVar("T")
Json = dict[str, Any]

_uploads: dict[str, list[str]] = {}


@contextmanager
def limits_that_end() -> Iterator[None]:
    """Raise RateLimited in place of the refusal of a video that the service takes another day."""
    try:
        yield
    except RequestRefused as refused:
        if refused.error not in _LIMITS:
            raise
        limit = (refused.server_url, refused.method, refused.status, refused.error, refused.message)
        raise RateLimited(*limit) from None


@dataclass(frozen=True)
class VideoFile:
    """A video as it is sent.

    Args:
        data: the file, which may be mapped from the disk: one part of it is in memory at a time.
        name: a file name such as `video.mp4`.
        mime_type: the file's kind.
    """

    data: Any
    name: str
    mime_type: str


def upload_in_parts(video: VideoFile, did: str, token: xrpc.BearerToken, service_url: str) -> Json | None:
    """Upload a video of an account; return its job, or None if the service takes no parts.

    Raises:
        ServiceUnavailable, RateLimited: the upload has stopped; the next attempt goes on where it was.
        RequestRefused: the service refuses the video.
    """
    service = _Service(service_url, token)
    memory = _Memory(did, video.data)
    upload = service.status(memory.last) if memory.last else None
    if upload is None:
        upload = service.start(video)
        if upload is None:
            return None
        memory.add(str(upload["jobId"]))
    if upload.get("state", "created") == "created":
        service.send(video, upload)
    done = service.finish(str(upload["jobId"]))
    status = done.get("jobStatus")
    return {**(status if isinstance(status, dict) else {}), "jobId": done.get("completedJobId")}


class _Memory:
    """The names of a video's uploads, the last of which may go on."""

    def __init__(self, did: str, data: Any) -> None:
        self._key = f"video-{sha256(did.encode() + sha256(data).digest()).hexdigest()[:32]}-"
        self._known = load_notes(self._key) if can_keep_notes() else _uploads.setdefault(self._key, [])

    @property
    def last(self) -> str | None:
        return self._known[-1] if self._known else None

    def add(self, job_id: str) -> None:
        if can_keep_notes():
            save_note(f"{self._key}{len(self._known):03}", job_id)
        else:
            self._known.append(job_id)


class _Service:
    """The service's methods for uploads in parts."""

    def __init__(self, url: str, token: xrpc.BearerToken) -> None:
        self._url, self._token = url, token

    def status(self, job_id: str) -> Json | None:
        """Return an upload that can go on or has been finished, or None."""
        try:
            found = xrpc.query(self._url, _STATUS, {"jobId": job_id}, auth=self._token)
        except RequestRefused:
            return None
        return found if found.get("state") in {"created", "finishing", "completed"} else None

    def start(self, video: VideoFile) -> Json | None:
        """Start an upload, or return None if the service knows no such method."""
        body = {"sizeBytes": len(video.data), "mimeType": video.mime_type, "name": video.name}
        try:
            with limits_that_end():
                started = xrpc.procedure(self._url, _START, body, auth=self._token)
        except (RequestRefused, ServiceUnavailable) as trouble:
            if trouble.status in _MISSING:
                return None
            raise
        if not all(isinstance(started.get(name), int) for name in ("partSizeBytes", "partCount")):
            raise ServiceUnavailable(self._url, _START, HTTPStatus.OK, message="the answer names no parts")
        return started

    def send(self, video: VideoFile, upload: Json) -> None:
        """Send the parts that are missing."""
        size, received = int(upload["partSizeBytes"]), set(upload.get("receivedParts") or ())
        whole = memoryview(video.data)
        for number in range(1, int(upload["partCount"]) + 1):
            if number in received:
                continue
            params = {"jobId": str(upload["jobId"]), "partNumber": str(number)}
            part = bytes(whole[(number - 1) * size : number * size])
            _again(lambda: self._send(part, params))  # noqa: B023 (called at once)

    def _send(self, part: bytes, params: dict[str, str]) -> Json:
        kept = xrpc.upload(self._url, _PART, part, "application/octet-stream", params=params, auth=self._token)
        if kept.get("sizeBytes") != len(part):
            raise ServiceUnavailable(self._url, _PART, HTTPStatus.OK, message="the answer names no part")
        return kept

    def finish(self, job_id: str) -> Json:
        """Finish an upload, and return what processes the video."""
        done = _again(lambda: xrpc.procedure(self._url, _FINISH, {"jobId": job_id}, auth=self._token))
        if not isinstance(done.get("completedJobId"), str):
            raise ServiceUnavailable(self._url, _FINISH, HTTPStatus.OK, message="the answer names no job")
        return done


def _again(call: Callable[[], T]) -> T:
    """Call, and call again after passing trouble."""
    for _ in range(_TRIES - 1):
        try:
            return _tried(call)
        except ServiceError as trouble:
            if not trouble.retryable:
                raise
            time.sleep(min(trouble.retry_after.total_seconds() if trouble.retry_after else _PAUSE, 10 * _PAUSE))
    return _tried(call)


def _tried(call: Callable[[], T]) -> T:
    try:
        return call()
    except RequestRefused as refused:
        if refused.error not in _OF_THE_UPLOAD:
            raise
        message = f"{refused.error}: {refused.message}"
        raise ServiceUnavailable(refused.server_url, refused.method, refused.status, message=message) from None
