"""Publish to Bluesky social (AT Protocol) from Prefect, with credentials that look after themselves.

Example:
    >>> from prefect_bluesky import BlueskyCredentials
    >>> credentials = BlueskyCredentials.load("alice")
    >>> credentials.publish("Hello from Prefect").url
    'https://bsky.app/profile/alice.test/post/3...'
"""

from importlib.metadata import version

from prefect_bluesky.channels import (
    AppriseService,
    BlueskyNotification,
    Delivery,
    MastodonCredentials,
    apublish_everywhere,
    publish_everywhere,
)
from prefect_bluesky.compose import AIGenerator
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import AuthError, BlueskyError
from prefect_bluesky.planning import PlannedPost, PostingSchedule, hold
from prefect_bluesky.posts import Captions, Image, LinkCard, Post, Preview, ThreadPost, Video
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.publishing import PublishedPost
from prefect_bluesky.sessions import BlueskyOAuthClient, Diagnosis, SessionStatus
from prefect_bluesky.tasks import aensure_session, apublish_post, ensure_session, publish_post

__all__ = [
    "AIGenerator",
    "AppriseService",
    "AuthError",
    "AuthProblem",
    "BlueskyCredentials",
    "BlueskyError",
    "BlueskyNotification",
    "BlueskyOAuthClient",
    "Captions",
    "Delivery",
    "Diagnosis",
    "Image",
    "LinkCard",
    "MastodonCredentials",
    "PlannedPost",
    "PostingSchedule",
    "Post",
    "Preview",
    "PublishedPost",
    "SessionStatus",
    "ThreadPost",
    "Video",
    "aensure_session",
    "apublish_everywhere",
    "apublish_post",
    "ensure_session",
    "hold",
    "publish_everywhere",
    "publish_post",
]

__version__ = version("prefect-bluesky")
