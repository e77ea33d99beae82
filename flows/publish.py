"""Publish a post or a thread to Bluesky: ensure a session, then publish.

A deployment takes a saved `BlueskyCredentials` block and a post. The script takes the account from the environment:
`uv run flows/publish.py "Hello"`.
"""

# No `from __future__ import annotations`: `publish.serve()` pickles the flow by value. A parameter type that is only a
# string cannot be resolved in the process that runs the flow (Prefect 3.8.8 to 3.9.1).

import argparse
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_link_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed
from pydantic import ValidationError

from prefect_bluesky import (
    BlueskyCredentials,
    BlueskyError,
    Post,
    Preview,
    PublishedPost,
    ensure_session,
    hold,
    publish_post,
)
from prefect_bluesky.errors import Expired
from prefect_bluesky.media import is_url
from prefect_bluesky.planning import ScriptHolder, expire, final_state
from prefect_bluesky.prefect_api import ignoring_api_trouble, literal_markdown, quiet_server
from prefect_bluesky.tasks import run_in_flow
from prefect_bluesky.validation import explain_validation_error


@flow(
    name="publish",
    flow_run_name="publish as {credentials.handle}",
    description="Publish one post to Bluesky, exactly once, behind a gate that keeps the session alive.",
)
def publish(
    credentials: BlueskyCredentials, post: Post, key: str | None = None, dry_run: bool = False
) -> PublishedPost | Preview | State[Any]:
    """Publish one post or a thread.

    If the account cannot sign in or its server does not answer for long, a deployment's run ends in the state `Held`,
    and `publish-held` sends the post later. Any other run fails.

    Args:
        credentials: The account. Pick a saved block, so that the run can be repeated.
        post: The post to publish. A text is enough.
        key: A name for this post, unique within the account: each key is published once. If it is left out, a retry
            of this run does not publish twice, but a new run does.
        dry_run: Send nothing. Show a preview among the run's artifacts.
    """
    logger = get_run_logger()
    try:
        session = run_in_flow(ensure_session, credentials)
        if dry_run:
            preview = credentials.publish(post, key, dry_run=True)
            logger.info("Nothing was sent. Preview:\n%s", preview)
            return preview
        published = run_in_flow(publish_post, credentials, post, key)
    except Expired as error:
        return expire(error, credentials)
    except BlueskyError as error:
        return final_state(error) if dry_run or not error.is_temporary else hold(error, credentials)
    logger.info("Published %s. %s", published.uri, session)
    with ignoring_api_trouble("The artifact with the link could not be made"):
        others = "".join(f"\n\n{each.url}" for each in published.posts[1:])
        description = f"Published as {session.handle}.\n\n{literal_markdown(post.text)}{others}"
        create_link_artifact(published.url, link_text="See the post", description=description)
    # A Python caller gets the post.
    return Completed(message=f"Published {published.url}", data=published)


def _arguments() -> argparse.Namespace:
    epilog = (
        "The account comes from the environment: BLUESKY_HANDLE (such as alice.bsky.social), BLUESKY_APP_PASSWORD"
        " (created in the Bluesky app under Settings > Privacy and security > App passwords) and, if the service is not"
        " https://bsky.social, BLUESKY_SERVICE_URL. Prefect stores the session, encrypted, for the next call."
    )
    parser = argparse.ArgumentParser(prog="publish.py", description="Publish one post to Bluesky.", epilog=epilog)
    parser.add_argument("text", help="the text of the post; links, @mentions and #hashtags become clickable")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="attach an image, up to ten times")
    parser.add_argument("--alt", action="append", default=[], metavar="TEXT", help="describe an image, once per image")
    parser.add_argument("--link-card", metavar="URL", help="show a card of this page")
    parser.add_argument("--split", action="store_true", help="make a thread if the text is too long for one post")
    parser.add_argument("--key", help="publish under this key at most once, however often the script runs")
    parser.add_argument("--dry-run", action="store_true", help="send nothing, and print a preview")
    hold_help = "if the post cannot be published now, let publish-held send it later, from the account's saved block"
    parser.add_argument("--hold", action="store_true", help=hold_help)
    return parser.parse_args()


def _post(arguments: argparse.Namespace) -> Post:
    files = arguments.image
    if arguments.hold:
        # The worker that sends the post later has another working directory.
        files = [file if is_url(file) else str(Path(file).expanduser().resolve()) for file in files]
    images = [{"source": file, "alt": alt or ""} for file, alt in zip_longest(files, arguments.alt)]
    card, split = arguments.link_card, arguments.split
    return Post.model_validate({"text": arguments.text, "images": images, "link_card": card, "split_long_text": split})


@quiet_server()
def _main() -> None:
    arguments = _arguments()
    try:
        credentials, post = BlueskyCredentials.from_environment(), _post(arguments)
        holder = ScriptHolder(credentials, arguments.key) if arguments.hold else None
    except ValidationError as unusable:
        sys.exit(explain_validation_error(unusable))
    except BlueskyError as problem:
        sys.exit(str(problem))
    try:
        done = publish(credentials, post, holder.key if holder else arguments.key, arguments.dry_run)
    except BlueskyError as problem:
        is_held = problem.is_temporary and not arguments.dry_run
        sys.exit(holder.hold(post, problem) if holder and is_held else str(problem))
    print(done.url if isinstance(done, PublishedPost) else done)


if __name__ == "__main__":
    _main()
