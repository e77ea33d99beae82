"""Any story of a calendar: edits of the file, readings, people's edits in Prefect, and the time that passes.

After each reading, what is planned equals the file but for what people changed, and nothing is out twice or too early.
Prefect's server, the accounts and the comparison are real; the clock is the story's.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed

from prefect_bluesky import BlueskyCredentials, sandbox
from prefect_bluesky.planning import Options, change, drop_plan, later_posts, move, read_entries, read_plans, run_batch
from prefect_bluesky.planning import batch as batch_module
from prefect_bluesky.planning.later_posts import plan_what_comes_near, with_run_of_its_own
from prefect_bluesky.planning.scheduled_runs import DEPLOYMENT, planned_time, text_of
from tests.support import SavedAccount, later_deployment, planned_deployments, texts

START = datetime(2030, 1, 1, tzinfo=UTC)
EXAMPLES, STEPS = (int(each) for each in os.environ.get("CALENDAR_STORIES", "4 14").split())
"""How many stories are told, and of how many events. For an hour of them: CALENDAR_STORIES="500 40"."""

HOURS = st.integers(1, 200)
WORDS = st.sampled_from(["apples and pears", "an announcement", "what happened today", "a word of thanks", "see you"])


class _Clock(datetime):
    """The time of the story, for what compares a calendar."""

    moment: datetime = START

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Return the time of the story."""
        return cls.moment


@contextmanager
def _later_posts(most_runs: int) -> Iterator[None]:
    """Have runs made at once only for the first posts of a calendar, by the story's clock."""
    with mock.patch.object(later_posts, "datetime", _Clock), mock.patch.object(later_posts, "MOST_RUNS", most_runs):
        yield


class Story(RuleBasedStateMachine):
    """A calendar of two accounts. Each post has a name, which stands in its text."""

    pds: sandbox.Sandbox
    folder: Path
    most_runs: int

    @initialize()
    def begin(self) -> None:
        self.accounts = [SavedAccount(self.pds) for _ in range(2)]
        self.posts: dict[str, dict[str, Any]] = {}
        self.file = self.folder / f"{uuid4().hex}.yaml"
        self.edited: set[str] = set()
        """The posts that were edited since the file was read last: one edit each."""
        self.persons: set[str] = set()
        """The posts that a person has edited, moved or cancelled in Prefect."""
        self.names = 0
        self.deployment = planned_deployments()[0]
        _Clock.moment = START

    # the file

    @rule(words=WORDS, hours=HOURS, account=st.integers(0, 1), has_key=st.booleans())
    def add(self, words: str, hours: int, account: int, has_key: bool) -> None:
        self.names += 1
        name = f"p{self.names:02}"
        at = START.replace(microsecond=0) + timedelta(hours=hours, minutes=self.names)
        key = {"key": f"{name} {self.file.stem}"} if has_key else {}
        self.posts[name] = self.accounts[account].item(f"{name} {words}", at=at.isoformat(), **key)
        self.edited.add(name)

    def _pick(self, data: st.DataObject) -> str | None:
        names = sorted(self.posts.keys() - self.edited - self._out())
        return data.draw(st.sampled_from(names)) if names else None

    @rule(data=st.data(), words=WORDS)
    def change_text(self, data: st.DataObject, words: str) -> None:
        if name := self._pick(data):
            self.posts[name]["text"] = f"{name} {words}, again"
            self.edited.add(name)

    @rule(data=st.data(), hours=HOURS)
    def change_time(self, data: st.DataObject, hours: int) -> None:
        if name := self._pick(data):
            self.posts[name]["at"] = (START + timedelta(hours=hours, minutes=int(name[1:]))).isoformat()
            self.edited.add(name)

    @rule(data=st.data())
    def change_account(self, data: st.DataObject) -> None:
        if name := self._pick(data):
            other = {self.accounts[0].name: self.accounts[1].name}.get(
                self.posts[name]["account"], self.accounts[0].name
            )
            self.posts[name]["account"] = other
            self.edited.add(name)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if name := self._pick(data):
            del self.posts[name]

    # readings

    @rule(overwrite=st.booleans())
    def read(self, overwrite: bool) -> None:
        self.file.write_text(yaml.safe_dump({"posts": list(self.posts.values())}))
        batch = read_entries((), str(self.file), "", "UTC", name=self.file.stem)
        with mock.patch.object(batch_module, "datetime", _Clock), _later_posts(self.most_runs):
            run_batch(batch, Options(prune=True, overwrite=overwrite))
        self.edited.clear()
        if overwrite:
            self.persons.clear()
        self._check()

    def _check(self) -> None:
        """What is planned equals the file, but for what people changed."""
        wanted = {
            name: (each["account"], each["text"], datetime.fromisoformat(each["at"]))
            for name, each in self.posts.items()
            if name not in self.persons | self._out() and datetime.fromisoformat(each["at"]) > _Clock.moment
        }
        names = {f"{account.account.handle}": account.name for account in self.accounts}
        found = {
            name: (names[run.name.partition(" · ")[0]], text_of(run), planned_time(run))
            for name, run in self._planned().items()
            if name not in self.persons
        }
        # What is due goes out. A time that was changed to long ago is a mistake, and is named: the run stays as it is.
        due = {name for name, (_, _, at) in found.items() if at and at <= _Clock.moment}
        mistaken = {name for name in found if name in self.posts and self._is_long_ago(name)}
        assert {name: each for name, each in found.items() if name not in due | mistaken} == wanted

    def _is_long_ago(self, name: str) -> bool:
        return datetime.fromisoformat(self.posts[name]["at"]) <= _Clock.moment - timedelta(days=1)

    # people, in Prefect

    @precondition(lambda self: self._planned())
    @rule(data=st.data(), how=st.sampled_from(["edit", "move", "cancel"]), hours=HOURS)
    def person(self, data: st.DataObject, how: str, hours: int) -> None:
        planned = {name: run for name, run in self._planned().items() if (planned_time(run) or START) > _Clock.moment}
        if not planned:
            return
        name = data.draw(st.sampled_from(sorted(planned)))
        self.persons.add(name)
        if how == "edit":
            change(planned[name], {"text": f"{name} by a person"})
        elif how == "move":
            move(planned[name], (START + timedelta(hours=hours, minutes=40)).isoformat())
        else:
            drop_plan(planned[name])

    # the time

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        _Clock.moment += timedelta(hours=hours)
        for planned in self._planned().values():
            at = planned_time(planned)
            if at and at <= _Clock.moment:
                run = with_run_of_its_own(planned, DEPLOYMENT)
                account: Any = BlueskyCredentials.load(self._block_of(run))
                account.publish(run.parameters["post"], key=run.parameters["key"])
                with get_client(sync_client=True) as client:
                    client.set_flow_run_state(run.id, Completed(), force=True)

    @rule()
    def posts_come_near(self) -> None:
        with _later_posts(self.most_runs):
            plan_what_comes_near(self.deployment)

    def _block_of(self, run: FlowRun) -> str:
        handle = run.name.partition(" · ")[0]
        return next(each.name for each in self.accounts if each.account.handle == handle)

    def _planned(self) -> dict[str, FlowRun]:
        ours = {each.account.handle for each in self.accounts} if hasattr(self, "accounts") else set()
        planned = [run for run in read_plans() if run.name.partition(" · ")[0] in ours] if ours else []
        names = Counter(text_of(run)[:3] for run in planned)
        assert not [name for name, times in names.items() if times > 1]
        return {text_of(run)[:3]: run for run in planned}

    def _out(self) -> set[str]:
        return {text[:3] for account in self.accounts for text in texts(self.pds, account.account)}

    @invariant()
    def nothing_is_out_twice(self) -> None:
        if hasattr(self, "accounts"):
            out = Counter(text[:3] for account in self.accounts for text in texts(self.pds, account.account))
            assert not [name for name, times in out.items() if times > 1]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("most_runs", [1000, 2])
def test_any_story_ends_as_the_file_says(pds: sandbox.Sandbox, tmp_path: Path, most_runs: int) -> None:
    """Each post has a run at once, or only the first two have."""
    later_deployment()
    told = type("Told", (Story,), {"pds": pds, "folder": tmp_path, "most_runs": most_runs})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    how = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(told, settings=how)
