"""Publish many posts of many accounts: what is due now goes out now, what is due later gets a run of its own."""

from __future__ import annotations

import heapq
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Lock
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Failed

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError, InvalidInput, RateLimited
from prefect_bluesky.media import File
from prefect_bluesky.planning.calendar import Unusable, read_calendar
from prefect_bluesky.planning.held_runs import HELD
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.progress import Progress
from prefect_bluesky.planning.saved_accounts import load_many
from prefect_bluesky.planning.scheduled_runs import PlannedRuns, has_failed, known_runs, run_key, run_matches
from prefect_bluesky.planning.times import zone_of
from prefect_bluesky.prefect_api import API_TROUBLE, ignoring_api_trouble, logger
from prefect_bluesky.publishing import PublishedPost, current_attempt

ACCOUNTS, PROBLEMS = "bluesky-batch", "bluesky-batch-problems"
PREVIEW, PROGRESS = "bluesky-batch-preview", "bluesky-batch-progress"

_PAUSES = [timedelta(seconds=seconds) for seconds in (2, 10, 30)]
"""Between two attempts after passing trouble; where a server says how long to wait, that counts."""

_PATIENCE = timedelta(hours=1)
"""Who has to wait longer is held: a run that waits for a day's limit would keep a worker from other work."""

_STATES = ("published", "scheduled", "held", "failed", "cancelled", "due", "due later")

_NAMED, _SHOWN = 5, 500
"""How many problems the run's own message names, and how many posts a preview shows."""


def read_entries(
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
class Account:
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


class Batch:
    """Serves accounts, several at a time, each for itself."""

    def __init__(self, planned: list[tuple[str, PlannedPost | Unusable]], *, dry_run: bool) -> None:
        self._log = logger()
        self._dry_run = dry_run
        self._previews: list[dict[str, str]] = []
        self._accounts: dict[str, Account] = {}
        self._runs: PlannedRuns | InvalidInput | None = None
        self._lock = Lock()
        now = datetime.now(UTC)
        seen: dict[str, PlannedPost] = {}
        known = known_runs(entry for _, entry in planned if isinstance(entry, PlannedPost))
        for place, entry in planned:
            account = self._accounts.setdefault(entry.account, Account(entry.account))
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
        under_way: dict[Future[timedelta | None], Account] = {}
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

    def _is_left_to_its_run(self, account: Account, place: str, planned: PlannedPost, run: FlowRun | None) -> bool:
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

    def _give_up(self, account: Account, defect: BaseException) -> None:
        """What nobody has foreseen must not stop the other accounts."""
        self._log.error("%s: this is a defect. Please report it.", account.name, exc_info=defect)
        account.give_up(f"{type(defect).__name__}; the log says more")

    def _serve(self, account: Account) -> timedelta | None:
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

    def _preview(self, account: Account) -> None:
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

    def _publish(self, account: Account, credentials: BlueskyCredentials) -> timedelta | None:
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
        account: Account,
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
