"""The video service as it is on other days: slow, broken, unwilling, or gone."""

import json
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from prefect_bluesky import sandbox
from prefect_bluesky.errors import RateLimited, RequestRefused, ServiceError, ServiceUnavailable
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.publishing import video_parts, video_service
from prefect_bluesky.publishing.video_service import upload_video
from prefect_bluesky.sessions.session import SessionStatus
from prefect_bluesky.sessions.session_auth import SessionAuth
from tests.support import REFRESH, block, counted, expired, web_page

UPLOAD = "app.bsky.video.uploadVideo"
STATUS = "app.bsky.video.getJobStatus"
LIMITS = "app.bsky.video.getUploadLimits"
PART, FINISH = "app.bsky.video.uploadPart", "app.bsky.video.finishUpload"
TOKEN = "com.atproto.server.getServiceAuth"
UPLOAD_BLOB = "com.atproto.repo.uploadBlob"
MP4 = b"\x00\x00\x00\x18ftypmp42 and so on"


@dataclass
class Uploader:
    """An account with a video, and the service that it has it from."""

    account: SessionStatus
    auth: httpx.Auth
    service: sandbox.VideoService

    @property
    def jobs(self) -> list[sandbox.Job]:
        """The jobs of this account."""
        return [job for job in self.service.jobs if job.did == self.account.did]

    def upload(self, data: bytes = MP4, **changes: Any) -> dict[str, Any]:
        usual = {"account": self.account, "auth": self.auth, "service_url": self.service.url}
        return upload_video(data, name="launch.mp4", **{**usual, **changes})

    def token(self, **params: str) -> str:
        """A service token, as another client may ask for it."""
        usual = {"aud": "did:web:localhost", "lxm": UPLOAD_BLOB}
        url = f"{self.account.pds_url}/xrpc/{TOKEN}"
        return str(httpx.get(url, params={**usual, **params}, auth=self.auth).json()["token"])


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_service, "_FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def service(sandbox_pds: sandbox.Sandbox) -> Iterator[sandbox.VideoService]:
    with sandbox.run_video_service(sandbox_pds.url) as running:
        yield running


@pytest.fixture
def uploader(sandbox_pds: sandbox.Sandbox, service: sandbox.VideoService) -> Uploader:
    credentials = block(sandbox_pds, sandbox_pds.create_account())
    return Uploader(credentials.ensure_session(), SessionAuth(credentials._authenticator()), service)


class TestTheClient:
    """Return the result of `upload_video`."""

    @pytest.mark.parametrize(
        ("error", "message", "status"),
        [
            ("unconfirmed_email", "Confirm your email address to upload videos", 401),
            ("unconfirmed_email", "Confirm your email address to upload videos", 200),
        ],
        ids=["unconfirmed e-mail", "said with success"],
    )
    def test_an_unwilling_service_is_quoted(self, uploader: Uploader, error: str, message: str, status: int) -> None:
        uploader.service.refuse_next_upload(error, message, status)
        with pytest.raises(RequestRefused, match=message) as refusal:
            uploader.upload()
        assert (refusal.value.status, refusal.value.error, refusal.value.retryable) == (status, error, False)
        assert uploader.jobs == []

    def test_a_limit_of_the_day_is_known_before_anything_is_sent(self, uploader: Uploader) -> None:
        uploader.service.allow_videos(0)
        try:
            with pytest.raises(RateLimited, match="User has exceeded daily upload videos limit") as limited:
                uploader.upload()
        finally:
            uploader.service.allow_videos(25)
        assert limited.value.retryable
        assert uploader.jobs == []

    def test_a_limit_that_the_upload_meets_may_be_tried_again(self, uploader: Uploader) -> None:
        uploader.service.refuse_next_upload("daily_limit", "User has exceeded daily upload videos limit", 403)
        with pytest.raises(RateLimited, match="daily upload videos limit"):
            uploader.upload()

    @pytest.mark.parametrize("status", [404, 503, 429])
    def test_limits_that_nobody_tells_stop_no_upload(self, uploader: Uploader, status: int) -> None:
        uploader.service.fail(LIMITS, status)
        assert uploader.upload()["size"] == len(MP4)

    def test_a_failed_job_is_quoted_and_may_be_tried_again(self, uploader: Uploader) -> None:
        uploader.service.fail_next_job("video processing error for job", "Failed to process video")
        with pytest.raises(RequestRefused, match="video processing error for job: Failed to process video"):
            uploader.upload()
        assert uploader.upload()["mimeType"] == "video/mp4"
        assert [job.state for job in uploader.jobs] == ["JOB_STATE_FAILED", "JOB_STATE_COMPLETED"]

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("validation_failure", RequestRefused),
            ("encoding_failure", ServiceUnavailable),
            ("pds_upload_failure", ServiceUnavailable),
            ("one_of_tomorrow", ServiceUnavailable),
        ],
    )
    def test_a_fault_of_the_file_refuses_it_and_one_of_the_service_lets_it_wait(
        self, uploader: Uploader, code: str, kind: type[ServiceError]
    ) -> None:
        uploader.service.fail_next_job(code=code)
        with pytest.raises(kind, match=f"{code}: Failed to process video") as failure:
            uploader.upload()
        assert failure.value.retryable is (kind is ServiceUnavailable)

    def test_an_answer_without_a_job_is_named(self, uploader: Uploader) -> None:
        with web_page(b"{}") as url, pytest.raises(ServiceUnavailable, match="the answer names no job"):
            uploader.upload(service_url=url)

    def test_an_upload_whose_answer_was_lost_is_taken_up_by_the_next_attempt(self, uploader: Uploader) -> None:
        uploader.service.drop(UPLOAD)
        with pytest.raises(ServiceUnavailable) as failure:
            uploader.upload()
        assert failure.value.retryable
        assert uploader.upload()["size"] == len(MP4)
        assert len(uploader.jobs) == 1

    @pytest.mark.parametrize(
        ("status", "kind"), [(503, ServiceUnavailable), (429, RateLimited)], ids=["overloaded", "rate limited"]
    )
    def test_an_upload_is_not_repeated_at_once(self, uploader: Uploader, status: int, kind: type[ServiceError]) -> None:
        uploader.service.fail(UPLOAD, status)
        with pytest.raises(kind) as failure:
            uploader.upload()
        assert failure.value.retryable
        assert uploader.upload()["size"] == len(MP4)

    def test_a_few_questions_may_stay_without_an_answer(self, uploader: Uploader) -> None:
        uploader.service.fail(STATUS, 503)
        uploader.service.fail(STATUS, 429)
        uploader.service.fail(STATUS, 404)
        uploader.service.drop(STATUS)
        assert uploader.upload()["size"] == len(MP4)

    def test_many_may_not(self, uploader: Uploader) -> None:
        uploader.service.fail(STATUS, 503, times=5)
        with pytest.raises(ServiceUnavailable) as failure:
            uploader.upload()
        assert (failure.value.method, failure.value.status) == (STATUS, 503)

    def test_a_job_that_is_never_done_is_given_up(self, uploader: Uploader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(video_service, "PROCESSING_LIMIT", timedelta(seconds=0.2))
        uploader.service.stall_next_job()
        states: list[str] = []
        with pytest.raises(ServiceUnavailable, match="JOB_STATE_ENCODING: not done after") as failure:
            uploader.upload(on_progress=lambda state, percent: states.append(state))
        assert failure.value.retryable
        assert states.count("JOB_STATE_ENCODING") > 2

    def test_pauses_grow_and_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0
        monkeypatch.setattr(video_service, "_FIRST_PAUSE", 0.5)
        monkeypatch.setattr(time, "monotonic", lambda: now)
        pauses = []
        for pause in video_service._pauses():
            pauses.append(pause)
            now += pause
        assert pauses[:3] == [0.5, 0.75, 1.125]
        assert max(pauses) == 5
        assert 600 <= sum(pauses) < 605

    def test_nobody_at_the_services_address(self, uploader: Uploader) -> None:
        with sandbox.run_video_service(uploader.account.pds_url) as gone:
            url = gone.url
        with pytest.raises(ServiceUnavailable) as failure:
            uploader.upload(service_url=url)
        assert (failure.value.server_url, failure.value.status) == (url, None)

    @pytest.mark.parametrize("body", [b"<html>", b'{"jobStatus": null}'])
    def test_somebody_else_at_the_services_address(self, uploader: Uploader, body: bytes) -> None:
        with web_page(body) as url, pytest.raises(ServiceUnavailable):
            uploader.upload(service_url=url)

    def test_an_account_without_a_token_for_it(self, uploader: Uploader, sandbox_pds: sandbox.Sandbox) -> None:
        sandbox_pds.fail(TOKEN, 400, "InvalidToken", "Bad token scope", times=2)
        with pytest.raises(RequestRefused, match="Bad token scope"):
            uploader.upload()
        assert uploader.jobs == []

    def test_a_large_video_arrives_whole(self, uploader: Uploader) -> None:
        data = MP4 + bytes(range(256)) * 4096
        assert uploader.upload(data)["size"] == len(data)
        assert uploader.jobs[0].content == data

    def test_a_session_that_expired_is_refreshed_on_the_way(
        self, sandbox_pds: sandbox.Sandbox, service: sandbox.VideoService
    ) -> None:
        _, credentials = expired(sandbox_pds)
        status, auth = credentials.ensure_session(), SessionAuth(credentials._authenticator())
        with counted(sandbox_pds) as requests:
            Uploader(status, auth, service).upload()
        assert (requests[TOKEN], requests[REFRESH], requests[UPLOAD_BLOB]) == (3, 1, 1)

    def test_the_clock_of_the_pds_counts_and_not_the_own(self) -> None:
        with sandbox.run() as pds, sandbox.run_video_service(pds.url) as service:
            pds.advance(timedelta(hours=3))
            credentials = block(pds, pds.create_account())
            auth = SessionAuth(credentials._authenticator())
            assert Uploader(credentials.ensure_session(), auth, service).upload()["size"] == len(MP4)


class TestParts:
    """A large video, which is sent in parts."""

    DATA = MP4 + bytes(range(256)) * 100

    @pytest.fixture(autouse=True)
    def small_parts(self, service: sandbox.VideoService, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(video_service, "WORTH_PARTS", 1000)
        monkeypatch.setattr(video_parts, "_PAUSE", 0.01)
        service.take_parts_of(10_000)
        yield
        service.take_parts_of(5_000_000)

    @staticmethod
    def received(uploader: Uploader, data: bytes) -> list[int]:
        """Upload a video; the numbers of the parts that come meanwhile."""
        before = len(uploader.service.received_parts)
        try:
            uploader.upload(data)
        finally:
            came = uploader.service.received_parts[before:]
        return came

    def test_a_video_arrives_whole(self, uploader: Uploader) -> None:
        assert self.received(uploader, self.DATA) == [1, 2, 3]
        assert uploader.jobs[0].content == self.DATA

    @pytest.mark.parametrize("trouble", ["cut", 503, 429])
    def test_a_part_that_was_cut_is_sent_again(self, uploader: Uploader, trouble: Any) -> None:
        if trouble == "cut":
            uploader.service.drop(PART)
        else:
            uploader.service.fail(PART, trouble)
        uploader.upload(self.DATA + b"again")
        assert uploader.jobs[0].content == self.DATA + b"again"

    def test_the_next_attempt_goes_on_where_the_last_was_cut(
        self, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent = iter(range(9))
        upload = xrpc.upload

        def cut_after_two(*given: Any, **options: Any) -> dict[str, Any]:
            if next(sent) == 2:
                uploader.service.fail(PART, 503, times=3)
            return upload(*given, **options)

        monkeypatch.setattr(xrpc, "upload", cut_after_two)
        before = len(uploader.service.received_parts)
        with pytest.raises(ServiceUnavailable) as failure:
            uploader.upload(self.DATA)
        assert failure.value.retryable
        uploader.upload(self.DATA)
        assert uploader.service.received_parts[before:] == [1, 2, 3]

    def test_an_answer_to_the_end_that_was_lost_costs_no_second_upload(self, uploader: Uploader) -> None:
        uploader.service.drop(FINISH)
        assert self.received(uploader, self.DATA) == [1, 2, 3]
        assert len(uploader.jobs) == 1

    def test_a_video_that_was_processed_before_is_not_sent_again(self, uploader: Uploader) -> None:
        assert uploader.upload(self.DATA) == uploader.upload(self.DATA)
        assert len(uploader.jobs) == 1

    def test_a_service_without_parts_gets_the_video_whole(self, uploader: Uploader) -> None:
        uploader.service.take_parts_of(0)
        assert uploader.upload(self.DATA)["size"] == len(self.DATA)

    def test_a_limit_of_the_day_may_be_tried_again(self, uploader: Uploader) -> None:
        uploader.service.fail(LIMITS, 503)
        uploader.service.allow_videos(0)
        try:
            with pytest.raises(RateLimited, match="daily video allowance"):
                uploader.upload(self.DATA)
        finally:
            uploader.service.allow_videos(25)


class TestTheServiceToken:
    """A secret token: it opens the PDS to uploads for half an hour."""

    def test_is_in_no_error(
        self, uploader: Uploader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(0)
        tokens: list[str] = []

        class Remembered(xrpc.BearerToken):
            def __init__(self, token: str) -> None:
                super().__init__(token)
                tokens.append(token)

        monkeypatch.setattr(xrpc, "BearerToken", Remembered)
        service = uploader.service
        for trouble in (service.refuse_next_upload, service.fail_next_job, partial(service.drop, UPLOAD)):
            trouble()
            with pytest.raises(ServiceError) as failure:
                uploader.upload()
            shown = "".join(traceback.format_exception(failure.value)) + repr(vars(failure.value)) + caplog.text
            assert tokens.pop() not in shown

    def test_is_in_no_error_even_if_it_cannot_be_sent(self, uploader: Uploader) -> None:
        answer = {"did": "did:web:localhost", "token": "a token\n"}
        with web_page(json.dumps(answer).encode()) as pds_url:
            account = uploader.account.model_copy(update={"pds_url": pds_url})
            with pytest.raises(ServiceUnavailable) as failure:
                uploader.upload(account=account)
        assert "a token" not in "".join(traceback.format_exception(failure.value))


class TestTheStandIn:
    """The sandbox checks tokens as strictly as the real service."""

    def test_refuses_a_token_for_something_else(self, uploader: Uploader) -> None:
        token = partial(_refusal_of, uploader)
        assert token(UPLOAD, lxm=UPLOAD) == f'lexicon method "{UPLOAD}", should be {UPLOAD_BLOB}'
        assert token(UPLOAD, aud="did:web:127.0.0.1") == (
            'audience "did:web:127.0.0.1", should be the user\'s PDS DID "did:web:localhost"'
        )
        stranger = replace(uploader, account=uploader.account.model_copy(update={"did": "did:plc:abc"}))
        assert _refusal_of(stranger, UPLOAD) == f'issuer "{uploader.account.did}", should be "did:plc:abc"'
        assert token(LIMITS, aud="did:web:video.bsky.app") == f'lexicon method "{UPLOAD_BLOB}", should be {LIMITS}'

    def test_refuses_whoever_has_none(self, service: sandbox.VideoService) -> None:
        answer = httpx.post(f"{service.url}/xrpc/{UPLOAD}", content=MP4, headers={"Authorization": "Bearer garbage"})
        assert answer.status_code == 401
        assert answer.json()["error"].startswith("invalid token")

    def test_tells_the_days_limits(self, uploader: Uploader) -> None:
        token = uploader.token(aud="did:web:video.bsky.app", lxm=LIMITS)
        url = f"{uploader.service.url}/xrpc/{LIMITS}"
        limits = httpx.get(url, headers={"Authorization": f"Bearer {token}"}).json()
        assert limits["canUpload"] is True
        assert limits["remainingDailyVideos"] > 0

    def test_knows_no_other_jobs_and_methods(self, service: sandbox.VideoService) -> None:
        assert httpx.get(f"{service.url}/xrpc/{STATUS}", params={"jobId": "x"}).status_code == 404
        assert httpx.get(f"{service.url}/xrpc/app.bsky.feed.getTimeline").status_code == 404
        with pytest.raises(ValueError, match="no method"):
            service.fail("app.bsky.feed.getTimeline")

    def test_does_not_show_videos_or_tokens(self, uploader: Uploader) -> None:
        uploader.upload()
        assert repr(uploader.service) == f"VideoService(url={uploader.service.url!r})"
        assert "ftyp" not in repr(uploader.jobs)


def _refusal_of(uploader: Uploader, method: str, **params: str) -> str:
    """Why the service does not take a token that was asked for with these parameters."""
    answer = httpx.request(
        "GET" if method == LIMITS else "POST",
        f"{uploader.service.url}/xrpc/{method}",
        params={"did": uploader.account.did, "name": "launch.mp4"},
        headers={"Authorization": f"Bearer {uploader.token(**params)}"},
    )
    assert answer.status_code == 401
    return str(answer.json()["error"]).removeprefix("invalid token: invalid token ")
