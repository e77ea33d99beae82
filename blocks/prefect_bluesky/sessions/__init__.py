"""Keep an account signed in: reuse its session, refresh it, or log in, one worker at a time.

Everything that is known of an account's session, and where it is stored, is in this room.
"""

from prefect_bluesky.sessions.app_password import AppPassword, from_block, from_secret
from prefect_bluesky.sessions.authenticator import Authenticator
from prefect_bluesky.sessions.diagnosis import Diagnosis, Examination
from prefect_bluesky.sessions.document import SessionDocument
from prefect_bluesky.sessions.grant_sign_in import GrantSignIn
from prefect_bluesky.sessions.lock import worker_lock
from prefect_bluesky.sessions.oauth_client import BlueskyOAuthClient
from prefect_bluesky.sessions.password_sign_in import PasswordSignIn
from prefect_bluesky.sessions.policy import LoginPolicy
from prefect_bluesky.sessions.profile import BOT, PROFILE, labels_of
from prefect_bluesky.sessions.sdk_client import async_sdk_client, sdk_client
from prefect_bluesky.sessions.session import Session, SessionStatus
from prefect_bluesky.sessions.session_auth import SessionAuth
from prefect_bluesky.sessions.sign_in import SignIn
from prefect_bluesky.sessions.stores.aws import AwsSessionStore
from prefect_bluesky.sessions.stores.aws_secret import AwsSecret
from prefect_bluesky.sessions.stores.base import Saved, SessionStore
from prefect_bluesky.sessions.stores.memory import MemorySessionStore
from prefect_bluesky.sessions.stores.prefect import PrefectSessionStore
from prefect_bluesky.sessions.visit import Visit

# fmt: off
__all__ = [
    "AppPassword", "Authenticator", "AwsSecret", "AwsSessionStore", "BOT", "BlueskyOAuthClient", "Diagnosis",
    "Examination", "GrantSignIn", "LoginPolicy", "MemorySessionStore", "PROFILE", "PasswordSignIn",
    "PrefectSessionStore", "Saved", "Session", "SessionAuth", "SessionDocument", "SessionStatus", "SessionStore",
    "SignIn", "Visit", "async_sdk_client", "from_block", "from_secret", "labels_of", "sdk_client", "worker_lock",
]
# fmt: on
