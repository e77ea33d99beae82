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
    """Yield a line for each reason why posts of an account are not published, with the places of these posts."""
    places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for each in problems:
        places[each["account"], each["what"]].append(each["post"])
    for (account, what), posts in places.items():
        yield f"{_place(account, _some(posts))}: {what}"


def _place(account: str, posts: str) -> str:
    return ", ".join(filter(None, (account, posts)))  # of an entry that cannot be read the account is unknown


def _some(places: list[str]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return f"{', '.join(places[:3])}{more}"
