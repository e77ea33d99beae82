"""What stops a grant, caused on a real PDS: how it is named, remembered and diagnosed, and what goes on after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from prefect_bluesky.errors import AuthError, ServiceUnavailable
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.protocol import oauth
from prefect_bluesky.sessions import LoginPolicy, SessionDocument
from prefect_bluesky.sessions.diagnosis import Diagnosis, Examination
from prefect_bluesky.sessions.granted_session import GrantedSession
from tests.contract.causes import NOWHERE
from tests.contract.granted import Granted, hosted, publish
from tests.contract.hosts import host_of
from tests.contract.test_granted_sessions import SCOPE, Account, Store
from tests.pds.server import RealPds
from tests.support import forget_processes_memory

pytestmark = pytest.mark.pds

P = AuthProblem
HOUR = timedelta(hours=1)


@dataclass
class Patient:
    """An account of a grant whose access token has expired. `until_then` ends what was caused."""

    account: Account
    pds: RealPds
    until_then: ExitStack

    def put(self, *sessions: GrantedSession | None) -> None:
        """Store other sessions."""
        document = replace(self.account.stored, session=sessions[0], spare=sessions[1])
        self.account.store.save(document, self.account.store.load())

    def diagnose(self, drift: timedelta = timedelta()) -> Diagnosis:
        """Return the diagnosis by a worker that has just started, and whose clock is wrong."""
        account = self.account
        examination = Examination(
            account=account.account.handle,
            service_url=account.pds.url,
            store=account.store,
            authenticator=account.new_worker(),
            directory_url=account.pds.plc_url,
            max_logins_per_day=10,
            now=lambda: datetime.now(UTC) + drift,
        )
        return examination.run(log_in=False)


@pytest.fixture
def patient(real_pds: RealPds) -> Iterator[Patient]:
    with host_of(real_pds) as host, ExitStack() as until_then:
        account = Account(real_pds, host)
        account.now += HOUR
        yield Patient(account, real_pds, until_then)


def nothing_granted(patient: Patient) -> None:
    patient.account.store = Store(uuid4().hex)
    patient.account.store.save(SessionDocument(), None)


def too_old(patient: Patient) -> None:
    patient.pds.age_grants(patient.account.account, days=740)


def unused_for_too_long(patient: Patient) -> None:
    patient.pds.age_grants(patient.account.account, days=100, unused=True)


def revoked(patient: Patient) -> None:
    for granted in patient.account.granted:
        granted.revoke()


def taken_down_for_a_while(patient: Patient) -> None:
    patient.pds.take_down(patient.account.account)
    patient.pds.reinstate(patient.account.account)


def copied(patient: Patient) -> None:
    """Somebody has a copy of what is stored, and uses it first."""
    for granted in patient.account.granted:
        granted.refresh()


def another_key(patient: Patient) -> None:
    hosted(patient.account.host, SCOPE)
    patient.account.host.reread()


def host_is_down(patient: Patient) -> None:
    patient.account.host.stop()
    patient.account.host.reread()


def nonces_are_lost(patient: Patient) -> None:
    patient.until_then.enter_context(patient.pds.losing("DPoP-Nonce"))
    forget_processes_memory()


def moved(patient: Patient) -> None:
    patient.pds.move(patient.account.account, NOWHERE)


def another_issuer(patient: Patient) -> None:
    document = patient.account.stored
    patient.put(
        *(
            replace(each, issuer="https://elsewhere.test")
            for each in (document.session, document.spare)
            if isinstance(each, GrantedSession)
        )
    )


OF_GRANTS: list[tuple[AuthProblem, Callable[[Patient], None]]] = [
    (P.GRANT_MISSING, nothing_granted),
    (P.GRANT_EXPIRED, too_old),
    (P.GRANT_EXPIRED, unused_for_too_long),
    (P.GRANT_REVOKED, revoked),
    (P.GRANT_REVOKED, taken_down_for_a_while),
    (P.REFRESH_REPLAYED, copied),
    (P.CLIENT_REFUSED, another_key),
    (P.CLIENT_UNREADABLE, host_is_down),
    (P.PROOF_REFUSED, nonces_are_lost),
    (P.ACCOUNT_MOVED, moved),
    (P.ACCOUNT_MOVED, another_issuer),
]
"""The problems of a grant, and their causes."""

CAUSES = pytest.mark.parametrize(("problem", "cause"), OF_GRANTS, ids=[cause.__name__ for _, cause in OF_GRANTS])


@CAUSES
def test_a_problem_of_a_grant_is_named_and_remembered(
    patient: Patient, problem: AuthProblem, cause: Callable[[Patient], None]
) -> None:
    cause(patient)
    account = patient.account
    with pytest.raises(AuthError) as refused:
        account.new_worker().ensure()
    assert refused.value.problem is problem, refused.value
    before = account.token_requests()
    with pytest.raises(AuthError) as again:
        account.new_worker().ensure()
    assert again.value.problem is problem
    assert account.token_requests() == before
    assert patient.diagnose().problem is problem, patient.diagnose().to_markdown()


@CAUSES
def test_hours_later_it_is_still_the_same_problem(
    patient: Patient, problem: AuthProblem, cause: Callable[[Patient], None]
) -> None:
    cause(patient)
    account, seen = patient.account, []
    for _ in range(2):
        with pytest.raises(AuthError) as refused:
            account.new_worker().ensure()
        assert account.stored.refusal
        seen.append((refused.value.problem, account.stored.refusal.first_seen))
        account.now += LoginPolicy().refusal_cool_down
    assert seen == [seen[0]] * 2
    assert seen[0][0] is problem


@pytest.mark.parametrize("cause", [another_key, host_is_down, nonces_are_lost])
def test_a_session_waits_until_its_server_accepts_it_again(patient: Patient, cause: Callable[[Patient], None]) -> None:
    cause(patient)
    account = patient.account
    with pytest.raises(AuthError):
        account.worker.ensure()
    patient.until_then.close()
    if cause is host_is_down:
        account.host.start()
    publish(account.client, account.host, SCOPE)
    account.host.reread()
    account.now += LoginPolicy().probe_interval
    assert account.worker.ensure().action == "refreshed"
    assert account.stored.spare is not None


@pytest.mark.parametrize("cause", [host_is_down, nonces_are_lost])
def test_what_may_pass_stops_no_session_that_is_valid(patient: Patient, cause: Callable[[Patient], None]) -> None:
    patient.account.now -= timedelta(minutes=5)
    cause(patient)
    assert patient.account.worker.ensure().action == "reused"
    assert patient.account.stored.refusal is None


@pytest.mark.parametrize(("problem", "cause"), [(P.GRANT_REVOKED, revoked), (P.REFRESH_REPLAYED, copied)])
def test_a_diagnosis_finds_out_what_no_post_has_met_yet(
    patient: Patient, problem: AuthProblem, cause: Callable[[Patient], None]
) -> None:
    patient.account.now -= HOUR
    cause(patient)
    assert patient.diagnose().problem is problem, patient.diagnose().to_markdown()


@pytest.mark.parametrize("drift", [-HOUR, HOUR])
def test_a_diagnosis_names_a_clock_that_is_wrong(patient: Patient, drift: timedelta) -> None:
    patient.account.now -= HOUR
    assert patient.diagnose(drift).problem is P.CLOCK_DRIFT


def test_a_diagnosis_names_a_right_that_was_not_granted(patient: Patient) -> None:
    account = patient.account
    account.now -= HOUR
    patient.put(Granted.to(account.client, "atproto blob:image/*", account.pds, account.account).session, None)
    diagnosis = patient.diagnose()
    assert diagnosis.problem is P.INSUFFICIENT_SCOPE
    assert "repo:app.bsky.feed.post?action=create" in diagnosis.to_markdown()


def test_a_stored_grant_names_its_end_and_its_spare_session(patient: Patient) -> None:
    patient.account.now -= HOUR
    diagnosis = patient.diagnose()
    assert diagnosis.problem is None, diagnosis.to_markdown()
    session = patient.account.stored.session
    assert session
    assert session.ends_at
    assert f"granted until {session.ends_at:%Y-%m-%d}, with a spare one" in diagnosis.checks[0].found


def test_a_session_of_a_key_that_is_not_given_is_not_tried(patient: Patient) -> None:
    # The server would end it.
    patient.account.client = replace(patient.account.client, key=oauth.SigningKey.new())
    before = patient.account.token_requests()
    with pytest.raises(AuthError) as refused:
        patient.account.new_worker().ensure()
    assert refused.value.problem is P.CLIENT_REFUSED
    assert patient.account.token_requests() == before


def test_another_visit_ends_the_sessions_that_it_replaces(patient: Patient) -> None:
    account = patient.account
    account.now -= HOUR
    before = account.granted
    for is_spare in (False, True):
        new = Granted.to(account.client, SCOPE, account.pds, account.account)
        account.worker.adopt(new.session, is_spare=is_spare)
    assert [granted.post("by the former").status_code for granted in before] == [401, 401]
    account.post("by the new one").raise_for_status()
    assert account.stored.spare is not None


class TestSigningOut:
    """An owner, or a team whose store was copied, ends the sessions at once."""

    @pytest.fixture
    def account(self, patient: Patient) -> Account:
        patient.account.now -= HOUR
        return patient.account

    def test_no_copy_of_a_session_is_good_after_it(self, account: Account) -> None:
        account.worker.sign_out()
        assert [granted.post("by a copy").status_code for granted in account.granted] == [401, 401]
        assert (account.stored.session, account.stored.spare) == (None, None)
        with pytest.raises(AuthError, match="grant_missing"):
            account.new_worker().ensure()

    def test_one_that_cannot_be_ended_does_not_keep_the_other_alive(self, account: Account) -> None:
        document = account.stored
        assert isinstance(document.spare, GrantedSession)
        lost = replace(document.spare, client_key="a key that is not given any more")
        account.store.save(replace(document, spare=lost), account.store.load())
        with pytest.raises(AuthError, match="client_refused"):
            account.new_worker().sign_out()
        assert account.granted[0].post("by a copy").status_code == 401

    def test_what_has_ended_already_is_no_error(self, account: Account) -> None:
        account.granted[0].revoke()
        account.worker.sign_out()
        assert account.granted[1].post("by a copy").status_code == 401

    def test_a_session_that_a_server_did_not_end_stays_stored(self, patient: Patient, account: Account) -> None:
        host_is_down(patient)
        with pytest.raises(ServiceUnavailable, match="the session goes on"):
            account.worker.sign_out()
        assert account.stored.session is not None
