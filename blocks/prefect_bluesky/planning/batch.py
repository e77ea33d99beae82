"""Publish many posts of many accounts: due posts at once, later posts by scheduled runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError, Expired, InvalidInput
from prefect_bluesky.media import missing_files
from prefect_bluesky.planning.apply import bring_in_line
from prefect_bluesky.planning.batch_account import Account, Placed, in_words
from prefect_bluesky.planning.batch_input import Batch, Entries, Options
from prefect_bluesky.planning.batch_preview import PROBLEMS, Preview, problem_lines, show_preview
from prefect_bluesky.planning.calendar import Unusable
from prefect_bluesky.planning.calendar_artifact import show_calendar
from prefect_bluesky.planning.calendar_tags import calendar_tag, only_planner
from prefect_bluesky.planning.comparison import Row, Terms, compare
from prefect_bluesky.planning.delivery import Delivery
from prefect_bluesky.planning.held_runs import HELD, tag, tell_expired
from prefect_bluesky.planning.next_slots import queue_lock
from prefect_bluesky.planning.planned_post import PlannedPost
from prefect_bluesky.planning.planned_run import PlannedRun, read_planned_of, read_planned_runs
from prefect_bluesky.planning.progress import Progress
from prefect_bluesky.planning.queue import Queue
from prefect_bluesky.planning.saved_accounts import load_many, not_saved, saved_parameters
from prefect_bluesky.planning.scheduled_runs import Plan, PlannedRuns, run_key
from prefect_bluesky.planning.slots import PostingSchedule
from prefect_bluesky.prefect_api import API_TROUBLE, current_flow_run, failed, ignoring_api_trouble, logger
from prefect_bluesky.publishing import PublishedPost
from prefect_bluesky.settings import current_settings

ACCOUNTS = "bluesky-batch"
PROGRESS = "bluesky-batch-progress"

_NOT_KEPT = "The post could not be kept for later:"

_DONE = {"plan": "scheduled", "change": "changed", "adopt": "unchanged", "remove": "removed"}
_TO_DO = {"plan": "due later", "change": "to change", "adopt": "unchanged", "remove": "to remove"}
_COUNTED: dict[str, str] = {
    "unchanged": "unchanged", "going out": "unchanged", "edited": "edited by a person", "cancelled": "cancelled",
    "out": "already out", "expired": "expired", "left": "no longer in the calendar",
}  # fmt: skip
_ANOTHER = "If it is another post, give it a key of its own."

_NAMED = 5
"""The number of problems in the run's message."""


def run_batch(batch: Batch, options: Options) -> State[Any]:
    """Publish the due posts and bring the planned ones in line, account by account. Return the final state.

    The runs of posts for later are tagged with the calendar's name.

    Raises:
        InvalidInput: what is to be removed may be another calendar's. Nothing is published.
    """
    if options.dry_run:
        return show_preview(preview_batch(batch, options))
    with ExitStack() as stack, ThreadPoolExecutor(1, "bluesky-plan") as thread:
        lock = stack.enter_context(ExitStack())
        # Another reading of the calendar would change the same runs, or give its posts the same slots.
        if batch.schedule:
            lock.enter_context(queue_lock())
        if batch.calendar:
            lock.enter_context(only_planner([calendar_tag(batch.calendar)]))
        work = _Batch(batch, options)

        def plan() -> list[tuple[Account, Row, str]]:
            with lock:
                return work.plan()

        # What is due need not wait for a thousand runs to be made, nor these for an account that is kept waiting.
        planned = thread.submit(copy_context().run, plan)
        work.work(work.waiting, options.at_once)
    return work.close(planned.result())


def preview_batch(batch: Batch, options: Options) -> Preview:
    """Return what would become of each post of a calendar, and of each other post that is planned from it."""
    return _Batch(batch, replace(options, dry_run=True)).preview()


class _Batch(Delivery[Account]):
    """The posts of many accounts, several accounts at a time, independently of each other."""

    def __init__(self, batch: Batch, options: Options) -> None:
        self._calendar = batch.calendar
        self._options = options
        self._accounts: dict[str, Account] = {}
        self._runs: PlannedRuns | InvalidInput | None = None
        self._lock = Lock()
        self._late: dict[str, datetime] = {}
        self._published: list[tuple[str, str]] = []
        self._send_late = current_settings().send_late
        self._now = datetime.now(UTC)
        usable = list(self._usable(batch.entries))
        runs = read_planned_runs(self._calendar, [run_key(planned) for _, planned in usable])
        self._present = sum(run.is_planned and run.bundle is None for run in runs)
        parameters = {name: str(parameter) for name, parameter in saved_parameters().items()}
        names = {parameter: name for name, parameter in parameters.items()}
        terms = Terms(
            parameters,
            self._now,
            self._send_late,
            overwrite=options.overwrite,
            prune=options.prune,
            is_same_calendar=batch.is_named,
            queue=self._queue(batch.schedule, usable, runs),
            unreadable=frozenset(
                each.account
                for _, each in batch.entries
                if isinstance(each, Unusable) or each.account not in parameters
            ),
        )
        self._notes = [
            {"account": account, "post": place, "state": "note", "what": note} for place, account, note in batch.notes
        ]
        self.rows = compare(usable, runs, terms)
        removed = sum(row.fate == "remove" for row in self.rows)
        if removed and not batch.is_named and not any(row.planned and row.run for row in self.rows):
            what = f"none of the {removed} posts that are planned from {self._calendar} is in this file."
            raise InvalidInput("prune", what, "If this is another calendar, give it a name, which is then its own.")
        self._row_of = {row.place: row for row in self.rows if row.place}
        for row in self.rows:
            name = row.planned.account if row.planned else names.get(row.run.account if row.run else "", "")
            self._sort(self._accounts.setdefault(name, Account(name)), row)
        self._complain_of_unknown(parameters)
        # To remove a post takes no account.
        waiting = [each.name for each in self.waiting if each.due or any(row.planned for row in each.later)]
        loaded = {} if options.dry_run else load_many(waiting)
        self._blocks = {name: block for name, block in loaded.items() if isinstance(block, BlueskyCredentials)}
        for name in loaded.keys() - self._blocks.keys():
            self._accounts[name].stop(f"the block {name} cannot be used: {loaded[name]}")
        self._progress = Progress(PROGRESS, self._waiting)

    def _complain_of_unknown(self, known: Mapping[str, object]) -> None:
        """Give up the accounts without a saved block."""
        for account in self.waiting:
            if account.name not in known:
                account.stop(not_saved(account.name, known))

    def _queue(
        self, schedule: PostingSchedule | None, usable: Sequence[Placed], runs: Sequence[PlannedRun]
    ) -> Queue | None:
        """Return how posts without a time get one; None if they go out at once."""
        names = {planned.account for _, planned in usable if planned.at is None}
        if not schedule or not names:
            return None
        accounts = [block for block in load_many(names).values() if isinstance(block, BlueskyCredentials)]
        ours = {run.id for run in runs}
        taken: defaultdict[str, list[datetime]] = defaultdict(list)
        for run in read_planned_of(tag(account.handle) for account in accounts):
            if run.id not in ours and run.at:
                taken[run.account].append(run.at)
        return Queue(schedule, taken, overwrite=self._options.overwrite)

    def _usable(self, entries: Entries) -> Iterator[tuple[str, PlannedPost]]:
        """Yield the entries that can be published, each post once, and count the others."""
        seen: dict[str, tuple[str, PlannedPost]] = {}
        for place, entry in entries:
            account = self._accounts.setdefault(entry.account, Account(entry.account))
            if isinstance(entry, Unusable):
                account.complain(place, "failed", entry.reason)
                continue
            first, same = seen.setdefault(run_key(entry), (place, entry))
            if first == place:
                yield place, entry
            elif same == entry:
                account.complain(place, "failed", f"it is the same post as {first}, and is published once. Remove one.")
            else:
                account.complain(place, "failed", f"key: {first} of {entry.account} also has {entry.key!r}.")

    def _sort(self, account: Account, row: Row) -> None:
        """Put a post to what is done with it, or count what needs nothing."""
        run = row.run
        match row.fate, row.planned:
            case "publish", PlannedPost() as planned:
                account.due.append((row.place, self._in_time(row.place, planned)))
            case "plan" | "change" | "adopt" | "remove", _:
                account.later.append(row)
                if row.fate in {"plan", "change"} and row.planned:
                    self._note_missing(row.place, row.planned)
            case "held", _:
                account.complain(row.place, "held", run.message if run else "")
                if row.changes:
                    account.later.append(row)
            case "too late", PlannedPost() as planned if planned.at:
                account.too_late(row.place, planned.at)
            case ("left", None) if run and run.state_name == HELD:
                pass
            case "out", PlannedPost() as planned if row.changes:
                account.counts["already out"] += 1
                what = f"it is out, and its {', '.join(row.changes)} changed after that, too late. {_ANOTHER}"
                self._notes.append({"account": planned.account, "post": row.place, "state": "note", "what": what})
            case fate, _:
                account.counts[_COUNTED[fate]] += 1

    def _note_missing(self, place: str, planned: PlannedPost) -> None:
        """Say of a planned post that its files are not there yet: the machine that publishes may have them."""
        for source in missing_files(planned.post):
            what = f"there is no file {source} on this machine yet. The post needs it when it is published."
            self._notes.append({"account": planned.account, "post": place, "state": "note", "what": what})

    def _in_time(self, place: str, planned: PlannedPost) -> PlannedPost:
        """Return a post of a calendar that makes no sense any more if it was due long ago and is not out.

        A year that is mistyped, or a calendar of last year, would publish all of its posts at once.
        """
        if not self._calendar or planned.at is None or planned.at > self._now - self._send_late:
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

    def plan(self) -> list[tuple[Account, Row, str]]:
        """Bring the runs in line. Return each post with its account, and why that failed, or ""."""
        later = [(account, row) for account in self.waiting for row in account.later]
        if not later:
            return []
        try:
            troubles = bring_in_line(self._planned_runs(), [row for _, row in later], self._blocks, self._present)
        except (InvalidInput, *API_TROUBLE) as trouble:
            troubles = [str(trouble)] * len(later)
        return [(account, row, trouble) for (account, row), trouble in zip(later, troubles, strict=True)]

    def close(self, planned: Sequence[tuple[Account, Row, str]]) -> State[Any]:
        """Create the artifacts with the results, and return the final state of the run."""
        for account, row, trouble in planned:
            if trouble:
                account.complain(row.place or (row.run.name if row.run else ""), "failed", f"{_NOT_KEPT} {trouble}")
            elif row.fate in _DONE:
                account.counts[_DONE[row.fate]] += 1
        for account in self._accounts.values():
            account.later = []
        self._record()
        self.progressed()
        accounts = [account for account in self._accounts.values() if account.counts]
        counts, problems = self._totals()
        summary = self._summary(counts)
        with ignoring_api_trouble("The artifacts with the tables could not be made"):
            create_table_artifact([account.row() for account in accounts], key=ACCOUNTS, description=summary)
            if problems:
                create_table_artifact(problems, key=PROBLEMS, description="The posts that were not published, and why.")
        if self._runs is not None:
            show_calendar()
        if not counts["held"] and not counts["failed"]:
            notes = "; ".join(f"{note['post']}: {note['what']}" for note in self._notes[:_NAMED])
            return Completed(message=f"{summary}. {notes}" if notes else summary)
        which = list(problem_lines(problems))
        more = [f"and more: see {PROBLEMS}"] if len(which) > _NAMED else []
        return failed(f"{summary}. {'; '.join(which[:_NAMED] + more)}")

    def preview(self) -> Preview:
        """Return what would be done."""
        for account in self._accounts.values():
            late = len([place for place, _ in account.due if place in self._late])
            account.counts.update({"due": len(account.due) - late, "too late": late})
            account.counts.update(_TO_DO[row.fate] for row in account.later if row.fate in _TO_DO)
        counts, problems = self._totals()
        failed = {each["post"] for each in problems if each["state"] == "failed"}
        rows = [
            replace(row, fate="too late") if row.place in self._late else row
            for row in self.rows
            if row.place not in failed
        ]
        return Preview(rows, [*problems, *self._notes], self._summary(counts))

    def _totals(self) -> tuple[Counter[str], list[dict[str, str]]]:
        """Return the numbers and the problems of all accounts."""
        accounts = self._accounts.values()
        counts = sum((account.counts for account in accounts), Counter[str]())
        return counts, [problem for account in accounts for problem in account.problems]

    def _summary(self, counts: Counter[str]) -> str:
        summary = in_words(counts)
        if counts["too late"]:
            summary += f" (due more than {_span(self._send_late)} ago, see the setting SEND_LATE)"
        return summary

    def _record(self) -> None:
        """Let the calendar know what is out, so that a text that is changed later is no second post."""
        if not self._calendar or not self._published:
            return
        plans = []
        for place, url in self._published:
            row = self._row_of[place]
            if row.planned:  # as the calendar has it: a late post was sent with an end of its own
                run = row.run.id if row.run else None
                plans.append((Plan(row.planned, self._blocks[row.planned.account], run), url))
        with ignoring_api_trouble("The calendar does not know what is out"):
            try:
                self._planned_runs().record(plans)
            except InvalidInput as missing:
                logger().warning("%s", missing)

    def serve(self, queue: Account) -> timedelta | None:
        credentials = self._blocks[queue.name]

        def send() -> list[PublishedPost | BlueskyError]:
            queue.expires_at = credentials.ensure_session().expires_at
            return credentials.publish_many([(planned.post, planned.key) for _, planned in queue.due])

        return self.deliver(queue, send) if queue.due else None

    def published(self, queue: Account, item: Placed, post: PublishedPost) -> None:
        queue.counts["published" if post.is_new else "already out"] += 1
        queue.link = post.url
        self._published.append((item[0], post.url))

    def held(self, queue: Account, item: Placed, error: BlueskyError) -> None:
        place, planned = item
        try:
            self._planned_runs().hold(planned, self._blocks[queue.name], error)
            queue.complain(place, "held", str(error))
        except (InvalidInput, *API_TROUBLE) as trouble:
            queue.complain(place, "failed", f"{error} {_NOT_KEPT} {trouble}")

    def failed(self, queue: Account, item: Placed, error: BlueskyError) -> None:
        is_expired = isinstance(error, Expired)
        if is_expired and (at := self._late.get(item[0])):
            queue.too_late(item[0], at)
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
