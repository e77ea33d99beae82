"""Publish many posts of many accounts: due posts at once, later posts by scheduled runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Failed

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError, Expired, InvalidInput
from prefect_bluesky.media import File
from prefect_bluesky.planning.calendar import Unusable, read_calendar
from prefect_bluesky.planning.calendar_artifact import show_calendar
from prefect_bluesky.planning.delivery import AccountQueue, Delivery
from prefect_bluesky.planning.held_runs import EXPIRED, HELD, tell_expired
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.progress import Progress
from prefect_bluesky.planning.saved_accounts import load_many
from prefect_bluesky.planning.scheduled_runs import MOVED, PlannedRuns, has_failed, known_runs, run_key, run_matches
from prefect_bluesky.planning.times import zone_of
from prefect_bluesky.prefect_api import API_TROUBLE, current_flow_run, ignoring_api_trouble, logger
from prefect_bluesky.publishing import PublishedPost, current_attempt
from prefect_bluesky.settings import current_settings

ACCOUNTS, PROBLEMS = "bluesky-batch", "bluesky-batch-problems"
PREVIEW, PROGRESS = "bluesky-batch-preview", "bluesky-batch-progress"

_NOTHING = "There was nothing to publish."
_NOT_KEPT = "The post could not be kept for later:"
_STATES = (
    "published", "already out", "scheduled", "held", "failed", "expired", "too late", "cancelled", "due", "due later",
)  # fmt: skip

_NAMED, _SHOWN = 5, 500
"""The number of problems in the run's message, and of posts in a preview."""

_Placed = tuple[str, PlannedPost]
Entries = list[tuple[str, PlannedPost | Unusable]]


def read_entries(items: Sequence[PlannedPost], calendar: str, storage: str, timezone: str) -> Entries:
    """Return the posts with their places in the input, with times and keys fixed.

    Raises:
        InvalidInput: the input cannot be read. Nothing is published.
    """
    if bool(items) == bool(calendar):
        raise InvalidInput("items", "pass items or a calendar, not both.", "Pass exactly one of them.")
    if items:
        entries: Entries = [(f"items[{n}]", item) for n, item in enumerate(items)]
        occasion = current_attempt().key
    else:
        read = read_calendar(File(source=calendar, storage=storage))
        # A post in a file is published once, however often the file is read.
        entries, timezone, occasion = read.entries, read.timezone or timezone, ""
    zone = zone_of(timezone)
    return [
        (place, entry if isinstance(entry, Unusable) else entry.with_time_and_key(zone, occasion))
        for place, entry in entries
    ]


def run_batch(entries: Entries, *, calendar: str = "", dry_run: bool = False, at_once: int = 32) -> State[Any]:
    """Publish the due posts and schedule the others, for `at_once` accounts at a time. Return the final state.

    The runs of posts for later are tagged with the calendar's name.
    """
    batch = _Batch(entries, calendar, dry_run=dry_run)
    with ThreadPoolExecutor(1, "bluesky-plan") as thread:
        # What is due need not wait for a thousand runs to be made, nor these for an account that is kept waiting.
        planned = thread.submit(copy_context().run, batch.plan)
        batch.work(batch.waiting, at_once)
    return batch.close(planned.result())


@dataclass
class Account(AccountQueue[_Placed]):
    """The pending posts of one account, and the results so far."""

    later: list[_Placed] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, str]] = field(default_factory=list)
    expires_at: datetime | None = None
    link: str = ""

    @property
    def waiting(self) -> int:
        return len(self.due) + len(self.later)

    def complain(self, place: str, state: str, what: str) -> None:
        """Record why a post was not published."""
        self.counts[state] += 1
        self.problems.append({"account": self.name, "post": place, "state": state, "what": what})

    def give_up(self, what: str) -> None:
        """Record one reason why all due posts failed."""
        for place, _ in self.due:
            self.complain(place, "failed", what)
        self.due = []

    def row(self) -> dict[str, str | int]:
        return {
            "account": self.name,
            **{state: self.counts[state] for state in _STATES[:7]},
            "session expires": f"{self.expires_at:%Y-%m-%d %H:%M} UTC" if self.expires_at else "",
            "last post": self.link,
        }


class _Batch(Delivery[Account]):
    """The posts of many accounts, several accounts at a time, independently of each other."""

    def __init__(self, planned: Entries, calendar: str, *, dry_run: bool) -> None:
        self._calendar = calendar
        self._dry_run = dry_run
        self._previews: list[dict[str, str]] = []
        self._accounts: dict[str, Account] = {}
        self._runs: PlannedRuns | InvalidInput | None = None
        self._lock = Lock()
        self._late: dict[str, datetime] = {}
        self._send_late = current_settings().send_late
        now = datetime.now(UTC)
        seen: dict[str, PlannedPost] = {}
        known = known_runs(entry for _, entry in planned if isinstance(entry, PlannedPost))
        self._failed = {key for key, run in known.items() if run.state and has_failed(run.state)}
        for place, entry in planned:
            account = self._accounts.setdefault(entry.account, Account(entry.account))
            if isinstance(entry, Unusable):
                account.complain(place, "failed", entry.reason)
            elif seen.setdefault(run_key(entry), entry) != entry:
                account.complain(place, "failed", f"key: another post of {entry.account} also has {entry.key!r}.")
            elif not self._has_run(account, place, entry, known.get(run_key(entry))):
                is_later = entry.at is not None and entry.at > now
                (account.later if is_later else account.due).append((place, self._in_time(place, entry, now)))
        loaded = load_many([account.name for account in self.waiting])
        self._blocks = {name: block for name, block in loaded.items() if isinstance(block, BlueskyCredentials)}
        for name in loaded.keys() - self._blocks.keys():
            account = self._accounts[name]
            account.due, account.later = [*account.due, *account.later], []
            account.give_up(f"the block {name} cannot be used: {loaded[name]}")
        self._progress = Progress(PROGRESS, self._waiting)

    def _in_time(self, place: str, planned: PlannedPost, now: datetime) -> PlannedPost:
        """Return a post of a calendar that makes no sense any more if it was due long ago and is not out.

        A year that is mistyped, or a calendar of last year, would publish all of its posts at once.
        """
        if not self._calendar or planned.at is None or planned.at > now - self._send_late:
            return planned
        self._late[place] = planned.at
        ends = planned.at + self._send_late
        return planned.model_copy(update={"post": planned.post.model_copy(update={"expires": ends})})

    @property
    def waiting(self) -> list[Account]:
        """The accounts with pending posts."""
        return [account for account in self._accounts.values() if account.waiting]

    @property
    def _waiting(self) -> int:
        return sum(account.waiting for account in self._accounts.values())

    def progressed(self) -> None:
        self._progress.show(self._waiting)

    def give_up(self, queue: Account, what: str) -> None:
        queue.give_up(what)

    def plan(self) -> list[tuple[Account, str, str]]:
        """Plan the posts for later. Return each with its account, its place, and why it could not be planned, or ""."""
        if self._dry_run:
            return []
        later = [(account, place, post) for account in self.waiting for place, post in account.later]
        if not later:
            return []
        posts = [(post, self._blocks[account.name]) for account, _, post in later]
        try:
            troubles = self._planned_runs().schedule(posts, self._failed)
        except (InvalidInput, *API_TROUBLE) as trouble:
            troubles = [str(trouble)] * len(posts)
        return [(account, place, trouble) for (account, place, _), trouble in zip(later, troubles, strict=True)]

    def close(self, planned: Sequence[tuple[Account, str, str]]) -> State[Any]:
        """Create the artifacts with the results, and return the final state of the run."""
        for account, place, trouble in planned:
            if trouble:
                account.complain(place, "failed", f"{_NOT_KEPT} {trouble}")
            else:
                account.counts["scheduled"] += 1
            account.later = []
        self.progressed()
        accounts = list(self._accounts.values())
        problems = [problem for account in accounts for problem in account.problems]
        counts = sum((account.counts for account in accounts), Counter[str]())
        summary = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state]) or _NOTHING
        with ignoring_api_trouble("The artifacts with the tables could not be made"):
            if self._dry_run:
                shown = sorted(self._previews, key=lambda row: (row["when"] != "now", row["when"]))[:_SHOWN]
                create_table_artifact(shown, key=PREVIEW, description=f"Nothing was sent: {summary}.")
            else:
                create_table_artifact([account.row() for account in accounts], key=ACCOUNTS, description=summary)
            if problems:
                create_table_artifact(problems, key=PROBLEMS, description="The posts that were not published, and why.")
        if self._runs is not None:
            show_calendar()
        if counts["too late"]:
            summary += f" (due more than {_span(self._send_late)} ago, see the setting SEND_LATE)"
        if not counts["held"] and not counts["failed"]:
            return Completed(message=summary)
        # One reason can stop many posts of an account: name the reason once.
        places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for each in problems:
            places[each["account"], each["what"]].append(each["post"])
        which = [f"{account}, {_some(posts)}: {what}" for (account, what), posts in places.items()]
        more = [f"and more: see {PROBLEMS}"] if len(which) > _NAMED else []
        return Failed(message=f"{summary}. {'; '.join(which[:_NAMED] + more)}")

    def _has_run(self, account: Account, place: str, planned: PlannedPost, run: FlowRun | None) -> bool:
        """Count a post that another run handles already, and return whether there is such a run."""
        if run is None or run.state is None:
            return False
        if run.state.name == HELD:
            account.complain(place, "held", run.state.message or "")
        elif run.state.is_completed():
            account.counts["already out"] += 1
        elif run.state.name == MOVED:
            account.counts["scheduled"] += 1
        elif run.state.name == EXPIRED:
            account.counts["expired"] += 1
        elif run.state.is_cancelled():
            account.counts["cancelled"] += 1
        elif has_failed(run.state):
            return False  # this run is another attempt, under the same key
        else:
            account.counts["scheduled"] += 1
            if not run_matches(run, planned):
                message = "%s, %s: the scheduled run differs from the calendar. The run is what goes out."
                logger().warning(message, account.name, place)
        return True

    def serve(self, queue: Account) -> timedelta | None:
        credentials = self._blocks[queue.name]
        if self._dry_run:
            self._preview(queue)
            return None

        def send() -> list[PublishedPost | BlueskyError]:
            queue.expires_at = credentials.ensure_session().expires_at
            return credentials.publish_many([(planned.post, planned.key) for _, planned in queue.due])

        return self.deliver(queue, send) if queue.due else None

    def _preview(self, account: Account) -> None:
        late = [each for each in account.due if each[0] in self._late]
        due = [each for each in account.due if each[0] not in self._late]
        for state, posts in (("due", due), ("due later", account.later), ("too late", late)):
            account.counts[state] += len(posts)
            self._previews += [
                {
                    "account": account.name,
                    "post": place,
                    "when": f"{planned.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if planned.at else "now",
                    "text": planned.post.text,
                    "key": planned.key or "",
                }
                for place, planned in posts
            ]
        account.due, account.later = [], []

    def published(self, queue: Account, item: _Placed, post: PublishedPost) -> None:
        queue.counts["published" if post.is_new else "already out"] += 1
        queue.link = post.url

    def held(self, queue: Account, item: _Placed, error: BlueskyError) -> None:
        place, planned = item
        try:
            self._planned_runs().hold(planned, self._blocks[queue.name], error)
            queue.complain(place, "held", str(error))
        except (InvalidInput, *API_TROUBLE) as trouble:
            queue.complain(place, "failed", f"{error} {_NOT_KEPT} {trouble}")

    def failed(self, queue: Account, item: _Placed, error: BlueskyError) -> None:
        is_expired = isinstance(error, Expired)
        if is_expired and (at := self._late.get(item[0])):
            queue.complain(item[0], "too late", f"It was due at {at:%Y-%m-%d %H:%M %Z}. Correct the time, or drop it.")
            return
        queue.complain(item[0], "expired" if is_expired else "failed", str(error))
        if is_expired and (run := current_flow_run()):
            tell_expired(error, self._blocks[queue.name], run)

    def _planned_runs(self) -> PlannedRuns:
        with self._lock:
            if self._runs is None:
                try:
                    self._runs = PlannedRuns(self._calendar)
                except InvalidInput as missing:
                    self._runs = missing
        if isinstance(self._runs, InvalidInput):
            raise self._runs
        return self._runs


def _span(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"


def _some(places: list[str]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return f"{', '.join(places[:3])}{more}"
