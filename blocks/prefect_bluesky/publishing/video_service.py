"""Upload videos through Bluesky's video service, which makes them playable and stores them on the account's PDS.

A video that is uploaded to the PDS alone is missing from its post until the service has found and processed it. The
methods are in lexicons/app/bsky/video.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http import HTTPStatus
from mmap import mmap
from typing import Any
from urllib.parse import urlsplit

import httpx

from prefect_bluesky.errors import RateLimited, RequestRefused, ServiceError, ServiceUnavailable
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.publishing.video_parts import WORTH_PARTS, VideoFile, limits_that_end, upload_in_parts
from prefect_bluesky.sessions import SessionStatus

PROCESSING_LIMIT = timedelta(minutes=10)
"""How long the service may process a video."""

_UPLOAD = "app.bsky.video.uploadVideo"
_STATUS = "app.bsky.video.getJobStatus"
_LIMITS = "app.bsky.video.getUploadLimits"

_FAULTS_OF_THE_FILE = {"validation_failure"}
"""The failure codes that another attempt with the same file will get again
(https://github.com/bluesky-social/atproto/pull/5283). With other codes, such as `encoding_failure` and
`pds_upload_failure`, good files failed for a week (https://github.com/bluesky-social/social-app/issues/11282)."""

# As in Bluesky's own app. The token must last from the upload until the service stores the video on the PDS.
_TOKEN_LIFETIME = timedelta(minutes=30)
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.5, 1.5, 5.0
# The upload is not lost if the service restarts meanwhile, or does not know its newest job yet.
_UNANSWERED_IN_A_ROW = 5


def upload_video(
    data: bytes | mmap,
    *,
    name: str,
    mime_type: str = "video/mp4",
    account: SessionStatus,
    auth: httpx.Auth,
    service_url: str,
    on_progress: Callable[[str, int | None], None] | None = None,
) -> dict[str, Any]:
    """Have a video processed by the video service; return the blob reference for the record.

    Safe to repeat: the service recognises a video of the account and continues its job, or returns the result.

    `name` is a file name such as `launch.mp4`, and `mime_type` the file's kind: MP4 or GIF; `auth` signs requests to
    the account's PDS. `on_progress` is called with the job's state, such as `JOB_STATE_ENCODING`, and its percentage if
    known.

    Raises:
        ServiceUnavailable: the PDS or the service does not answer, the service fails by its own fault, or is not done
            after `PROCESSING_LIMIT`.
        RateLimited: one of them asks to slow down.
        RequestRefused: the service refuses the video or cannot process it, or the PDS gives no token for it.
    """
    report = on_progress or (lambda state, progress: None)
    _check_limits(len(data), account, auth, service_url)
    token = _token_for_upload(account, auth)
    video = VideoFile(data, name, mime_type)
    job = upload_in_parts(video, account.did, token, service_url) if len(data) > WORTH_PARTS else None
    job = job or _uploaded(video, account, token, service_url)
    report(*_progress_of(job))
    # A video that was processed before is answered with an error and its blob.
    return _blob_of(job) or _processed(str(job["jobId"]), service_url, report)


def _check_limits(size: int, account: SessionStatus, auth: httpx.Auth, service_url: str) -> None:
    """Ask for the limits of the day before hundreds of megabytes are sent. The upload is tried if nobody answers.

    Raises:
        RateLimited: today's videos or bytes are used up.
        RequestRefused: the account may not upload any.
    """
    try:
        own_did = f"did:web:{urlsplit(service_url).hostname}"  # a PDS gives no token for a DID with a port
        limits = xrpc.query(service_url, _LIMITS, {}, auth=_token_for(own_did, _LIMITS, account, auth))
    except ServiceError:
        return
    left = limits.get("remainingDailyVideos"), limits.get("remainingDailyBytes")
    if left[0] == 0 or (isinstance(left[1], int) and left[1] < size):
        raise RateLimited(service_url, _LIMITS, HTTPStatus.OK, *_words_of(limits))
    if limits.get("canUpload") is False:
        raise RequestRefused(service_url, _LIMITS, HTTPStatus.OK, *_words_of(limits))


def _token_for_upload(account: SessionStatus, auth: httpx.Auth) -> xrpc.BearerToken:
    """Return a token with which the video service may upload blobs to the account's PDS."""
    describe = "com.atproto.server.describeServer"
    # The PDS takes tokens for its own DID. Bluesky's app derives a DID from the PDS's address, which fails if the PDS
    # has another name as well: https://github.com/bluesky-social/pds/issues/298
    pds_did = xrpc.query(account.pds_url, describe, {}).get("did")
    if not isinstance(pds_did, str):
        raise ServiceUnavailable(account.pds_url, describe, 200, message="no DID")
    # By the clock of the PDS, which checks it: this machine's may be off.
    expires = xrpc.server_time(account.pds_url) + _TOKEN_LIFETIME
    return _token_for(pds_did, "com.atproto.repo.uploadBlob", account, auth, exp=str(int(expires.timestamp())))


def _token_for(audience: str, lxm: str, account: SessionStatus, auth: httpx.Auth, **more: str) -> xrpc.BearerToken:
    """Return a token with which one method of a server may be called as the account."""
    method, params = "com.atproto.server.getServiceAuth", {"aud": audience, "lxm": lxm, **more}
    token = xrpc.query(account.pds_url, method, params, auth=auth).get("token")
    if not isinstance(token, str):
        raise ServiceUnavailable(account.pds_url, method, 200, message="no token")
    return xrpc.BearerToken(token)


def _uploaded(video: VideoFile, account: SessionStatus, token: xrpc.BearerToken, service_url: str) -> dict[str, Any]:
    """Upload a video; return its job, or the earlier job if the service knows the video."""
    data, mime_type = video.data, video.mime_type
    params = {"did": account.did, "name": video.name}
    already_exists = 409
    with limits_that_end():
        answer = xrpc.upload(service_url, _UPLOAD, data, mime_type, params=params, auth=token, accept={already_exists})
    job = _job_in(answer)
    if job.get("jobId"):
        return job
    if job.get("error"):
        raise RequestRefused(service_url, _UPLOAD, 200, *_words_of(job))
    raise ServiceUnavailable(service_url, _UPLOAD, 200, message="the answer names no job")


def _processed(job_id: str, service_url: str, report: Callable[[str, int | None], None]) -> dict[str, Any]:
    """Wait for a job; return its blob."""
    state, unanswered = "unknown", 0
    for pause in _pauses():
        try:
            job = _job_in(xrpc.query(service_url, _STATUS, {"jobId": job_id}))
            if "state" not in job:
                raise ServiceUnavailable(service_url, _STATUS, HTTPStatus.OK, message="the answer has no job's state")
        except ServiceError:
            unanswered += 1
            if unanswered == _UNANSWERED_IN_A_ROW:
                raise
        else:
            unanswered = 0
            state, progress = _progress_of(job)
            report(state, progress)
            if blob := _blob_of(job):
                return blob
            if state == "JOB_STATE_FAILED":
                raise _failure(job, service_url)
        time.sleep(pause)
    minutes = PROCESSING_LIMIT.total_seconds() / 60
    raise ServiceUnavailable(service_url, _STATUS, 200, state, f"not done after {minutes:.0f} minutes")


def _failure(job: dict[str, Any], service_url: str) -> ServiceError:
    """Return the error of a failed job: the file's fault, or the service's, which may be gone tomorrow."""
    code = job.get("failureCode")
    kind = RequestRefused if code is None or code in _FAULTS_OF_THE_FILE else ServiceUnavailable
    return kind(service_url, _STATUS, HTTPStatus.OK, *_words_of(job))


def _pauses() -> Iterator[float]:
    give_up_at = time.monotonic() + PROCESSING_LIMIT.total_seconds()
    pause = _FIRST_PAUSE
    while time.monotonic() < give_up_at:
        yield pause
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def _job_in(answer: dict[str, Any]) -> dict[str, Any]:
    # By the lexicon, and in getJobStatus, the job is under jobStatus; uploadVideo answers with the job itself:
    # https://github.com/bluesky-social/atproto/issues/3097
    job = answer.get("jobStatus")
    return job if isinstance(job, dict) else answer


def _blob_of(job: dict[str, Any]) -> dict[str, Any] | None:
    blob = job.get("blob")
    return blob if isinstance(blob, dict) else None


def _progress_of(job: dict[str, Any]) -> tuple[str, int | None]:
    progress = job.get("progress")
    return str(job.get("state")), progress if isinstance(progress, int) else None


def _words_of(job: dict[str, Any]) -> tuple[str | None, str | None]:
    error, message = job.get("failureCode") or job.get("error"), job.get("message")
    return error and str(error), message and str(message)
