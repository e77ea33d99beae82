"""Publish to Bluesky social (AT Protocol) from Prefect, with credentials that look after themselves.

Example:
    >>> from prefect_bluesky import BlueskyCredentials
    >>> credentials = BlueskyCredentials.load("alice")
    >>> credentials.publish("Hello from Prefect").url
    'https://bsky.app/profile/alice.test/post/3...'
"""

from importlib.metadata import version

from prefect_bluesky.ai import AIGenerator
from prefect_bluesky.attachments import Captions, Image, LinkCard, Video
from prefect_bluesky.channels import AppriseService, MastodonCredentials
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.diagnosis import Diagnosis
from prefect_bluesky.errors import AuthError, BlueskyError
from prefect_bluesky.held import hold
from prefect_bluesky.planned_post import PlannedPost
from prefect_bluesky.post import Post, ThreadPost
from prefect_bluesky.preview import Preview
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.publication import PublishedPost
from prefect_bluesky.session import SessionStatus
from prefect_bluesky.tasks import ensure_session, publish_post

__all__ = [
    "AIGenerator",
    "AppriseService",
    "AuthError",
    "AuthProblem",
    "BlueskyCredentials",
    "BlueskyError",
    "Captions",
    "Diagnosis",
    "Image",
    "LinkCard",
    "MastodonCredentials",
    "PlannedPost",
    "Post",
    "Preview",
    "PublishedPost",
    "SessionStatus",
    "ThreadPost",
    "Video",
    "ensure_session",
    "hold",
    "publish_post",
]

__version__ = version("prefect-bluesky")
