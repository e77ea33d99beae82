"""Publish for many accounts at once: what is due now goes out now, what is due later is scheduled.

uv run flows/publish_batch.py calendars/december.yaml
"""

# No `from __future__ import annotations`: see publish.py.

import argparse
import heapq
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Lock
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from prefect_bluesky import BlueskyCredentials, BlueskyError, PlannedPost, PublishedPost
from prefect_bluesky.errors import InvalidInput, RateLimited
from prefect_bluesky.media import File
from prefect_bluesky.planning import (
    HELD,
    PlannedRuns,
    Progress,
    Unusable,
    has_failed,
    known_runs,
    load_many,
    read_calendar,
    run_key,
    run_matches,
    zone_of,
)
from prefect_bluesky.prefect_api import API_TROUBLE, ignoring_api_trouble, run_name
from prefect_bluesky.publishing import current_attempt

ACCOUNTS, PROBLEMS = "bluesky-batch", "bluesky-batch-problems"
PREVIEW, PROGRESS = "bluesky-batch-preview", "bluesky-batch-progress"

_PAUSES = [timedelta(seconds=seconds) for seconds in (2, 10, 30)]
"""Between two attempts after passing trouble; where a server says how long to wait, that counts."""

_PATIENCE = timedelta(hours=1)
"""Who has to wait longer is held: a run that waits for a day's limit would keep a worker from other work."""

_STATES = ("published", "scheduled", "held", "failed", "cancelled", "due", "due later")

_NAMED, _SHOWN = 5, 500
"""How many problems the run's own message names, and how many posts a preview shows."""


def _run_name() -> str:
    calendar = flow_run.parameters.get("calendar")
    return f"publish {run_name(calendar)}" if calendar else "publish a batch"


@flow(
    name="publish-batch",
    flow_run_name=_run_name,
    description="Publish many posts of many accounts: those that are due now, and the others when they are.",
)
def publish_batch(
    items: tuple[PlannedPost, ...] = (),
    calendar: str = "",
    storage: str = "",
    timezone: str = "UTC",
    dry_run: bool = False,
    at_once: Annotated[int, Field(ge=1, le=64)] = 32,
) -> State[Any]:
    """Publish what is due, and schedule the rest as runs of `publish`.

    An account that cannot sign in stops no other; its posts are held. The same calendar may be given again and again:
    what it has published or scheduled before is left as it is.

    Args:
        items: The posts. Or give a calendar.
        calendar: A YAML, JSON, CSV or Markdown file: its path or URL.
        storage: The Prefect block that the calendar lies in, such as s3-bucket/calendars. Left out, no block.
        timezone: Where times hold that name no offset, if the calendar does not say it.
        dry_run: Publish and schedule nothing, and show what would be.
        at_once: How many accounts are served at a time.
    """
    batch = _Batch(_planned(items, calendar, storage, timezone), dry_run=dry_run)
    batch.work(at_once)
    return batch.close()


def _planned(
    items: Sequence[PlannedPost], calendar: str, storage: str, timezone: str
) -> list[tuple[str, PlannedPost | Unusable]]:
    """The posts with their places, their times and keys fixed.

    Raises:
        InvalidInput: what is given cannot be read; nothing is published.
    """
    if bool(items) == bool(calendar):
        raise InvalidInput("items", "either they or a calendar are needed.", "Give the one or the other.")
    if items:
        entries: list[tuple[str, PlannedPost | Unusable]] = [(f"items[{n}]", item) for n, item in enumerate(items)]
        occasion = current_attempt().key
    else:
        read = read_calendar(File(source=calendar, storage=storage))
        # What stands in a file is meant once, however often the file is read.
        entries, timezone, occasion = read.entries, read.timezone or timezone, ""
    zone = zone_of(timezone)
    return [
        (place, entry if isinstance(entry, Unusable) else entry.with_time_and_key(zone, occasion))
        for place, entry in entries
    ]


@dataclass
class _Account:
    """What there is to do for one account, and what became of it."""

    name: str
    due: list[tuple[str, PlannedPost]] = field(default_factory=list)
    later: list[tuple[str, PlannedPost]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, str]] = field(default_factory=list)
    expires_at: datetime | None = None
    link: str = ""
    served_at: float = 0.0
    attempts: int = 0

    @property
    def waiting(self) -> int:
        """How many of its posts are yet to be dealt with."""
        return len(self.due) + len(self.later)

    def pause_after(self, troubles: list[BlueskyError]) -> timedelta | None:
        """How long to wait after passing trouble; None if that would be for too long."""
        asked = [error.retry_after for error in troubles if isinstance(error, RateLimited) and error.retry_after]
        if not asked:
            self.attempts += 1
            return _PAUSES[self.attempts - 1] if self.attempts <= len(_PAUSES) else None
        pause = max(asked)
        waits_until = time.monotonic() + pause.total_seconds()
        return pause if waits_until - self.served_at < _PATIENCE.total_seconds() else None

    def note(self, state: str, posts: int = 1) -> None:
        """Count posts by what became of them."""
        self.counts[state] += posts

    def complain(self, place: str, state: str, what: str) -> None:
        """Say of a post why it is not out."""
        self.note(state)
        self.problems.append({"account": self.name, "post": place, "state": state, "what": what})

    def give_up(self, what: str) -> None:
        """Say of all that is left why it is not out."""
        for place, _ in (*self.due, *self.later):
            self.complain(place, "failed", what)
        self.due, self.later = [], []

    def row(self) -> dict[str, str | int]:
        """It as a row of the table."""
        return {
            "account": self.name,
            **{state: self.counts[state] for state in _STATES[:4]},
            "session expires": f"{self.expires_at:%Y-%m-%d %H:%M} UTC" if self.expires_at else "",
            "last post": self.link,
        }


class _Batch:
    """Serves accounts, several at a time, each for itself."""

    def __init__(self, planned: list[tuple[str, PlannedPost | Unusable]], *, dry_run: bool) -> None:
        self._log = get_run_logger()
        self._dry_run = dry_run
        self._previews: list[dict[str, str]] = []
        self._accounts: dict[str, _Account] = {}
        self._runs: PlannedRuns | InvalidInput | None = None
        self._lock = Lock()
        now = datetime.now(UTC)
        seen: dict[str, PlannedPost] = {}
        known = known_runs(entry for _, entry in planned if isinstance(entry, PlannedPost))
        for place, entry in planned:
            account = self._accounts.setdefault(entry.account, _Account(entry.account))
            if isinstance(entry, Unusable):
                account.complain(place, "failed", entry.reason)
            elif seen.setdefault(run_key(entry), entry) != entry:
                account.complain(place, "failed", f"key: another post of {entry.account} has {entry.key!r} here too.")
            elif not self._is_left_to_its_run(account, place, entry, known.get(run_key(entry))):
                (account.later if entry.at and entry.at > now else account.due).append((place, entry))
        self._blocks = load_many([account.name for account in self._accounts.values() if account.waiting])
        self._progress = Progress(PROGRESS, self._waiting)

    @property
    def _waiting(self) -> int:
        return sum(account.waiting for account in self._accounts.values())

    def work(self, at_once: int) -> None:
        """Serve all accounts, each as often as it needs.

        No tasks: a thousand accounts would be a thousand rows in Prefect's database each time.

        Args:
            at_once: how many at a time.
        """
        order = count()
        # When an account may be served next, and a number that keeps their order.
        queue = [(0.0, next(order), account) for account in self._accounts.values() if account.waiting]
        under_way: dict[Future[timedelta | None], _Account] = {}
        with ThreadPoolExecutor(at_once) as threads:
            while queue or under_way:
                while queue and len(under_way) < at_once and queue[0][0] <= time.monotonic():
                    account = heapq.heappop(queue)[2]
                    under_way[threads.submit(copy_context().run, self._serve, account)] = account
                patience = max(0.0, queue[0][0] - time.monotonic()) if queue and len(under_way) < at_once else None
                if not under_way:
                    time.sleep(patience or 0)
                    continue
                done, _ = wait(under_way, patience, FIRST_COMPLETED)
                for each in done:
                    account = under_way.pop(each)
                    if defect := each.exception():
                        self._give_up(account, defect)
                    elif (pause := each.result()) is not None:
                        heapq.heappush(queue, (time.monotonic() + pause.total_seconds(), next(order), account))
                self._progress.show(self._waiting)

    def close(self) -> State[Any]:
        """Show what became of each account; the state of the run."""
        accounts = list(self._accounts.values())
        problems = [problem for account in accounts for problem in account.problems]
        counts = sum((account.counts for account in accounts), Counter[str]())
        told = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
        told = told or "There was nothing to publish."
        with ignoring_api_trouble("The artifacts with the tables could not be made"):
            if self._dry_run:
                shown = sorted(self._previews, key=lambda row: (row["when"] != "now", row["when"]))[:_SHOWN]
                create_table_artifact(shown, key=PREVIEW, description=f"Nothing was sent: {told}.")
            else:
                create_table_artifact([account.row() for account in accounts], key=ACCOUNTS, description=told)
            if problems:
                create_table_artifact(problems, key=PROBLEMS, description="What is not out, and why.")
        if not counts["held"] and not counts["failed"]:
            return Completed(message=told)
        # What stops an account is said once of all its posts.
        places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for each in problems:
            places[each["account"], each["what"]].append(each["post"])
        which = [f"{account}, {_some(posts)}: {what}" for (account, what), posts in places.items()]
        more = [f"and more: see {PROBLEMS}"] if len(which) > _NAMED else []
        return Failed(message=f"{told}. {'; '.join(which[:_NAMED] + more)}")

    def _is_left_to_its_run(self, account: _Account, place: str, planned: PlannedPost, run: FlowRun | None) -> bool:
        """Whether a post has a run of its own, which publishes it or has done so."""
        if run is None or run.state is None:
            return False
        if run.state.name == HELD:
            account.complain(place, "held", run.state.message or "")
        elif run.state.is_completed():
            account.note("published")
        elif run.state.is_cancelled():
            account.note("cancelled")
        elif has_failed(run.state):
            return False  # this is another attempt, under the same key
        else:
            account.note("scheduled")
            if not run_matches(run, planned):
                self._log.warning("%s, %s: its run says something else than it does. Edit that.", account.name, place)
        return True

    def _give_up(self, account: _Account, defect: BaseException) -> None:
        """What nobody has foreseen must not stop the other accounts."""
        self._log.error("%s: this is a defect. Please report it.", account.name, exc_info=defect)
        account.give_up(f"{type(defect).__name__}; the log says more")

    def _serve(self, account: _Account) -> timedelta | None:
        """Do what can be done for an account; when to do the rest."""
        credentials = self._blocks[account.name]
        if not isinstance(credentials, BlueskyCredentials):
            account.give_up(f"the block {account.name} cannot be used: {credentials}")
            return None
        if self._dry_run:
            self._preview(account)
            return None
        pause = self._publish(account, credentials) if account.due else None
        while account.later:
            self._have_run(account, credentials, *account.later.pop(0))
        return pause

    def _preview(self, account: _Account) -> None:
        for state, posts in (("due", account.due), ("due later", account.later)):
            account.note(state, len(posts))
            self._previews += [
                {
                    "account": account.name,
                    "post": place,
                    "when": f"{planned.at:%Y-%m-%d %H:%M} UTC" if planned.at else "now",
                    "text": planned.post.text,
                    "key": planned.key or "",
                }
                for place, planned in posts
            ]
        account.due, account.later = [], []

    def _publish(self, account: _Account, credentials: BlueskyCredentials) -> timedelta | None:
        account.served_at = account.served_at or time.monotonic()
        outcomes: list[PublishedPost | BlueskyError]
        try:
            account.expires_at = credentials.ensure_session().expires_at
            outcomes = credentials.publish_many([(planned.post, planned.key) for _, planned in account.due])
        except BlueskyError as error:
            outcomes = [error] * len(account.due)
        waiting: list[tuple[str, PlannedPost, BlueskyError]] = []
        for (place, planned), outcome in zip(account.due, outcomes, strict=True):
            if isinstance(outcome, PublishedPost):
                account.note("published")
                account.link = outcome.url
                account.served_at, account.attempts = time.monotonic(), 0
            elif outcome.stops_account:
                self._have_run(account, credentials, place, planned, outcome)
            elif outcome.retryable:
                waiting.append((place, planned, outcome))
            else:
                account.complain(place, "failed", str(outcome))
        account.due = [(place, planned) for place, planned, _ in waiting]
        if not waiting:
            return None
        pause = account.pause_after([error for _, _, error in waiting])
        if pause is None:
            for place, planned, trouble in waiting:
                if trouble.is_temporary:
                    self._have_run(account, credentials, place, planned, trouble)
                else:
                    account.complain(place, "failed", str(trouble))
            account.due = []
        return pause

    def _have_run(
        self,
        account: _Account,
        credentials: BlueskyCredentials,
        place: str,
        planned: PlannedPost,
        error: BlueskyError | None = None,
    ) -> None:
        """Leave a post to a run of its own: when it is due; or, after an error, once that is mended."""
        try:
            if error is None:
                self._planned_runs().schedule(planned, credentials)
                account.note("scheduled")
            else:
                self._planned_runs().hold(planned, credentials, error)
                account.complain(place, "held", str(error))
        except (InvalidInput, *API_TROUBLE) as trouble:
            why = f"{error} " if error else ""
            account.complain(place, "failed", f"{why}It could not be kept for later: {trouble}")

    def _planned_runs(self) -> PlannedRuns:
        with self._lock:
            if self._runs is None:
                try:
                    self._runs = PlannedRuns()
                except InvalidInput as missing:
                    self._runs = missing
        if isinstance(self._runs, InvalidInput):
            raise self._runs
        return self._runs


def _some(places: list[str]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return f"{', '.join(places[:3])}{more}"


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="publish_batch.py",
        description="Publish a calendar: what is due now goes out now, what is due later is scheduled.",
    )
    parser.add_argument("calendar", help="a YAML, JSON, CSV or Markdown file")
    parser.add_argument("--timezone", default="UTC", help="where times hold that name no offset, such as Europe/Berlin")
    parser.add_argument("--dry-run", action="store_true", help="publish and schedule nothing")
    arguments = parser.parse_args()
    try:
        state = publish_batch(
            calendar=arguments.calendar, timezone=arguments.timezone, dry_run=arguments.dry_run, return_state=True
        )
    except BlueskyError as problem:
        sys.exit(str(problem))
    print(state.message)
    sys.exit(not state.is_completed())


if __name__ == "__main__":
    _main()
