"""A stand-in for Bluesky's video service (video.bsky.app) on loopback, before the sandbox's PDS or a real one.

The stand-in does not change videos, but handles them like the service: an upload becomes a job, and at the job's end
the stand-in uploads the video to the account's PDS, with the token that came with the upload.

The answers are those observed from the service, even if the lexicon differs:
https://github.com/bluesky-social/atproto/issues/3097
"""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import httpx

from . import app
from .clock import Clock
from .faults import Fault, Faults
from .refusal import Refusal, failure
from .tokens import unverified
from .video_parts import FINISH, PART, START, UPLOAD_STATUS, Uploads
from .xrpc import Answer, Call, Json

_UPLOAD = "app.bsky.video.uploadVideo"
_STATUS = "app.bsky.video.getJobStatus"
_LIMITS = "app.bsky.video.getUploadLimits"
_UPLOAD_BLOB = "com.atproto.repo.uploadBlob"
_CREATED, _ENCODING, _COMPLETED, _FAILED = (
    f"JOB_STATE_{state}" for state in ("CREATED", "ENCODING", "COMPLETED", "FAILED")
)


@dataclass(frozen=True)
class Job:
    """An uploaded video and its state.

    Attributes:
        id: the job's id.
        did: the account.
        name: the file's name, given by the uploader.
        content: the video.
        state: such as "JOB_STATE_ENCODING".
        progress: percentage of the state.
        error: the reason of a failure, for machines.
        message: the reason of a failure, for people.
        failure_code: the kind of a failure, such as "validation_failure".
        blob: the reference to the video on the PDS, when completed.
    """

    id: str
    did: str
    name: str
    content: bytes = field(repr=False)
    state: str = _CREATED
    progress: int | None = None
    error: str | None = None
    message: str | None = None
    failure_code: str | None = None
    blob: dict[str, Any] | None = None


@contextmanager
def run_video_service(pds_url: str) -> Iterator["VideoService"]:
    """Run a video service on a free port of 127.0.0.1 until the block is left.

    Args:
        pds_url: the PDS of the accounts that use the service.

    Raises:
        OSError: there is no free port.

    Example:
        >>> from prefect_bluesky import sandbox
        >>> with sandbox.run() as pds, sandbox.run_video_service(pds.url) as service:
        ...     # publish a video by way of service.url, and then:
        ...     states = [job.state for job in service.jobs]
    """
    service = _Service(pds_url)
    with app.listen() as (listener, url), app.serve(partial(app.build, service.respond, Clock()), listener):
        yield VideoService(url, service)


class VideoService:
    """A running video service. Get one from `run_video_service()`. Safe to use from several threads.

    A job is encoding at the first status request, and completed at the second.

    Attributes:
        url: the service's address, such as "http://127.0.0.1:40124".
    """

    def __init__(self, url: str, service: "_Service") -> None:
        self.url = url
        self._service = service

    def __repr__(self) -> str:
        return f"VideoService(url={self.url!r})"

    @property
    def jobs(self) -> list[Job]:
        """All jobs so far, in the order of their uploads."""
        with self._service.lock:
            return list(self._service.jobs.values())

    def fail_next_job(
        self, error: str = "video processing error", message: str = "Failed to process video", code: str | None = None
    ) -> None:
        """Make the next job fail. The same video may be uploaded again."""
        with self._service.lock:
            self._service.next_fate = replace(self._service.next_fate, failure=(error, message, code))

    def take_parts_of(self, size: int) -> None:
        """Let videos come in parts of a size in bytes, 0 for none: the service then knows no such methods."""
        with self._service.lock:
            self._service.parts.size = size

    @property
    def received_parts(self) -> list[int]:
        """The numbers of all parts that came, in their order."""
        with self._service.lock:
            return list(self._service.parts.received)

    def allow_videos(self, count: int) -> None:
        """Let accounts upload so many more videos today, as far as they ask."""
        with self._service.lock:
            self._service.videos_left = count

    def stall_next_job(self) -> None:
        """Make the next job stay in its state for ever."""
        with self._service.lock:
            self._service.next_fate = replace(self._service.next_fate, stalls=True)

    def refuse_next_upload(
        self,
        error: str = "unconfirmed_email",
        message: str = "Confirm your email address to upload videos",
        status: int = 401,
    ) -> None:
        """Refuse the next upload because of the account's state or its uploads of the day."""
        body = {"jobStatus": {"did": "", "error": error, "jobId": "", "message": message, "state": ""}}
        with self._service.lock:
            self._service.faults.fail(_UPLOAD, Answer(status, body), times=1)

    def fail(self, nsid: str, status: int = 503, times: int = 1, headers: Mapping[str, str] | None = None) -> None:
        """Answer the next `times` calls of a method with an error; they change nothing.

        Raises:
            ValueError: there is no such method.
        """
        self._check(nsid)
        with self._service.lock:
            self._service.faults.fail(nsid, Answer.of(failure(status, None, None, headers)), times)

    def drop(self, nsid: str, times: int = 1) -> None:
        """Do the work of the next `times` calls of a method, then close their connections without an answer.

        Raises:
            ValueError: there is no such method.
        """
        self._check(nsid)
        with self._service.lock:
            self._service.faults.drop(nsid, times)

    def _check(self, nsid: str) -> None:
        if nsid not in self._service.methods:
            raise ValueError(f"nsid: the video service has no method {nsid!r}. Check the spelling.")


@dataclass(frozen=True)
class _Fate:
    """The outcome of a job that a test has arranged."""

    stalls: bool = False
    failure: tuple[str, str, str | None] | None = None


class _Service:
    """The service itself, without HTTP: its state and its answers."""

    def __init__(self, pds_url: str) -> None:
        self.lock = threading.Lock()
        self.jobs: dict[str, Job] = {}
        self.faults = Faults()
        self.next_fate = _Fate()
        self.videos_left = 25
        self.parts = Uploads()
        self.methods = {
            _UPLOAD: self._upload,
            _STATUS: self._status,
            _LIMITS: self._limits,
            START: self._start,
            PART: self._part,
            FINISH: self._finish,
            UPLOAD_STATUS: self._upload_status,
        }
        self._pds_url = pds_url
        self._fates: dict[str, _Fate] = {}
        self._authorizations: dict[str, str] = {}

    def respond(self, call: Call) -> tuple[Answer, Fault]:
        """Handle a call. Return the answer and the faults to apply to it."""
        method = self.methods.get(call.nsid)
        if method is None or (call.nsid in {START, PART, FINISH, UPLOAD_STATUS} and not self.parts.size):
            return Answer(404, {"error": "not_found", "message": "Not Found"}), Fault()
        # The method may wait for the PDS, and block the server. That is fine, as one test makes all calls.
        with self.lock:
            fault = self.faults.take(call.nsid)
            return fault.failure or method(call), fault

    def _fault(self, call: Call, did: str | None = None) -> Answer | None:
        """Return the refusal of a token that does not let the service store a video on the account's PDS, or None."""
        pds_did = self._ask_pds("GET", "com.atproto.server.describeServer").json()["did"]
        return _fault_of_token(call, pds_did, f"the user's PDS DID {_quoted(pds_did)}", _UPLOAD_BLOB, did)

    def _start(self, call: Call) -> Answer:
        if fault := self._fault(call):
            return fault
        if not self.videos_left:
            return Answer(400, {"error": "DailyLimitExceeded", "message": "The daily video allowance is exhausted"})
        return self.parts.start(call, _new_job_id())

    def _part(self, call: Call) -> Answer:
        return self._fault(call) or self.parts.receive(call)

    def _upload_status(self, call: Call) -> Answer:
        return self._fault(call) or self.parts.status(call)

    def _finish(self, call: Call) -> Answer:
        if fault := self._fault(call):
            return fault
        refused = self.parts.refusal_to_finish(call)
        if refused:
            return refused
        upload = self.parts.of(call)
        job = self._job_of(upload.did, upload.name, upload.content(), call)
        upload.completed = job.id
        return Answer(200, {"completedJobId": job.id, "jobStatus": _status_of(job)})

    def _job_of(self, did: str, name: str, content: bytes, call: Call) -> Job:
        """Return the job of a video, which is a new one unless the video is known."""
        if known := self._known(did, content):
            return known
        job = Job(_new_job_id(), did, name, content)
        self.jobs[job.id] = job
        self._authorizations[job.id] = call.authorization or ""
        self._fates[job.id], self.next_fate = self.next_fate, _Fate()
        return job

    def _known(self, did: str, content: bytes) -> Job | None:
        """Return the job of a video that the account has uploaded before, unless it failed."""
        jobs = (job for job in self.jobs.values() if (job.did, job.content) == (did, content) and job.state != _FAILED)
        return next(jobs, None)

    def _upload(self, call: Call) -> Answer:
        did, name = call.query.get("did", ""), call.query.get("name", "")
        if fault := self._fault(call, did):
            return fault
        if known := self._known(did, call.content):
            # Without the blob: the caller gets the blob from getJobStatus.
            said = {"error": "already_exists", "message": "Video already processed"}
            return Answer(409, {"did": did, "jobId": known.id, "state": known.state, **said})
        return Answer(200, _status_of(self._job_of(did, name, call.content, call)))

    def _status(self, call: Call) -> Answer:
        job = self.jobs.get(call.query.get("jobId", ""))
        if job is None:
            return Answer(404, {"error": "not_found", "message": "Job not found"})
        job = self.jobs[job.id] = self._advanced(job)
        return Answer(200, {"jobStatus": _status_of(job)})

    def _limits(self, call: Call) -> Answer:
        own = f"did:web:{call.headers.get('host', '').partition(':')[0]}"
        _, claims = unverified(call.authorization) if call.authorization else (None, {})
        did = own if claims.get("aud") == own else "did:web:video.bsky.app"
        if fault := _fault_of_token(call, did, _quoted(did), _LIMITS):
            return fault
        left = {"remainingDailyVideos": self.videos_left, "remainingDailyBytes": 10_000_000_000}
        if self.videos_left:
            return Answer(200, {"canUpload": True, **left})
        message = "User has exceeded daily upload videos limit"
        return Answer(200, {"canUpload": False, **left, "error": "daily_limit", "message": message})

    def _advanced(self, job: Job) -> Job:
        fate = self._fates[job.id]
        if job.state == _CREATED:
            return replace(job, state=_ENCODING, progress=50)
        if job.state in (_COMPLETED, _FAILED) or fate.stalls:
            return job
        if fate.failure:
            error, message, code = fate.failure
            return replace(job, state=_FAILED, error=error, message=message, failure_code=code)
        headers = {"Authorization": self._authorizations[job.id], "Content-Type": "video/mp4"}
        answer = self._ask_pds("POST", _UPLOAD_BLOB, content=_playable(job.content), headers=headers)
        if answer.is_error:
            said = answer.json()
            return replace(job, state=_FAILED, error=said.get("error"), message=said.get("message"))
        return replace(job, state=_COMPLETED, progress=100, blob=answer.json()["blob"])

    def _ask_pds(self, verb: str, nsid: str, **options: Any) -> httpx.Response:
        url = f"{self._pds_url}/xrpc/{nsid}"
        # verify=False: there is no TLS here, and reading the certificates takes most of the time.
        return httpx.request(verb, url, timeout=30, verify=False, trust_env=False, **options)  # noqa: S501


def _playable(content: bytes) -> bytes:
    """Return a GIF in the frame of an MP4, as a PDS looks at a file's beginning; any other file as it is."""
    return b"\x00\x00\x00\x18ftypmp42\0\0\0\0mp42isom" + content if content.startswith(b"GIF8") else content


def _status_of(job: Job) -> Json:
    status: Json = {"jobId": job.id, "did": job.did, "state": job.state, "progress": job.progress}
    status |= {"blob": job.blob, "error": job.error, "message": job.message, "failureCode": job.failure_code}
    return {name: value for name, value in status.items() if value is not None}


def _fault_of_token(call: Call, audience: str, whose: str, method: str, did: str | None = None) -> Answer | None:
    """Return the refusal of a bad token, or None. The PDS checks the signature."""
    try:
        _, claims = unverified(call.authorization)
    except Refusal:
        claims = {}
    if claims.get("aud") != audience:
        return _bad_token(f"audience {_quoted(claims.get('aud'))}, should be {whose}")
    if claims.get("lxm") != method:
        return _bad_token(f"lexicon method {_quoted(claims.get('lxm'))}, should be {method}")
    if did is not None and claims.get("iss") != did:
        return _bad_token(f"issuer {_quoted(claims.get('iss'))}, should be {_quoted(did)}")
    return None


def _bad_token(why: str) -> Answer:
    return Answer(401, {"error": f"invalid token: invalid token {why}"})


def _quoted(text: object) -> str:
    return f'"{text or ""}"'


def _new_job_id() -> str:
    return "".join(secrets.choice("0123456789abcdefghijklmnopqrstuv") for _ in range(20))
