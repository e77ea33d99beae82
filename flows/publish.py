"""Publish a post or a thread to Bluesky: ensure a session, then publish.

A deployment takes a saved `BlueskyCredentials` block and a post. The script takes the account from the environment:
`prefect-bluesky publish "Hello"`.
"""

# No `from __future__ import annotations`: `publish.serve()` pickles the flow by value. A parameter type that is only a
# string cannot be resolved in the process that runs the flow (Prefect 3.8.8 to 3.9.1).

import argparse
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_link_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed
from pydantic import ValidationError

from prefect_bluesky import (
    AuthError,
    BlueskyCredentials,
    BlueskyError,
    Post,
    Preview,
    PublishedPost,
    ensure_session,
    hold,
    publish_post,
)
from prefect_bluesky.errors import Expired, InvalidInput
from prefect_bluesky.media import is_url
from prefect_bluesky.planning import ScriptHolder, as_page, expire, final_state, not_approved
from prefect_bluesky.posts import OF_A_FORM, in_words_of_a_shell, usable
from prefect_bluesky.prefect_api import as_script, given_block, ignoring_api_trouble, literal_markdown
from prefect_bluesky.problems import without_block
from prefect_bluesky.tasks import run_in_flow

_FIND_OUT_WHY = "To check the account: prefect-bluesky diagnose"


@flow(
    name="publish",
    flow_run_name="publish as {credentials.handle}",
    description="Publish one post to Bluesky, exactly once, behind a gate that keeps the session alive.",
)
def publish(
    credentials: BlueskyCredentials,
    post: Annotated[Post, OF_A_FORM],
    key: str | None = None,
    dry_run: bool = False,
    approve: bool = False,
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
        approve: Show the post, and wait for a person who resumes the run and approves.
    """
    logger = get_run_logger()
    try:
        post = usable(post)
        session = run_in_flow(ensure_session, credentials)
        if dry_run:
            preview = credentials.publish(post, key, dry_run=True)
            logger.info("Nothing was sent. The preview is among the run's artifacts.")
            return preview
        if approve and (dropped := not_approved([as_page(post, session.handle)])):
            return dropped
        published = run_in_flow(publish_post, credentials, post, key)
    except Expired as error:
        return expire(error, credentials)
    except BlueskyError as error:
        return final_state(error) if dry_run or not error.is_temporary else hold(error, credentials)
    done = "Published" if published.is_new else "Already out:"
    logger.info("%s %s. %s", done, published.uri, session)
    with ignoring_api_trouble("The artifact with the link could not be made"):
        others = "".join(f"\n\n{each.url}" for each in published.posts[1:])
        description = f"Published as {session.handle}.\n\n{literal_markdown(post.text)}{others}"
        create_link_artifact(published.url, link_text="See the post", description=description)
    # A Python caller gets the post.
    return Completed(message=f"{done} {published.url}", data=published)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    epilog = (
        "Without --account, the account comes from the environment: BLUESKY_HANDLE (such as alice.bsky.social),"
        " BLUESKY_APP_PASSWORD (created in the Bluesky app under Settings > Privacy and security > App passwords) and,"
        " if the service is not https://bsky.social, BLUESKY_SERVICE_URL. Prefect stores the session, encrypted, for"
        " the next call."
    )
    made = argparse.ArgumentParser(description="Publish one post to Bluesky.", epilog=epilog)
    made.add_argument("text", help="the text of the post; links, @mentions and #hashtags become clickable")
    made.add_argument("--account", metavar="BLOCK", help="the name of the account's saved block, such as alice")
    made.add_argument("--image", action="append", default=[], metavar="FILE", help="attach an image, up to ten times")
    made.add_argument("--alt", action="append", default=[], metavar="TEXT", help="describe an image, once per image")
    made.add_argument("--link-card", metavar="URL", help="show a card of this page")
    made.add_argument("--split", action="store_true", help="make a thread if the text is too long for one post")
    made.add_argument("--key", help="publish under this key at most once, however often the script runs")
    made.add_argument("--dry-run", action="store_true", help="send nothing, and print a preview")
    hold_help = "if the post cannot be published now, let publish-held send it later, from the account's saved block"
    made.add_argument("--hold", action="store_true", help=hold_help)
    return made


def _post(arguments: argparse.Namespace) -> Post:
    files = arguments.image
    for file in files:
        if not is_url(file) and not Path(file).expanduser().is_file():
            raise InvalidInput("--image", f"there is no file {file}.", "Correct the path.")
    if arguments.hold:
        # The worker that sends the post later has another working directory.
        files = [file if is_url(file) else str(Path(file).expanduser().resolve()) for file in files]
    images = [{"source": file, "alt": alt or ""} for file, alt in zip_longest(files, arguments.alt)]
    card, split = arguments.link_card, arguments.split
    return Post.model_validate({"text": arguments.text, "images": images, "link_card": card, "split_long_text": split})


@as_script()
def main() -> None:
    """Publish a post, and print its address."""
    arguments = parser().parse_args()
    try:
        post = _post(arguments)
        credentials = (
            given_block(arguments.account, BlueskyCredentials, "account")
            if arguments.account
            else BlueskyCredentials.from_environment()
        )
        holder = ScriptHolder(credentials, arguments.key) if arguments.hold else None
    except ValidationError as unusable:
        sys.exit(in_words_of_a_shell(unusable))
    try:
        done = publish(credentials, post, holder.key if holder else arguments.key, arguments.dry_run)
    except BlueskyError as problem:
        is_held = problem.is_temporary and not arguments.dry_run
        if holder and is_held:
            sys.exit(holder.hold(post, problem))
        said = str(problem) if arguments.account else without_block(str(problem))
        hint = f"\n{_FIND_OUT_WHY} {arguments.account or ''}".rstrip() if isinstance(problem, AuthError) else ""
        sys.exit(f"{said}{hint}")
    if not isinstance(done, PublishedPost):
        print(done)
        return
    posts = done.posts or (done,)
    if len(posts) > 1:
        print(f"{len(posts)} posts:")
    print("\n".join(each.url for each in posts))


if __name__ == "__main__":
    main()
