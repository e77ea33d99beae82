"""Uploads in parts to the stand-in for Bluesky's video service."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from .tokens import unverified
from .xrpc import Answer, Call, Json

START, PART, FINISH, UPLOAD_STATUS = (
    f"app.bsky.video.{name}" for name in ("startUpload", "uploadPart", "finishUpload", "getUploadStatus")
)

T = TypeVar("T")

_LIFETIME = timedelta(hours=24)


@dataclass
class Upload:
    """A video of which parts have come.

    Attributes:
        completed: the job that processes the video, once all has come and the upload was finished.
    """

    job_id: str
    did: str
    name: str
    size: int
    part_size: int
    expires_at: datetime
    parts: dict[int, bytes] = field(default_factory=dict, repr=False)
    completed: str | None = None

    @property
    def part_count(self) -> int:
        """The number of parts."""
        return -(-self.size // self.part_size)

    def missing(self) -> list[int]:
        """Return the numbers of the parts that have not come."""
        return [number for number in range(1, self.part_count + 1) if number not in self.parts]

    def content(self) -> bytes:
        """Return the video."""
        return b"".join(self.parts[number] for number in sorted(self.parts))

    def as_json(self) -> Json:
        """Return what the service says of the upload."""
        said: Json = {
            "jobId": self.job_id,
            "partSizeBytes": self.part_size,
            "partCount": self.part_count,
            "receivedParts": sorted(self.parts),
            "expiresAt": self.expires_at.isoformat().replace("+00:00", "Z"),
            "state": "completed" if self.completed else "created",
        }
        return said | ({"completedJobId": self.completed} if self.completed else {})


class Uploads:
    """All uploads in parts.

    Attributes:
        size: the size of a part in bytes.
        received: the numbers of all parts that came.
    """

    def __init__(self) -> None:
        self.size = 5_000_000
        self.received: list[int] = []
        self._known: dict[str, Upload] = {}

    def start(self, call: Call, job_id: str) -> Answer:
        """Start an upload of the account whose token it is."""
        body: dict[str, Any] = json.loads(call.content)
        _, claims = unverified(call.authorization)
        upload = Upload(
            job_id, claims["iss"], body.get("name", ""), body["sizeBytes"], self.size, datetime.now(UTC) + _LIFETIME
        )
        self._known[job_id] = upload
        said = upload.as_json()
        return Answer(200, {name: said[name] for name in ("jobId", "partSizeBytes", "partCount", "expiresAt")})

    def of(self, call: Call) -> Upload:
        """Return the upload that a call is about."""
        body = json.loads(call.content) if call.nsid == FINISH else call.query
        return self._known[body["jobId"]]

    def receive(self, call: Call) -> Answer:
        """Keep a part."""
        return self._with_upload(
            call, lambda upload: self._received(upload, int(call.query["partNumber"]), call.content)
        )

    def _received(self, upload: Upload, number: int, content: bytes) -> Answer:
        if not 1 <= number <= upload.part_count:
            return Answer(400, {"error": "InvalidPartNumber", "message": f"Part number {number} is out of range"})
        expected = min(upload.part_size, upload.size - (number - 1) * upload.part_size)
        if len(content) != expected:
            return Answer(400, {"error": "PartSizeMismatch", "message": f"Expected {expected} bytes"})
        upload.parts[number] = content
        self.received.append(number)
        return Answer(200, {"partNumber": number, "sizeBytes": len(content)})

    def status(self, call: Call) -> Answer:
        """Say what has come."""
        return self._with_upload(call, lambda upload: Answer(200, upload.as_json()))

    def refusal_to_finish(self, call: Call) -> Answer | None:
        """Return why an upload cannot be finished, or None."""

        def refusal(upload: Upload) -> Answer | None:
            missing = upload.missing()
            message = f"Missing parts: {', '.join(map(str, missing))}"
            return Answer(400, {"error": "MissingParts", "message": message}) if missing else None

        return self._with_upload(call, refusal)

    def _with_upload(self, call: Call, then: Callable[[Upload], T]) -> T | Answer:
        try:
            upload = self.of(call)
        except KeyError:
            return Answer(404, {"error": "UploadNotFound", "message": "The job ID is unknown"})
        return then(upload)
