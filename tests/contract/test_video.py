"""Videos by way of the video service, on the sandbox and on a real PDS.

The service is the sandbox's stand-in. That a real PDS takes the video from it shows that the token is the right one.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from prefect_bluesky import sandbox
from prefect_bluesky.errors import RequestRefused
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.publishing import video_service
from prefect_bluesky.publishing.video_service import upload_video
from prefect_bluesky.sandbox.identifiers import blob_cid
from prefect_bluesky.sessions.session import SessionStatus
from prefect_bluesky.sessions.session_auth import SessionAuth
from tests.support import WRITE, Pds, block, counted

_MP4 = b"\x00\x00\x00\x18ftypmp42 and so on"
_UPLOAD_BLOB = "com.atproto.repo.uploadBlob"


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_service, "_FIRST_PAUSE", 0.01)


@pytest.fixture
def service(pds: Pds) -> Iterator[sandbox.VideoService]:
    """A video service before the PDS."""
    with sandbox.run_video_service(pds.url) as running:
        yield running


@pytest.fixture
def account(pds: Pds) -> Any:
    return pds.create_account()


@pytest.fixture
def signed_in(pds: Pds, account: Any) -> tuple[SessionStatus, httpx.Auth]:
    credentials = block(pds, account)
    return credentials.ensure_session(), SessionAuth(credentials._authenticator())


def test_a_video_is_processed_put_on_the_pds_and_posted(
    pds: Pds, account: Any, service: sandbox.VideoService, signed_in: tuple[SessionStatus, httpx.Auth]
) -> None:
    status, auth = signed_in
    progress: list[tuple[str, int | None]] = []
    blob = upload_video(
        _MP4,
        name="launch.mp4",
        account=status,
        auth=auth,
        service_url=service.url,
        on_progress=lambda state, percent: progress.append((state, percent)),
    )
    assert progress == [("JOB_STATE_CREATED", None), ("JOB_STATE_ENCODING", 50), ("JOB_STATE_COMPLETED", 100)]
    link = {"$link": blob_cid(_MP4)}
    assert blob == {"$type": "blob", "ref": link, "mimeType": "video/mp4", "size": len(_MP4)}
    record = {
        "$type": "app.bsky.feed.post",
        "text": "Watch this",
        "createdAt": "2026-11-22T10:00:00.000Z",
        "embed": {"$type": "app.bsky.embed.video", "video": blob, "alt": "A launch"},
    }
    create = {"$type": f"{WRITE}#create", "collection": "app.bsky.feed.post", "value": record}
    xrpc.procedure(status.pds_url, WRITE, {"repo": status.did, "writes": [create]}, auth=auth)
    (post,) = pds.posts(account)
    assert post["value"] == record


def test_the_same_video_is_not_processed_again(
    pds: Pds, service: sandbox.VideoService, signed_in: tuple[SessionStatus, httpx.Auth]
) -> None:
    status, auth = signed_in
    with counted(pds) as requests:
        first, again = (
            upload_video(_MP4, name="launch.mp4", account=status, auth=auth, service_url=service.url) for _ in range(2)
        )
    assert first == again
    assert [(job.did, job.name, job.content) for job in service.jobs] == [(status.did, "launch.mp4", _MP4)]
    assert requests[_UPLOAD_BLOB] == 1


def test_a_video_that_the_pds_does_not_take_is_refused_in_its_words(
    service: sandbox.VideoService, signed_in: tuple[SessionStatus, httpx.Auth]
) -> None:
    status, auth = signed_in
    too_big = _MP4.ljust(5 * 1024 * 1024 + 1)
    with pytest.raises(RequestRefused, match="request entity too large"):
        upload_video(too_big, name="long.mp4", account=status, auth=auth, service_url=service.url)
    assert service.jobs[0].content == too_big
