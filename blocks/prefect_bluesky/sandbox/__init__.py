"""A small Bluesky PDS on loopback, in memory: for the demo, and for your tests of code that uses prefect-bluesky.

The sandbox answers the calls that publishing needs, with the statuses, error names and messages of a real PDS. A test
can cause the troubles of a real PDS: expired or revoked tokens, failures, slow answers and lost answers. Accounts can
grant access by OAuth without a browser: see `Sandbox.consent`. The sandbox does not simulate rate limits (use
`Sandbox.fail` with status 429). `run_video_service` adds a stand-in for Bluesky's video service.

Example:
    >>> from datetime import timedelta
    >>> from prefect_bluesky import sandbox
    >>> with sandbox.run() as pds:
    ...     alice = pds.create_account("alice.test")
    ...     # sign in at pds.url as alice.handle with alice.app_password, publish, and then:
    ...     posts = pds.posts(alice)
    ...     pds.advance(timedelta(hours=3))  # the access token has expired
    ...     pds.drop("com.atproto.repo.applyWrites")  # the next write happens, but its answer is lost
    ...     seen = [(request.nsid, request.status) for request in pds.requests()]
"""

from .accounts import Account
from .app import Request
from .oauth.controls import Grant
from .server import Sandbox, run
from .video import Job, VideoService, run_video_service

__all__ = ["Account", "Grant", "Job", "Request", "Sandbox", "VideoService", "run", "run_video_service"]
