"""Publish one post to Bluesky: gate, then publish.

As a deployment it takes a saved `BlueskyCredentials` block and a post. As a script it takes the account from the
environment: `uv run flows/publish.py "Hello"`.
"""

from __future__ import annotations

import argparse
import sys

import httpx
from prefect import flow
from prefect.artifacts import create_link_artifact
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging import get_run_logger
from pydantic import ValidationError

from prefect_bluesky import BlueskyCredentials, BlueskyError, Post, PublishedPost, ensure_session, publish_post


@flow(
    name="publish",
    flow_run_name="publish as {credentials.handle}",
    description="Publish one post to Bluesky, exactly once, behind a gate that keeps the session alive.",
)
def publish(credentials: BlueskyCredentials, post: Post, key: str | None = None) -> PublishedPost:
    """Publish one post.

    Args:
        credentials: the account; pick a saved block, so that the run can be repeated.
        post: what to publish.
        key: what tells this post from all others of the account: under the same key it is never published twice. Left
            out, a retry of this run does not publish twice, and another run does.
    """
    session = ensure_session(credentials)
    published = publish_post(credentials, post, key)
    logger = get_run_logger()
    logger.info("Published %s. %s", published.uri, session)
    try:
        create_link_artifact(
            published.url, link_text="See the post", description=f"Published as {session.handle}:\n\n> {post.text}"
        )
    except (httpx.TransportError, PrefectHTTPStatusError) as trouble:
        # The post is out: a link that is missing must not fail the run, which somebody would then start again.
        logger.warning("The artifact with the link could not be made: %s", type(trouble).__name__)
    return published


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="publish.py",
        description="Publish one post to Bluesky.",
        epilog=(
            "The account comes from the environment: BLUESKY_HANDLE (such as alice.bsky.social), BLUESKY_APP_PASSWORD"
            " (made in the Bluesky app under Settings > Privacy and security > App passwords) and, if it is not"
            " https://bsky.social, BLUESKY_SERVICE_URL. The session is kept in Prefect, encrypted, so that the next"
            " call need not sign in again."
        ),
    )
    parser.add_argument("text", help="what the post says; links, @mentions and #hashtags become clickable")
    parser.add_argument("--key", help="publish under this key at most once, however often this is called")
    return parser.parse_args()


def _main() -> None:
    arguments = _arguments()
    try:
        published = publish(BlueskyCredentials.from_environment(), Post(text=arguments.text), arguments.key)
    except ValidationError as unusable:
        sys.exit("\n".join(f"{error['loc'][0]}: {error['ctx']['error']}" for error in unusable.errors()))
    except BlueskyError as problem:
        sys.exit(str(problem))
    print(published.url)


if __name__ == "__main__":
    _main()
