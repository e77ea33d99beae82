"""Compare a calendar with what is planned and out: what is added, changed, removed, unchanged, or a person's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import SequenceMatcher
from typing import Any, Literal

from prefect_bluesky.planning.held_runs import EXPIRED, HELD
from prefect_bluesky.planning.planned_post import KEYLESS, PlannedPost
from prefect_bluesky.planning.planned_run import PlannedRun
from prefect_bluesky.planning.queue import Matched, Queue
from prefect_bluesky.planning.scheduled_runs import fingerprint, post_parameter

Fate = Literal[
    "publish", "plan", "change", "remove", "unchanged", "adopt", "edited", "cancelled", "going out", "out", "held",
    "expired", "too late", "left",
]  # fmt: skip
"""What is to become of a post: see `Row`."""

_SIMILAR = 0.6
"""How similar two texts are at the least, from 0 to 1, for one to be called a change of the other: difflib's advice."""

_NEARLY_THE_SAME = 0.9
"""How similar the text of a post that is out has to be: a word or two were corrected."""

_A_DAY = timedelta(days=1)

_CANDIDATES, _COMPARED = 50, 300
"""Runs that are looked at for one entry, and characters of texts that are compared."""

_MOST_PAIRS = 2_000
"""Pairs of texts that are compared for one account. Beyond it, a post whose text and time both changed is a new one."""


@dataclass(frozen=True)
class Row:
    """A post of a calendar, or of its runs, and what is to become of the post.

    Attributes:
        fate: `publish` now, `plan` for later, `change` or `remove` the run; `unchanged`, or `adopt` as the calendar
            says now what a person has changed; left alone as `edited` or `cancelled` by a person; `going out`, `out`,
            `held`, `expired`; `too late` to be sent; or `left`, as the calendar no longer has the post.
        place: where the post stands in the calendar, such as `row 12`; "" for a run that the calendar does not have.
        planned: the post as the calendar has it, with its key; None for a run that the calendar does not have.
        run: the post's run, if it has one.
        changes: the fields that differ between the calendar and the run, such as `text`, `time` and `account`.
        again: whether the run has ended, so that another one is to follow it.
    """

    fate: Fate
    place: str
    planned: PlannedPost | None
    run: PlannedRun | None
    changes: tuple[str, ...] = ()
    again: bool = False


@dataclass(frozen=True)
class Terms:
    """The terms on which a calendar is compared.

    Attributes:
        accounts: what tells each account's block from others, by the block's name.
        now: the time.
        send_late: how long after its time a post is still sent.
        overwrite: whether what a person has edited or cancelled follows the calendar.
        prune: whether what the calendar no longer has is removed.
        is_same_calendar: whether the runs are this calendar's for sure, and not of another file of the same name.
        queue: how posts without a time get one; None if they go out at once.
        unreadable: the accounts of entries that cannot be read or published. Nothing of them is removed; if one of them
            is unknown, nothing at all.
    """

    accounts: Mapping[str, str]
    now: datetime
    send_late: timedelta
    overwrite: bool = False
    prune: bool = False
    is_same_calendar: bool = True
    queue: Queue | None = None
    unreadable: frozenset[str] = frozenset()


def compare(entries: Sequence[tuple[str, PlannedPost]], runs: Iterable[PlannedRun], terms: Terms) -> list[Row]:
    """Return what is to become of each post of a calendar, in the calendar's order, and then of other runs.

    A post with a key is known by its key. A post without one is known by what it was when it was planned: by its
    account, time and content, or by those of them that have not changed.

    Args:
        entries: the posts with their places, times and keys.
        runs: the runs of the calendar, and those under the posts' keys.
        terms: how they are compared.
    """
    latest = _latest(runs)
    found: dict[str, Matched] = {}
    unmatched: list[tuple[str, PlannedPost]] = []
    for place, planned in entries:
        run = latest.pop((terms.accounts.get(planned.account, ""), str(planned.key)), None)
        if run is None:
            unmatched.append((place, planned))
        else:
            found[place] = place, planned, run
    terms = replace(terms, is_same_calendar=terms.is_same_calendar or bool(found))
    for place, planned, run in _matched(unmatched, [run for run in latest.values() if not run.was_ended_by_us], terms):
        if run is None:
            found[place] = place, planned, None
        else:
            del latest[run.account, run.key]
            found[place] = place, planned.model_copy(update={"key": run.key}), run
    matched = [found[place] for place, _ in entries]
    if terms.queue:
        matched = terms.queue.in_turn(matched, terms.accounts, terms.now)
    # What is due is as good as out.
    others = [run for run in latest.values() if run.is_live and not (run.at and run.at <= terms.now)]
    rows = [_row(place, planned, run, terms) for place, planned, run in matched]
    return [*rows, *(_left(run, terms) for run in sorted(others, key=_by_time))]


def _by_time(run: PlannedRun) -> tuple[datetime, str]:
    return run.at or datetime.max.replace(tzinfo=UTC), run.created


def _latest(runs: Iterable[PlannedRun]) -> dict[tuple[str, str], PlannedRun]:
    """Return the run that counts for each post: one that is out, else one that is live, else the latest."""
    found: dict[tuple[str, str], PlannedRun] = {}
    for run in sorted(runs, key=lambda run: (run.is_out, run.is_live, run.created)):
        found[run.account, run.key] = run
    return found


def _matched(entries: Sequence[tuple[str, PlannedPost]], runs: Sequence[PlannedRun], terms: Terms) -> Iterator[Matched]:
    """Yield each entry with the run that it was planned as before a person changed the calendar."""
    pending, left = list(entries), {run.id: run for run in runs}
    for sign_of_entry, sign_of_run in _signs(terms) if pending else ():
        by_sign: defaultdict[Any, list[PlannedRun]] = defaultdict(list)
        for run in left.values():
            by_sign[sign_of_run(run)].append(run)
        still: list[tuple[str, PlannedPost]] = []
        for place, planned in pending:
            sign = sign_of_entry(planned)
            same = by_sign[sign] if sign is not None else []
            found = next((each for each in same[:_CANDIDATES] if _may_be(planned, each, terms.now)), None)
            if found is None:
                still.append((place, planned))
                continue
            same.remove(found)
            del left[found.id]
            yield place, planned, found
        pending = still
    # A file of the same name, of which no post has anything in common, may be another calendar.
    is_same_calendar = terms.is_same_calendar or len(pending) < len(entries)
    yield from _similar(pending, list(left.values()) if is_same_calendar else [], terms)


def _signs(terms: Terms) -> Iterator[tuple[Callable[[PlannedPost], Any], Callable[[PlannedRun], Any]]]:
    """Yield what an entry and its run have in common, the surest sign first."""

    def account(planned: PlannedPost) -> str:
        return terms.accounts.get(planned.account, planned.account)

    # All is as it was, but that a person has given a key, or taken it away.
    yield lambda entry: (account(entry), *_said(entry)), lambda run: (run.account, *run.said)
    yield (
        lambda entry: None if _is_keyless(entry) else entry.key,
        lambda run: run.key if (run.is_planned or run.is_out) and not _was_keyless(run) else None,
    )
    yield (
        lambda entry: (account(entry), _said(entry)[1]) if entry.at and _is_keyless(entry) else None,
        lambda run: (run.account, run.said[1]) if _was_keyless(run) else None,
    )
    yield (
        lambda entry: (account(entry), _said(entry)[0]) if _is_keyless(entry) else None,
        lambda run: (run.account, run.said[0]) if _was_keyless(run) else None,
    )
    yield (
        lambda entry: _said(entry) if _is_keyless(entry) else None,
        lambda run: run.said if (run.is_planned or run.is_out) and _was_keyless(run) else None,
    )


def _is_keyless(planned: PlannedPost) -> bool:
    return str(planned.key).startswith(KEYLESS)


def _was_keyless(run: PlannedRun) -> bool:
    return run.key.startswith(KEYLESS)


def _said(planned: PlannedPost) -> tuple[str, str]:
    """Return what a calendar says of a post, as `PlannedRun.said`."""
    content, _, at = fingerprint(post_parameter(planned), planned.at).partition("@")
    return content, at


def _utc(planned: PlannedPost) -> datetime | None:
    return planned.at and planned.at.astimezone(UTC)


def _may_be(planned: PlannedPost, run: PlannedRun, now: datetime) -> bool:
    """Return whether an entry that has something in common with a run can be the run's post."""
    # People write next week's posts over those of this week. An hour more or less corrects the time of a post.
    is_another = planned.at and planned.at > now and run.at and abs(planned.at - run.at) >= _A_DAY
    if not run.is_planned and is_another:
        return False
    return not run.was_cancelled or _similarity(planned, run) >= _SIMILAR


def _similar(entries: Sequence[tuple[str, PlannedPost]], runs: Sequence[PlannedRun], terms: Terms) -> Iterator[Matched]:
    """Yield the entries whose time and text both changed, with the run of the most similar text, if there is one."""
    left: defaultdict[str, list[PlannedRun]] = defaultdict(list)
    for run in runs:
        if _was_keyless(run):
            left[run.account].append(run)
    for place, planned in entries:
        others = left[terms.accounts.get(planned.account, "")] if _is_keyless(planned) else []
        best = None
        if others and len(others) * len(entries) <= _MOST_PAIRS:
            ratios = [_likeness(planned, run) for run in others]
            if max(ratios) > 0:
                best = others.pop(ratios.index(max(ratios)))
        yield place, planned, best


def _likeness(planned: PlannedPost, run: PlannedRun) -> float:
    """Return how similar the texts are of an entry and of a run, from 0 to 1; 0 if they are two posts."""
    if run.was_cancelled or run.state_name == HELD:
        return 0
    # A post that is out has no other time any more, and next week's text may be much like it.
    least = _SIMILAR if not run.is_out else _NEARLY_THE_SAME if planned.at is None else 2
    found = _similarity(planned, run)
    return found if found >= least else 0


def _similarity(planned: PlannedPost, run: PlannedRun) -> float:
    matcher = SequenceMatcher(None, planned.post.text[:_COMPARED], run.text[:_COMPARED], autojunk=False)
    # The quick ratios are never below the ratio.
    if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < _SIMILAR:
        return 0
    return matcher.ratio()


def _row(place: str, planned: PlannedPost, run: PlannedRun | None, terms: Terms) -> Row:
    is_later = planned.at is not None and planned.at > terms.now
    is_late = planned.at is not None and planned.at <= terms.now - terms.send_late
    new: Fate = "plan" if is_later else "publish"
    if run is None:
        return Row(new, place, planned, None)
    wanted = fingerprint(post_parameter(planned), planned.at or run.at)
    changes = _changes(planned, run, terms) if wanted != run.fingerprint else ()
    if run.account != terms.accounts.get(planned.account):
        changes = (*changes, "account")
    has_changed = run.applied is not None and wanted != run.applied

    def ended(fate: Fate, *, comes_back: bool) -> Row:
        return Row(new if comes_back else fate, place, planned, run, changes, again=comes_back)

    if run.is_out:
        return Row("out", place, planned, run, changes)
    if run.was_ended_by_us:
        return ended("left", comes_back=True)
    if run.was_cancelled:
        return ended("cancelled", comes_back=terms.overwrite)
    if run.state_name == EXPIRED:
        return ended("expired", comes_back=has_changed and not is_late)
    if run.state_name == HELD:
        return Row("held", place, planned, run, changes if has_changed or terms.overwrite else ())
    if not run.is_live:
        return Row(new, place, planned, run, changes)  # another attempt, under the same key
    if not run.is_planned or (run.at and run.at <= terms.now):
        return Row("going out", place, planned, run, changes)
    if run.is_edited and planned.at is None:
        return Row("edited", place, planned, run, changes or ("time",))  # out of its turn
    if not changes:
        return Row("unchanged" if run.applied in {None, wanted} else "adopt", place, planned, run)
    if is_late:
        return Row("too late", place, planned, run, changes)
    if run.is_edited and not terms.overwrite:
        return Row("edited", place, planned, run, changes)
    return Row("change", place, planned, run, changes)


def _changes(planned: PlannedPost, run: PlannedRun, terms: Terms) -> tuple[str, ...]:
    """Return the names of what differs between a post of the calendar and its run."""
    wanted, found = post_parameter(planned), run.post if isinstance(run.post, dict) else {"text": run.post}
    names = [name for name in dict.fromkeys([*wanted, *found]) if wanted.get(name) != found.get(name)]
    moved = ["time"] if planned.at and _utc(planned) != run.at else []
    return (*moved, *(name.replace("_", " ") for name in names))


def _left(run: PlannedRun, terms: Terms) -> Row:
    names = {account for name, account in terms.accounts.items() if name in terms.unreadable}
    is_unknown = any(name not in terms.accounts for name in terms.unreadable)
    is_ours = run.is_planned and (terms.overwrite or not run.is_edited)
    is_removed = terms.prune and is_ours and not is_unknown and run.account not in names
    return Row("remove" if is_removed else "left", "", None, run)
