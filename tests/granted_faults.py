"""Accounts by grants, whose posts go out through faults: what happens to workers, store, servers, clocks and owners.

A life is what its seed says: one account, with its session in Secrets Manager or in Prefect, and a fault in each round.
In a round the access token expires, a fault strikes one of the workers that publish, and the posts are tried again as a
flow does it. An account without a session waits for a visit of its owner, who comes at once; if only the spare session
is left, the owner comes some rounds after the alert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from threading import Lock
from typing import Any

from prefect_aws import AwsCredentials

from prefect_bluesky import BlueskyCredentials, BlueskyOAuthClient
from prefect_bluesky.alerts import Reporter
from prefect_bluesky.errors import AuthError, BlueskyError, StoreUnavailable
from prefect_bluesky.protocol.oauth import proofs
from prefect_bluesky.publishing import actions
from prefect_bluesky.sessions import Authenticator, LoginPolicy, Session, SessionDocument, Visit, worker_lock
from prefect_bluesky.sessions.granted_session import GrantedSession
from tests.granted_worker import Dies, Grant, Store, Worker
from tests.pds.client_host import ClientHost
from tests.pds.consent import consent
from tests.pds.server import RealPds, Request
from tests.support import LOGIN, forget_processes_memory, texts

TOKEN = "oauth/token"
REPLAYED, UNKNOWN = "Refresh token replayed", "Invalid refresh token"

_TRIES = 12
"""How often a post is tried before it counts as lost."""

_MOST_PATIENT = 4
"""How many rounds an owner lets pass, at most, after the alert that a visit is due."""


@dataclass
class Found:
    """What came of lives.

    Attributes:
        faults: how often each fault has struck.
        posts: how many posts were to go out.
        lost: the sessions that were lost, by the fault of the round.
        by_spare: how many of these a spare session answered for.
        visits_in_time: visits that an alert had asked for, while the spare session was in use.
        visits_of_outages: visits without which nothing could be published.
        replays: how often the server was sent a refresh token again.
        tokens: the requests for tokens by refreshes and visits.
        wrong: what must not be.
    """

    faults: Counter[str] = field(default_factory=Counter)
    posts: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    by_spare: int = 0
    visits_in_time: int = 0
    visits_of_outages: int = 0
    replays: int = 0
    tokens: int = 0
    wrong: list[str] = field(default_factory=list)


class Life:
    """An account through its faults.

    Attributes:
        until_then: ends what passes when somebody waits.
    """

    def __init__(self, seed: int, pds: RealPds, host: ClientHost, aws: AwsCredentials, found: Found) -> None:
        self.pds, self.host, self.found, self.chance = pds, host, found, Random(seed)
        self._name = f"seed {seed}"
        self._account = pds.create_account()
        client = BlueskyOAuthClient(url=host.url, key=BlueskyOAuthClient.new_key())
        for name, text in client.files().items():
            host.put(name, text.encode())
        self.client_url = f"{host.url}/client-metadata.json"
        self.block = BlueskyCredentials(
            handle=self._account.handle,
            service_url=pds.url,
            oauth_client=client,
            aws_credentials=aws if seed % 2 else None,
        )
        self._store = self.block.session_store()
        self._client = client
        self._passed = timedelta()
        self._visiting = Lock()
        self._wanted: list[str] = []
        self._dead: set[str] = set()
        self._fault = ""
        self._patience = 0
        self._may_be_lost = False
        self.until_then = ExitStack()
        self._visit()
        self._old_worker = self.new_worker()

    @property
    def stored(self) -> SessionDocument:
        """What is stored of the account."""
        saved = self._store.load()
        assert saved
        return saved.document

    def new_worker(self, ahead: timedelta = timedelta()) -> Worker:
        """Start a worker, on a machine whose clock is ahead."""
        forget_processes_memory()
        if ahead:
            # A clock that is ahead of the server's, and one that takes the server's to be ahead, sign the same time.
            proofs._servers[self.pds.url].ahead = ahead.total_seconds()
        store = Store(self.block.session_store())
        grant = Grant(self._account.handle, self._client.clients, self.pds.plc_url)
        authenticator = Authenticator(
            account=self._account.handle,
            sign_in=grant,
            service_url=self.pds.url,
            store=store,
            lock=partial(worker_lock, self.block._name, lease=60, required=True),
            policy=LoginPolicy(),
            reporter=Reporter(None),
            directory_url=self.pds.plc_url,
            now=lambda: self._now() + ahead,
        )
        return Worker(store, grant, authenticator, ahead)

    def live(self, faults: int) -> None:
        """Let so many faults strike, and judge what has come of it."""
        while faults:
            faults -= self._round()
        # What the last fault has left behind is there for one more worker.
        self._publish(self.new_worker(), self.chance, "last")
        out = Counter(texts(self.pds, self._account))
        self.found.posts += len(self._wanted)
        if lost := set(self._wanted) - set(out):
            self._is_wrong(f"posts were lost: {sorted(lost)}")
        if twice := [text for text, times in out.items() if times > 1]:
            self._is_wrong(f"posts are there twice: {twice}")
        if self.stored.logins:
            self._is_wrong("a login was counted")

    def revoke(self, *sessions: Session | None) -> None:
        """Let the owner end sessions at the server."""
        for session in sessions:
            if isinstance(session, GrantedSession):
                self.new_worker().grant.end(session)
                self._dead.add(session.key.thumbprint)

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._passed

    def _is_wrong(self, what: str) -> None:
        self.found.wrong.append(f"{self._name}, {self._fault}: {what}")

    def _round(self) -> bool:
        """Let a token expire and a fault strike. Return whether the fault has struck."""
        name = self._fault = self.chance.choice(list(FAULTS))
        may_cost, strike = FAULTS[name]
        self._let_expire()
        before, requests = self.stored, len(self.pds.requests())
        may_be_lost, outages = self._may_be_lost, self.found.visits_of_outages
        crowd = 2 if name == "two workers at once" or self.chance.random() < 0.25 else 1
        ahead = timedelta(minutes=self.chance.choice((-10, 10))) if name == "wrong clock" else timedelta()
        workers = [self.new_worker(ahead), *(self.new_worker() for _ in range(crowd - 1))]
        if ahead:
            workers[0] = self.new_worker(ahead)  # the last to start leaves its belief about the clock
        seeds = [Random(self.chance.random()) for _ in workers]
        with strike(self, workers[0]) as has_struck, ThreadPoolExecutor(crowd) as threads:
            publishing = [
                threads.submit(copy_context().run, self._publish, worker, seed, f"{number}")
                for number, (worker, seed) in enumerate(zip(workers, seeds, strict=True))
            ]
            for each in publishing:
                each.result()
        struck = has_struck()
        # A process that has lived through all of it, and knows an older session.
        self._publish(self._old_worker, self.chance, "old")
        self.found.faults[name] += struck
        # A worker may have ended with tokens that it could not save: the next ones find that out.
        self._may_be_lost = may_be_lost or (struck and may_cost)
        self._judge(before, self._may_be_lost, self.pds.requests()[requests:], outages)
        self._let_owner_come()
        return struck

    def _judge(self, before: SessionDocument, may_cost: bool, requests: list[Request], outages: int) -> None:
        asked = [request for request in requests if request.nsid == TOKEN]
        self.found.tokens += len(asked)
        replays = sum(request.said == REPLAYED for request in asked)
        self.found.replays += replays
        if replays > may_cost:
            self._is_wrong(f"{replays} refresh tokens were sent again")
        # A token of a session that is over is sent once: the answer ends the session here too.
        if sum(request.said == UNKNOWN for request in asked) > (2 if self._dead else 0):
            self._is_wrong("tokens of ended sessions were sent again")
        if any(request.nsid == LOGIN for request in requests):
            self._is_wrong("a login was made")
        was_outage = self.found.visits_of_outages > outages
        after = _key(self.stored.session)
        if after == _key(before.session) and not was_outage:
            return
        self._may_be_lost = False
        self.found.lost[self._fault] += 1
        if not may_cost:
            self._is_wrong("the session was given up, and nothing was lost")
        if was_outage:
            if before.spare and _key(before.spare) not in self._dead:
                self._is_wrong("a spare session did not take over")
        elif after == _key(before.spare):
            self.found.by_spare += 1
        else:
            self._is_wrong("the session is neither the one before nor its spare")

    def _let_expire(self) -> None:
        """Let the access token expire soon, or by the worker's clock, by the server's, or by both."""
        saved = self._store.load()
        assert saved
        session = saved.document.session
        assert session
        how = self.chance.choice(("soon", "here", "there", "both"))
        minutes = {"soon": self.chance.randint(51, 58), "there": 1}.get(how, self.chance.randint(61, 90))
        token = session.access_token if how in {"soon", "here"} else self.pds.expire(session.access_token)
        aged = replace(session, access_token=token, received_at=self._now() - timedelta(minutes=minutes))
        self._store.save(replace(saved.document, session=aged), saved)

    def _publish(self, worker: Worker, chance: Random, name: str) -> None:
        """Publish a post as a flow does it: again as long as the error says so, by whichever worker is next."""
        text = f"{self._name}, post {len(self._wanted)} ({name})"
        self._wanted.append(text)
        trouble: BlueskyError | None = None
        for _ in range(_TRIES):
            try:
                actions.publish(text, text, worker.authenticator)
            except Dies:
                worker = self.new_worker()
            except BlueskyError as error:
                trouble = error
                if isinstance(error, AuthError):
                    self._wait_or_visit(error)
                elif error.retryable:
                    self._wait()
                else:
                    self._is_wrong(f"{text}: {error}")
                if chance.random() < 0.5:
                    worker = self.new_worker()
            else:
                return
        self._is_wrong(f"{text}: given up after {_TRIES} tries: {trouble}")

    def _wait(self) -> None:
        with self._visiting:
            self.until_then.close()

    def _wait_or_visit(self, error: AuthError) -> None:
        with self._visiting:
            document = self.stored
            if document.session is None:
                self.found.visits_of_outages += 1
                self._visit()
            elif not document.open_refusals:
                return
            elif error.retryable:
                self._passed += LoginPolicy().probe_interval
                self.until_then.close()
            else:
                self._is_wrong(f"{error}")

    def _let_owner_come(self) -> None:
        if "spare" not in self.stored.visit_told:
            self._patience = self.chance.randint(0, _MOST_PATIENT)
        elif self._patience:
            self._patience -= 1
        else:
            self.found.visits_in_time += 1
            self._visit()
            self._may_be_lost = False

    def _visit(self) -> None:
        """Let the owner grant a session and a spare one."""
        visit = Visit(self.new_worker().authenticator, self.pds.url, self._client, self.pds.plc_url)
        for is_spare in (False, True):
            visit.take(consent(visit.link(), self._account), is_spare=is_spare)


def _key(session: Session | None) -> str | None:
    """Return the name of the key that a session's tokens are bound to, which stays the same when it is refreshed."""
    return session.key.thumbprint if isinstance(session, GrantedSession) else None


HasStruck = Callable[[], bool]
Strike = Callable[[Life, Worker], AbstractContextManager[HasStruck]]


def _in_store(step: str, what: type[BaseException], *, is_done: bool) -> Strike:
    @contextmanager
    def strike(life: Life, worker: Worker) -> Iterator[HasStruck]:
        trouble = Dies() if what is Dies else StoreUnavailable(worker.store.place, "it is away.")
        worker.store.step, worker.store.is_done, worker.store.what = step, is_done, trouble
        yield lambda: worker.store.what is None

    return strike


def _dying(when: str) -> Strike:
    @contextmanager
    def strike(life: Life, worker: Worker) -> Iterator[HasStruck]:
        worker.grant.dies = when
        worker.grant.underway = lambda: life.pds.trouble(f"/{TOKEN}", "dropped")
        yield lambda: not worker.grant.dies

    return strike


def _of_server(path: str, kind: Any, times: int = 1) -> Strike:
    @contextmanager
    def strike(life: Life, worker: Worker) -> Iterator[HasStruck]:
        with ExitStack() as stack:
            struck = stack.enter_context(life.pds.trouble(path, kind, life.chance.randint(1, times)))
            yield lambda: struck() > 0

    return strike


@contextmanager
def _host_is_down(life: Life, worker: Worker) -> Iterator[HasStruck]:
    life.pds.forget_client(life.client_url)
    life.host.stop()
    with life.until_then:
        life.until_then.callback(life.host.start)
        yield lambda: True


def _revoked(*names: str) -> Strike:
    @contextmanager
    def strike(life: Life, worker: Worker) -> Iterator[HasStruck]:
        document = life.stored
        life.revoke(*(getattr(document, name) for name in names))
        yield lambda: True

    return strike


@contextmanager
def _nothing_more(life: Life, worker: Worker) -> Iterator[HasStruck]:
    yield lambda: True


FAULTS: dict[str, tuple[bool, Strike]] = {
    **{
        f"{'dies' if what is Dies else 'store fails'} {when} it is {step}": (
            (step, is_done) == ("saved", False),
            _in_store(step, what, is_done=is_done),
        )
        for what in (Dies, StoreUnavailable)
        for step in ("read", "noted", "saved")
        for when, is_done in (("before", False), ("after", True))
    },
    "dies before the refresh is sent": (False, _dying("before")),
    "dies with the refresh underway": (True, _dying("underway")),
    "answer to the refresh lost": (True, _of_server(f"/{TOKEN}", "dropped")),
    "refresh lost on its way": (False, _of_server(f"/{TOKEN}", "lost", 2)),
    "token endpoint fails": (False, _of_server(f"/{TOKEN}", "failing", 2)),
    "answer to the write lost": (False, _of_server("/xrpc/com.atproto.repo.applyWrites", "dropped")),
    "PDS is gone": (False, _of_server("/", "lost", 6)),
    "client's host is down": (False, _host_is_down),
    "wrong clock": (False, _nothing_more),
    "two workers at once": (False, _nothing_more),
    "session revoked": (True, _revoked("session")),
    "spare session revoked": (False, _revoked("spare")),
    "both revoked": (True, _revoked("session", "spare")),
}
"""Each fault by its name: whether it may cost the session in use, and what brings it about."""
