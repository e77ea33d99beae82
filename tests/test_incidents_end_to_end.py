"""An app password is revoked: a real Prefect server, process workers, a real PDS and a receiver of messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from uuid import UUID

import pytest
from prefect_aws import AwsCredentials

from prefect_bluesky.planning.saved_accounts import load
from tests import aws, proxy
from tests.pds.server import Account, RealPds
from tests.prefect_server import postgresql
from tests.proxy import Phase, Step
from tests.support import LOGIN, REFRESH, RESOLVE, STATUS, WRITE, block, expire_access_token, forget_processes_memory
from tests.world import World, wait_for, world

pytestmark = [pytest.mark.pds, pytest.mark.slow]


class SlowAws:
    """A Secrets Manager that keeps everyone waiting at times, so that a run stays where it is."""

    def __init__(self) -> None:
        self._goes_on = Event()
        self._goes_on.set()

    def __call__(self, step: Step, phase: Phase) -> None:
        if phase is Phase.BEFORE:
            self._goes_on.wait()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Answer nobody meanwhile."""
        self._goes_on.clear()
        try:
            yield
        finally:
            self._goes_on.set()


@pytest.fixture
def slow_aws() -> SlowAws:
    return SlowAws()


@pytest.fixture
def slow_aws_credentials(slow_aws: SlowAws, aws_url: str) -> Iterator[AwsCredentials]:
    """A block for it."""
    with proxy.run(aws_url, slow_aws) as url:
        yield aws.credentials(url)


@pytest.fixture
def prefect(no_prefect_api: None, tmp_path: Path) -> Iterator[World]:
    """Run a Prefect server for each test, as parts of it are killed.

    On PostgreSQL: with SQLite, whoever writes while another does may wait for a minute (Prefect's `busy_timeout`), and
    with it an alert that is due at once.
    """
    with postgresql() as database, world(tmp_path, database) as made:
        yield made
    forget_processes_memory()


def name_of(account: Account) -> str:
    """The name of its block."""
    return account.handle.partition(".")[0]


def saved(
    pds: RealPds, account: Account, app_password: str | None = None, aws_credentials: AwsCredentials | None = None
) -> UUID:
    """Save the block of an account, or put another app password into it; its id."""
    credentials = block(pds, account, app_password=app_password, aws_credentials=aws_credentials)
    document = credentials.save(name_of(account), overwrite=True)
    assert isinstance(document, UUID)
    return document


def revoke(pds: RealPds, account: Account) -> None:
    """The app password dies, and with it what its access token is good for: that expires a moment later."""
    pds.revoke_app_password(account)
    expire_access_token(pds, account, load(name_of(account)))


def subjects(world: World) -> list[str]:
    return [message.subject for message in world.receiver.messages]


def published(pds: RealPds, account: Account) -> list[str]:
    """Return an account's texts, as a feed shows them, the oldest first."""
    return [post["value"]["text"] for post in sorted(pds.posts(account), key=lambda post: post["value"]["createdAt"])]


@pytest.mark.night
def test_a_dead_app_password_alerts_once_holds_its_posts_and_heals(
    prefect: World, real_pds: RealPds, held_posts: int
) -> None:
    dead, *others = [real_pds.create_account() for _ in range(5)]
    blocks = {account.handle: saved(real_pds, account) for account in (dead, *others)}
    for account in (dead, *others):
        load(name_of(account)).publish("before")
    for _ in range(2):
        prefect.start_worker()
    revoke(real_pds, dead)
    before = len(real_pds.requests())
    first = prefect.schedule(blocks[dead.handle], ["held first"], minutes_ago=held_posts + 1)
    assert prefect.ended(first) == ["Held"]
    wait_for(lambda: prefect.receiver.messages, "the alert")
    requests = real_pds.requests()[before:]
    assert [(request.nsid, request.status) for request in requests] == [
        (WRITE, 400),
        (REFRESH, 400),
        (LOGIN, 401),
        (RESOLVE, 200),
        (STATUS, 200),
    ]
    (alert,) = prefect.receiver.messages
    assert alert.received_at - requests[1].heard_at < 10
    for part in (dead.handle, dead.did, "app_password_revoked", "Create a new app password", "http"):
        assert part in alert.body
    assert re.search(r"cannot publish since \d{4}-\d\d-\d\d \d\d:\d\d UTC\.", alert.body)

    later = [f"held {number:02}" for number in range(held_posts)]
    held = prefect.schedule(blocks[dead.handle], later, minutes_ago=held_posts)
    going_on = [
        run for account in others for run in prefect.schedule(blocks[account.handle], ["meanwhile"], minutes_ago=0)
    ]
    assert set(prefect.ended(held)) == {"Held"}
    # On a busy machine one of them may be taken for dead, and be held, while it is at work or when it has done it.
    prefect.ended(going_on)
    wait_for(
        lambda: all(published(real_pds, account) == ["before", "meanwhile"] for account in others),
        "posts of the others",
    )
    assert [(request.nsid, request.status) for request in real_pds.requests()[before + len(requests) :]] == [
        (WRITE, 200)
    ] * len(others)
    assert len(prefect.receiver.messages) == 1

    saved(real_pds, dead, real_pds.create_app_password(dead, "new"))
    prefect.start_run("refresh-sessions/refresh-sessions")
    everything = ["before", "held first", *later]
    wait_for(lambda: len(published(real_pds, dead)) == len(everything), "the held posts")
    wait_for(lambda: set(prefect.states([*first, *held, *going_on])) == {"Completed"}, "the end of the held runs")
    assert published(real_pds, dead) == everything
    for account in others:
        assert published(real_pds, account) == ["before", "meanwhile"]
    assert subjects(prefect) == [f"Bluesky: {dead.handle} cannot publish", f"Bluesky: {dead.handle} can publish again"]


def test_no_held_post_and_no_alert_is_lost_with_the_receiver_the_worker_or_the_server(
    slow_aws: SlowAws, slow_aws_credentials: AwsCredentials, prefect: World, real_pds: RealPds
) -> None:
    dead = real_pds.create_account()
    account = saved(real_pds, dead, aws_credentials=slow_aws_credentials)
    load(name_of(dead)).publish("before")
    prefect.start_worker()
    revoke(real_pds, dead)

    prefect.receiver.stop()
    first = prefect.schedule(account, ["one"], minutes_ago=5)
    assert prefect.ended(first) == ["Held"]

    with slow_aws.standing_still():
        second = prefect.schedule(account, ["two"], minutes_ago=4)
        sending = prefect.start_run("publish-held/publish-held")
        wait_for(lambda: prefect.states([*second, sending]) == ["Running", "Running"], "two running runs")
        prefect.kill_workers()
    third = prefect.schedule(account, ["three"], minutes_ago=3)
    prefect.start_worker()
    # The second has no process any more, and is held as soon as its heartbeats are missed.
    assert prefect.ended([*second, *third]) == ["Held", "Held"]
    # And this one no longer keeps others from their turn.
    assert prefect.ended([sending]) == ["Crashed"]

    with slow_aws.standing_still():
        fourth = prefect.schedule(account, ["four"], minutes_ago=2)
        wait_for(lambda: prefect.states(fourth) == ["Running"], "a running run")
        prefect.server.kill()
    prefect.server.start()
    assert prefect.ended(fourth) == ["Held"]
    assert prefect.receiver.messages == []

    prefect.receiver.start()
    prefect.ended([prefect.start_run("refresh-sessions/refresh-sessions")])
    wait_for(lambda: prefect.receiver.messages, "the alert")
    saved(real_pds, dead, real_pds.create_app_password(dead, "new"), slow_aws_credentials)
    prefect.ended([prefect.start_run("refresh-sessions/refresh-sessions")])
    wait_for(lambda: len(published(real_pds, dead)) == 5, "the held posts")

    def all_are_completed() -> bool:
        # The server that was killed may have missed the end of the fourth, and take it for dead once it is sent. The
        # next run of the schedule finds its post.
        prefect.ended([prefect.start_run("publish-held/publish-held")])
        return set(prefect.states([*first, *second, *third, *fourth])) == {"Completed"}

    wait_for(all_are_completed, "the end of the held runs")
    assert published(real_pds, dead) == ["before", "one", "two", "three", "four"]
    assert subjects(prefect) == [f"Bluesky: {dead.handle} cannot publish", f"Bluesky: {dead.handle} can publish again"]
