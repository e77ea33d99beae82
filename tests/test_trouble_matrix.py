"""Whatever answers in place of a server, and at whatever request: no post is lost, and no account is blamed.

Each request of a publish meets each trouble, for ever. The post then waits, and goes out once when the trouble is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from prefect_bluesky import AuthProblem, BlueskyCredentials, BlueskyError, Image, Post, sandbox
from tests import proxy
from tests.fates import LOOK, UPLOAD
from tests.proxy import Answer, Phase, Silence, Step
from tests.support import LOGIN, REFRESH, RESOLVE, WRITE, block, expire_access_token, picture, texts

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


@dataclass(frozen=True)
class Way:
    """How a publish comes to make a request.

    Args:
        post: makes the post.
        is_signed_in: whether the account has a session.
        is_expired: whether the session's access token has expired.
    """

    post: Callable[[], Post]
    is_signed_in: bool = True
    is_expired: bool = False


def text() -> Post:
    return Post(text="hello")


def with_image() -> Post:
    return Post(text="hello", images=[Image(source=picture(8, 8), alt="red")])


def with_mention() -> Post:
    return Post(text="hello @somebody.test")


WAYS = {
    LOGIN: Way(text, is_signed_in=False),
    REFRESH: Way(text, is_expired=True),
    WRITE: Way(text),
    LOOK: Way(with_image),
    UPLOAD: Way(with_image),
    RESOLVE: Way(with_mention),
}
"""Each request of a publish to the account's PDS. Those of videos are in test_videos.py, those of stores in
test_aws_trouble.py, pages in test_cards.py, Mastodon in test_mastodon.py."""


@contextmanager
def troubled(pds_url: str) -> Iterator[tuple[str, dict[str, Answer | Silence]]]:
    """A way to a PDS, on which each request of a method meets a trouble as long as the dictionary has it."""
    troubles: dict[str, Answer | Silence] = {}

    def on_step(step: Step, phase: Phase) -> Answer | Silence | None:
        return troubles.get(step.method) if phase is Phase.BEFORE else None

    with proxy.run(pds_url, on_step) as url:
        yield url, troubles


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("method", WAYS)
def test_the_post_waits_and_goes_out_once(method: str, trouble: str, sandbox_pds: sandbox.Sandbox) -> None:
    way, account = WAYS[method], sandbox_pds.create_account()
    with troubled(sandbox_pds.url) as (url, troubles):
        credentials = block(sandbox_pds, account).model_copy(update={"service_url": url})
        if way.is_signed_in:
            credentials.ensure_session()
        if way.is_expired:
            expire_access_token(sandbox_pds, account, credentials)
        post = way.post()
        troubles[method] = TROUBLES[trouble]
        _fails_without_blame(credentials, post)
        del troubles[method]
        for _ in range(2):
            credentials.publish(post, key="the post")
    assert texts(sandbox_pds, account) == [post.text]


def _fails_without_blame(credentials: BlueskyCredentials, post: Post) -> None:
    for _ in range(2):
        with pytest.raises(BlueskyError) as failure:
            credentials.publish(post, key="the post")
        error: Any = failure.value
        assert error.is_temporary, error
        assert error.problem in {None, AuthProblem.SERVICE_UNAVAILABLE}, error
