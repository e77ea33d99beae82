"""Write docs/problems.md from the code: `uv run docs/problems.py`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from prefect_bluesky import AuthProblem, errors

PAGE = Path(__file__).with_suffix(".md")


def page() -> str:
    """The page as the code has it."""
    return "\n".join([*_introduction(), *_problems(), *_errors()])


def _introduction() -> Iterator[str]:
    yield "# Problems and remedies"
    yield ""
    yield "Written from the code by `uv run docs/problems.py`. To find out which one an account has:"
    yield "`uv run flows/diagnose.py`, the deployment `diagnose`, or `credentials.diagnose()`."
    yield ""


def _problems() -> Iterator[str]:
    yield "## Why an account cannot sign in, or be used"
    yield ""
    yield "The name stands in alerts, in the message of a held run, in `AuthError.problem` and in events."
    yield ""
    yield "| problem | what it means | what to do |"
    yield "|---|---|---|"
    for problem in AuthProblem:
        yield f"| `{problem.value}` | {problem.explanation} | {problem.remedy} |"
    yield ""


def _errors() -> Iterator[str]:
    yield "## What is raised"
    yield ""
    yield "All are `prefect_bluesky.BlueskyError`. `error.retryable` says whether the same call may succeed later; the"
    yield "tasks here try those again, and no others. `error.is_temporary` says whether the post is worth holding."
    yield ""
    yield "```text"
    tree = inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1]
    yield inspect.cleandoc(tree)
    yield "```"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
