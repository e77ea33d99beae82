"""See a session expire and heal: `uv run flows/demo.py`.

Runs the `publish` flow on a temporary Prefect server and a temporary PDS, both on loopback. Exits with 0 only if every
step did what it should.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from rich.console import Console

from prefect_bluesky import AuthError, AuthProblem, BlueskyCredentials, Post, PublishedPost, sandbox

LOGIN = "createSession"
REFRESH = "refreshSession"
WRITE = "applyWrites"
HANDLE = "resolveHandle"
STATUS = "getRepoStatus"


class Demo:
    """The steps of the demo, with the requests that the PDS received."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.publish: Flow[..., Any] = load_flow_from_entrypoint(f"{Path(__file__).with_name('publish.py')}:publish")
        self.seen: list[tuple[str, int | None]] = []
        self.replays = 0
        self.failed_steps = 0
        self.problem: AuthProblem | None = None

    def on_request(self, request: sandbox.Request) -> None:
        """Print a request and the answer of the PDS."""
        name = request.nsid.rsplit(".", 1)[1]
        self.seen.append((name, request.status))
        colour = "green" if request.status == 200 else "red"
        self.console.print(f"    [dim]PDS answered[/] {name:<15} [{colour}]{request.status}[/]")

    @contextmanager
    def step(self, title: str, expected: list[tuple[str, int]], meaning: str) -> Iterator[None]:
        """Print a step, and whether exactly the expected requests arrived."""
        self.console.print(f"\n[bold]{title}[/]")
        before = len(self.seen)
        yield
        seen = self.seen[before:]
        if seen == expected:
            self.console.print(f"  [green]✓[/] {meaning}")
        else:
            self.failed_steps += 1
            self.console.print(f"  [red]✗[/] expected {expected}, saw {seen}")
        writes = Counter(name for name, _ in seen)[WRITE]
        self.replays += writes - 1 if seen and seen[-1] == (WRITE, 200) else 0

    def run(self) -> dict[str, object]:
        """Run all steps, and return the counts."""
        self.console.print("Starting a Prefect server and a PDS on loopback; nothing leaves this machine.", style="dim")
        with (
            temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}),
            prefect_test_harness(server_startup_timeout=180),
            sandbox.run(on_request=self.on_request) as pds,
        ):
            # Only accounts of Bluesky's network are in its directory.
            os.environ["PREFECT_INTEGRATIONS_BLUESKY_DID_DIRECTORY_URL"] = pds.plc_url
            alice = pds.create_account("alice.test")
            credentials = BlueskyCredentials(handle=alice.handle, app_password=alice.app_password, service_url=pds.url)
            meaning = "signed in once, published; the session is kept"
            with self.step("1. Publish a first post", [(LOGIN, 200), (WRITE, 200)], meaning):
                self._publish(credentials, "Hello from Prefect")
            with self.step("2. Publish another", [(WRITE, 200)], "the gate reused the session: no login, no refresh"):
                self._publish(credentials, "The same session, a second post")
            with self.step(
                "3. The access token expires under the next one",
                [(WRITE, 400), (REFRESH, 200), (WRITE, 200)],
                "one refresh, one replay, published",
            ):
                pds.advance(timedelta(hours=3))
                self._publish(credentials, "Sent through an expired token")
            with self.step(
                "4. Somebody revokes the app password, and the token expires again",
                [(WRITE, 400), (REFRESH, 400), (LOGIN, 401), (HANDLE, 200), (STATUS, 200)],
                "one refresh, one login, a look at the account, and the cause instead of a loop",
            ):
                pds.revoke_app_password(alice)
                pds.advance(timedelta(hours=3))
                self._publish(credentials, "This one has to wait")
            texts = [post["value"]["text"] for post in pds.posts(alice)]
        counts = Counter(self.seen)
        return {
            "published": len(texts),
            "logins": counts[LOGIN, 200],
            "refreshes": counts[REFRESH, 200],
            "replays": self.replays,
            "duplicates": len(texts) - len(set(texts)),
            "problem": self.problem.value if self.problem else None,
        }

    def _publish(self, credentials: BlueskyCredentials, text: str) -> None:
        try:
            published = self.publish(credentials, Post(text=text))
        except AuthError as failure:
            self.problem = failure.problem
            self.console.print(f"  [yellow]{failure.problem.value}[/]: {failure.explanation}")
            self.console.print(f"  [yellow]What to do:[/] {failure.problem.remedy}")
        else:
            if isinstance(published, PublishedPost):
                self.console.print(f"  [cyan]{text}[/]\n  [dim]{published.uri}[/]")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--json", action="store_true", help="end with the counts in one line of JSON")
    return made


def main() -> None:
    """Show the demo. Exit with 1 if a step did not go as it should."""
    arguments = parser().parse_args()
    logging.disable(logging.CRITICAL)  # Prefect's log would hide the demo's own output
    console = Console(highlight=False)
    demo = Demo(console)
    counts = demo.run()
    expected = {
        "published": 3,
        "logins": 1,
        "refreshes": 1,
        "replays": 1,
        "duplicates": 0,
        "problem": AuthProblem.APP_PASSWORD_REVOKED.value,
    }
    if arguments.json:
        print(json.dumps(counts))
    else:
        console.print(f"\n[bold]{', '.join(f'{name} {value}' for name, value in counts.items())}[/]")
    sys.exit(0 if counts == expected and not demo.failed_steps else 1)


if __name__ == "__main__":
    main()
