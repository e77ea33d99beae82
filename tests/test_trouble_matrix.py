"""Whatever answers in place of a server, and at whatever request: no post is lost, and no account is blamed.

Each request that a publish makes meets each trouble, for ever. The post then waits, and goes out once when the trouble
is over. What only adorns a post does not keep the post waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from prefect_bluesky import (
    AuthError,
    AuthProblem,
    BlueskyCredentials,
    BlueskyError,
    Image,
    LinkCard,
    Post,
    Video,
    sandbox,
)
from prefect_bluesky.channels import MastodonChannel, MastodonCredentials, Variant, mastodon
from prefect_bluesky.publishing import video_parts, video_service
from tests import aws, mastodon_server, proxy
from tests.fates import LOOK, UPLOAD
from tests.mastodon_server import MastodonServer
from tests.proxy import Answer, Phase, Silence, Step
from tests.support import (
    LOGIN,
    REFRESH,
    RESOLVE,
    STATUS,
    WRITE,
    Account,
    block,
    expire_access_token,
    picture,
    texts,
    web_page,
)

_HTML = (("Content-Type", "text/html"),)

TROUBLES: dict[str, Answer | Silence] = {
    "a firewall's page": Answer(403, b"<html><title>Access denied</title></html>", _HTML),
    "a captive portal": Answer(200, b"<html><title>Please log in</title></html>", _HTML),
    "rubbish": Answer(200, b'{"hello": "world"}'),
    "a truncated body": Answer(200, b'{"accessJwt": "ey'),
    "a redirect": Answer(302, b"", (("Location", "http://127.0.0.1:1/"),)),
    "a cut": Silence.DROP,
    "429 without headers": Answer(429, b""),
    "500 for ever": Answer(500, b'{"error": "InternalServerError", "message": "Internal Server Error"}'),
    "502": Answer(502, b"<html><title>Bad Gateway</title></html>", _HTML),
}

pytestmark = pytest.mark.slow

NOBODYS_FAULT = {None, AuthProblem.SERVICE_UNAVAILABLE, AuthProblem.STORE_UNAVAILABLE}


@dataclass
class Network:
    """Servers, each behind a proxy on which a request that is in trouble never arrives.

    Attributes:
        troubles: the answers to requests, by the beginning of a request's name.
        lost: the names of requests whose answers are lost.
    """

    pds: sandbox.Sandbox
    other_pds: sandbox.Sandbox
    mastodon: MastodonServer
    pds_url: str = ""
    other_pds_url: str = ""
    directory_url: str = ""
    video_url: str = ""
    mastodon_url: str = ""
    web_url: str = ""
    aws_url: str = ""
    prefect_url: str = ""
    troubles: dict[str, Answer | Silence] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def befall(self, step: Step, phase: Phase) -> Answer | Silence | None:
        """Return the trouble that a request is in."""
        if phase is Phase.DURING and step.method in self.lost:
            return Silence.DROP
        if phase is not Phase.BEFORE:
            return None
        return next((each for name, each in self.troubles.items() if step.method.startswith(name)), None)

    def prefect(self) -> AbstractContextManager[object]:
        """Return a context with a Prefect API, which is asked once: its client's own retries take a minute."""
        return temporary_settings({PREFECT_API_URL: self.prefect_url, PREFECT_CLIENT_MAX_RETRIES: 0})

    def block_of(self, account: Account, **options: Any) -> BlueskyCredentials:
        """Return the block of an account whose PDS is asked through the proxy."""
        return block(self.pds, account, **options).model_copy(update={"service_url": self.pds_url})


PAGE = b'<html><head><title>A page</title><meta property="og:image" content="/picture.png"></head></html>'
MP4 = b"\x00\x00\x00\x18ftypmp42 and so on"


@pytest.fixture(scope="module")
def servers(aws_url: str, prefect_server: str) -> Iterator[Network]:
    with ExitStack() as running:
        enter = running.enter_context
        pds, other_pds, mastodon = enter(sandbox.run()), enter(sandbox.run()), enter(mastodon_server.run())
        network = Network(pds, other_pds, mastodon)

        def through(url: str) -> str:
            return enter(proxy.run(url, network.befall))

        files = {"/picture.png": picture(8, 8), "/video.mp4": MP4}
        network.pds_url, network.other_pds_url = through(pds.url), through(other_pds.url)
        network.directory_url = through(other_pds.plc_url)
        network.video_url = through(enter(sandbox.run_video_service(pds.url)).url)
        network.mastodon_url, network.web_url = through(mastodon.url), through(enter(web_page(PAGE, files)))
        network.aws_url = through(aws_url)
        network.prefect_url = f"{through(prefect_server.removesuffix('/api'))}/api"
        yield network


@pytest.fixture
def network(servers: Network, monkeypatch: pytest.MonkeyPatch) -> Network:
    servers.troubles.clear()
    servers.lost.clear()
    servers.mastodon.statuses.clear()
    settings = {
        "DID_DIRECTORY_URL": servers.directory_url,
        "VIDEO_SERVICE_URL": servers.video_url,
        "ALLOW_PRIVATE_ADDRESSES": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"PREFECT_INTEGRATIONS_BLUESKY_{name}", value)
    monkeypatch.setattr(video_service, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(video_service, "WORTH_PARTS", 1000)
    monkeypatch.setattr(video_parts, "_PAUSE", 0.01)
    monkeypatch.setattr(mastodon, "_BETWEEN_LOOKS", 0.01)
    return servers


@dataclass(frozen=True)
class Attempt:
    """A post that can be published again and again, and what is out."""

    publish: Callable[[], object]
    out: Callable[[], list[str]]


def of_text(network: Network, **fields: Any) -> Attempt:
    """A post whose account has a session."""
    attempt, credentials, _ = _attempt(network, Post(**{"text": "hello", **fields}))
    credentials.ensure_session()
    return attempt


def signing_in(network: Network) -> Attempt:
    return _attempt(network, Post(text="hello"))[0]


def refreshing(network: Network) -> Attempt:
    attempt, credentials, account = _attempt(network, Post(text="hello"))
    credentials.ensure_session()
    expire_access_token(network.pds, account, credentials)
    return attempt


def _attempt(network: Network, post: Post, **options: Any) -> tuple[Attempt, BlueskyCredentials, Account]:
    account = network.pds.create_account()
    credentials = network.block_of(account, **options)
    attempt = Attempt(lambda: credentials.publish(post, key="the post"), lambda: texts(network.pds, account))
    return attempt, credentials, account


def with_image(network: Network) -> Attempt:
    return of_text(network, images=[Image(source=picture(8, 8), alt="red")])


def with_image_of_the_web(network: Network) -> Attempt:
    return of_text(network, images=[Image(source=f"{network.web_url}/picture.png", alt="red")])


def with_video_of_the_web(network: Network) -> Attempt:
    return of_text(network, video=Video(source=f"{network.web_url}/video.mp4", alt="red"))


def with_mention(network: Network) -> Attempt:
    return of_text(network, text="hello @somebody.test")


def with_video(network: Network) -> Attempt:
    return of_text(network, video=Video(source=MP4, alt="red"))


def with_large_video(network: Network) -> Attempt:
    return of_text(network, video=Video(source=MP4 + bytes(1000), alt="red"))


def with_card(network: Network) -> Attempt:
    return of_text(network, link_card=LinkCard(url=f"{network.web_url}/page"))


def with_quote_from_elsewhere(network: Network) -> Attempt:
    """A quote of a record that only its author's PDS has, which the directory names."""
    author = network.other_pds.create_account()
    quoted = block(network.other_pds, author).publish("quote me")
    network.other_pds.move(author, network.other_pds_url)
    return of_text(network, quote=quoted.uri)


def impatient(url: str) -> AwsCredentials:
    """AWS that is asked once: its client's own retries take 15 s, and are not ours."""
    credentials = aws.credentials(url)
    parameters = AwsClientParameters(endpoint_url=url, config={"retries": {"total_max_attempts": 1}})
    return credentials.model_copy(update={"aws_client_parameters": parameters})


def with_session_in_aws(network: Network) -> Attempt:
    return _attempt(network, Post(text="hello"), aws_credentials=impatient(network.aws_url))[0]


def with_stale_session_in_aws(network: Network) -> Attempt:
    options = {"aws_credentials": impatient(network.aws_url)}
    attempt, credentials, account = _attempt(network, Post(text="hello"), **options)
    credentials.ensure_session()
    expire_access_token(network.pds, account, credentials)
    return attempt


def with_session_in_prefect(network: Network) -> Attempt:
    account = network.pds.create_account()
    credentials = network.block_of(account)
    with network.prefect():
        credentials.save(f"account-{uuid4().hex[:8]}")

    def publish() -> None:
        with network.prefect():
            credentials.publish("hello", key="the post")

    return Attempt(publish, lambda: texts(network.pds, account))


def of_mastodon_with_image(network: Network) -> Attempt:
    return of_mastodon(network, Image(source=picture(8, 8), alt="red"))


def of_mastodon(network: Network, *images: Image) -> Attempt:
    credentials = MastodonCredentials(instance_url=network.mastodon_url, access_token=SecretStr("good-token"))
    variant, key = Variant(kind="hook", posts=("hello",), images=images), uuid4().hex
    return Attempt(lambda: MastodonChannel(credentials).publish(variant, key), network.mastodon.texts)


def of_mastodon_whose_answer_is_lost(network: Network) -> Attempt:
    network.lost.add("POST /api/v1/statuses")
    return of_mastodon(network)


REQUESTS: dict[str, Callable[[Network], Attempt]] = {
    # to the account's PDS
    LOGIN: signing_in,
    REFRESH: refreshing,
    WRITE: of_text,
    LOOK: with_image,
    UPLOAD: with_image,
    RESOLVE: with_mention,
    "com.atproto.server.describeServer": with_video,
    "com.atproto.server.getServiceAuth": with_video,
    # to the video service
    "app.bsky.video.uploadVideo": with_video,
    "app.bsky.video.getJobStatus": with_video,
    "app.bsky.video.startUpload": with_large_video,
    "app.bsky.video.uploadPart": with_large_video,
    "app.bsky.video.finishUpload": with_large_video,
    # to the directory of DIDs
    "GET /did:plc:": with_quote_from_elsewhere,
    # to a file's host
    "GET /picture.png": with_image_of_the_web,
    "GET /video.mp4": with_video_of_the_web,
    # to Mastodon
    "GET /api/v2/instance": of_mastodon_with_image,
    "POST /api/v1/media": of_mastodon_with_image,
    "GET /api/v1/media/": of_mastodon_with_image,
    "POST /api/v1/statuses": of_mastodon,
    "GET /api/v1/accounts/verify_credentials": of_mastodon_whose_answer_is_lost,
    "GET /api/v1/accounts/1/statuses": of_mastodon_whose_answer_is_lost,
    "GET /api/v1/statuses/": of_mastodon_whose_answer_is_lost,
    # to the session's store
    "GetSecretValue": with_session_in_aws,
    "CreateSecret": with_session_in_aws,
    "GET /api/block_types/slug/secret/block_documents/name/": with_session_in_prefect,
    "POST /api/block_documents/": with_session_in_prefect,
}
"""Each request of a publish without which there is no post."""


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("request_name", REQUESTS)
def test_the_post_waits_and_goes_out_once(request_name: str, trouble: str, network: Network) -> None:
    attempt = REQUESTS[request_name](network)
    network.troubles[request_name] = TROUBLES[trouble]
    for _ in range(2):
        with pytest.raises(BlueskyError) as failure:
            attempt.publish()
        assert failure.value.is_temporary, failure.value
        assert failure.value.problem in NOBODYS_FAULT, failure.value
    network.troubles.clear()
    network.lost.clear()
    for _ in range(2):
        attempt.publish()
    assert len(attempt.out()) == 1


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize(
    ("request_name", "way"),
    [
        ("GET /page", with_card),
        ("GET /picture.png", with_card),
        ("app.bsky.video.getUploadLimits", with_video),
        # The session is kept by the next run.
        ("PutSecretValue", with_stale_session_in_aws),
    ],
)
def test_what_a_post_can_do_without_keeps_it_not_waiting(
    request_name: str, way: Callable[[Network], Attempt], trouble: str, network: Network
) -> None:
    attempt = way(network)
    network.troubles[request_name] = TROUBLES[trouble]
    attempt.publish()
    assert len(attempt.out()) == 1


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_is_to_be_deleted_is_deleted_later(trouble: str, network: Network) -> None:
    account = network.pds.create_account()
    credentials = network.block_of(account)
    post = credentials.publish("hello")
    network.troubles["com.atproto.repo.deleteRecord"] = TROUBLES[trouble]
    with pytest.raises(BlueskyError) as failure:
        credentials.delete_post(post)
    assert failure.value.retryable
    network.troubles.clear()
    credentials.delete_post(post)
    assert texts(network.pds, account) == []


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("request_name", [RESOLVE, "GET /did:plc:", STATUS])
def test_evidence_that_cannot_be_had_names_no_other_cause(request_name: str, trouble: str, network: Network) -> None:
    account = network.pds.create_account()
    credentials = network.block_of(account, app_password="aaaa-bbbb-cccc-dddd")
    network.troubles[request_name] = TROUBLES[trouble]
    with pytest.raises(AuthError) as failure:
        credentials.publish("hello")
    assert failure.value.problem is AuthProblem.APP_PASSWORD_REJECTED
