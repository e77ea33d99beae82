"""Write docs/problems.md from the code: `uv run docs/problems.py`."""

from __future__ import annotations

import inspect
from pathlib import Path

from prefect_bluesky import AuthProblem, errors

PAGE = Path(__file__).with_suffix(".md")

_TEXT = """\
# Problems and remedies

Generated from the code by `uv run docs/problems.py`. To find an account's problem, use `prefect-bluesky diagnose`, the
deployment `diagnose`, or `credentials.diagnose()`.

## Why an account cannot sign in or be used

The name appears in alerts, in the message of a held run, in `AuthError.problem` and in events.

| problem | what it means | what to do |
|---|---|---|
{problems}

## Errors

All errors are `prefect_bluesky.BlueskyError`. `error.retryable` is true if the same call may succeed later; the tasks
retry only these errors. `error.is_temporary` is true if the post is worth holding.

```text
{tree}
```
"""


def page() -> str:
    """Return the page as generated from the code."""
    problems = "\n".join(f"| `{each.value}` | {each.explanation} | {each.remedy} |" for each in AuthProblem)
    tree = inspect.cleandoc(inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1])
    return _TEXT.format(problems=problems, tree=tree)


if __name__ == "__main__":
    PAGE.write_text(page())
