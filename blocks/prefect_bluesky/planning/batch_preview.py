"""The outcome that a batch would have, and the lines that name its problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from prefect_bluesky.planning.comparison import Row
from prefect_bluesky.planning.plan_page import plan_page
from prefect_bluesky.prefect_api import ignoring_api_trouble

PREVIEW, PROBLEMS = "bluesky-batch-preview", "bluesky-batch-problems"


@dataclass(frozen=True)
class Preview:
    """The outcome that a batch would have.

    Attributes:
        rows: what would become of each post that can be published.
        problems: the posts that cannot be published or are held, each with `account`, `post`, `state` and `what`.
        summary: the numbers of posts, such as `2 due later, 1 to change`.
    """

    rows: list[Row]
    problems: list[dict[str, str]]
    summary: str


def show_preview(preview: Preview) -> State[Any]:
    """Create the artifacts of a preview, and return the final state of the run."""
    page = plan_page(preview.rows, preview.summary)
    with ignoring_api_trouble("The artifacts could not be made"):
        create_markdown_artifact(page, key=PREVIEW, description=f"Nothing was sent: {preview.summary}.")
        if preview.problems:
            what = "The posts that cannot be published, and why."
            create_table_artifact(preview.problems, key=PROBLEMS, description=what)
    return Completed(message=preview.summary)


def problem_lines(problems: Iterable[dict[str, str]]) -> Iterator[str]:
    """Yield a line for each reason why posts are not published, with their accounts and places.

    One reason can stop many posts, such as a wrong time zone.
    """
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for each in problems:
        found[each["what"]].append((each["account"], each["post"]))
    for what, places in found.items():
        # The account of an entry that cannot be read is unknown.
        accounts = [account for account in dict.fromkeys(account for account, _ in places) if account]
        posts = [post for _, post in places if post]
        yield f"{', '.join(_some(each) for each in (accounts, posts) if each)}: {what}"


def _some(places: list[str]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return f"{', '.join(places[:3])}{more}"
