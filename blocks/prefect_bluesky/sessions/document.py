"""The stored document of one account: the session, the logins of the day and the refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from prefect_bluesky.errors import AuthError, InvalidInput, StoreDamaged
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.protocol import oauth
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.granted_session import GrantedSession
from prefect_bluesky.sessions.password_session import PasswordSession
from prefect_bluesky.sessions.session import Session
from prefect_bluesky.validation import normal_service_url

_MAX_OTHERS = 4
_FORMAT = "prefect-bluesky/session"
_VERSION = 3
"""2 is written if there is no session by a grant, so that an older release can read what it understands."""
_REMEDY = "Nothing was changed. Choose another store, or delete the stored text. The next run signs in again."


@dataclass(frozen=True)
class Refusal:
    """A refusal of the account. Retrying is pointless until the app password changes or the cool-down ends.

    Args:
        credential: the fingerprint of the refused app password.
        last_seen: the time of the last refusal; the cool-down starts here.
        spent_login: True if another attempt costs a login.
        is_told: True if the beginning was reported to Prefect.
        ended_at: the time when the account could sign in again; kept until this too was reported.
        alerts: True if Prefect gets reports. A script's refused login concerns only the person who runs the script.
        symptom: the problem that the server's answer alone names. The evidence may name a better cause, or cannot be
            had; the refusal and its incident stay the same.
        found: what the evidence showed.
    """

    problem: AuthProblem
    credential: Fingerprint
    first_seen: datetime
    last_seen: datetime
    http_status: int | None
    xrpc_error: str | None
    spent_login: bool = True
    is_told: bool = False
    ended_at: datetime | None = None
    alerts: bool = True
    symptom: AuthProblem | None = None
    found: str = ""

    @property
    def is_open(self) -> bool:
        """True if the account is still refused."""
        return self.ended_at is None

    @property
    def is_news(self) -> bool:
        """True if the beginning or the end has yet to be reported to Prefect."""
        return self.alerts and not (self.is_told and self.is_open)


@dataclass(frozen=True)
class Kept:
    """The session of another credential of the account, and that credential's fingerprint."""

    session: Session | None
    made_with: Fingerprint


@dataclass(frozen=True)
class SessionDocument:
    """The stored state of one account. Neither `repr` nor `str` shows a token.

    Args:
        did: the DID of the first login; never changes.
        made_with: the fingerprint of the app password that made the last session. Only blocks with this app
            password use the session. The fingerprint stays after the session has ended: it distinguishes a revoked app
            password from a mistyped one.
        logins: the times of recent login attempts, with any app password.
        refusal: why the account cannot be used, or could not until a moment ago.
        spare: a session by a second grant, for the end of the first one.
        begun_at: when a refresh of the session began whose end is not known.
        visit_told: why people were told that the account's owner has to grant access again.
        other_refusals: refusals of other app passwords: two blocks of one account may have different app passwords.
        others: the sessions of those. If each replaced the session of the other, they would use up the day's logins.
    """

    did: str | None = None
    session: Session | None = None
    made_with: Fingerprint | None = None
    logins: tuple[datetime, ...] = ()
    refusal: Refusal | None = None
    other_refusals: tuple[Refusal, ...] = ()
    spare: Session | None = None
    begun_at: datetime | None = None
    visit_told: tuple[str, ...] = ()
    others: tuple[Kept, ...] = ()

    def as_seen_by(self, is_ours: Callable[[Fingerprint], bool]) -> SessionDocument:
        """Return the document with the session of our credential in the first place, if there is one."""
        if self.made_with is None or is_ours(self.made_with):
            return self
        for ours in self.others:
            if is_ours(ours.made_with):
                return self._with(ours.session, ours.made_with)
        return self

    def _with(self, session: Session | None, made_with: Fingerprint) -> SessionDocument:
        """Return the document with a session in the first place, and the one that was there among the others."""
        before = (Kept(self.session, self.made_with),) if self.made_with else ()
        others = tuple(each for each in (*before, *self.others) if each.made_with != made_with)
        return replace(self, session=session, made_with=made_with, others=others[:_MAX_OTHERS])

    def was_made_with(self, credential: str) -> bool:
        """Return whether an app password, together with its service, has signed in before."""
        return self.made_with is not None and self.made_with.matches(credential)

    @property
    def open_refusals(self) -> list[Refusal]:
        """All open refusals, newest first, for any app password."""
        return [each for each in (self.refusal, *self.other_refusals) if each and each.is_open]

    def with_session(self, session: Session, made_with: Fingerprint) -> SessionDocument:
        """Return the document with another session."""
        return replace(self._with(session, made_with), did=session.did, begun_at=None)

    def with_spare_in_use(self) -> SessionDocument:
        """Return the document with the spare session in the place of the one that has ended."""
        return replace(self, session=self.spare, spare=None, begun_at=None)

    def with_refusal(self, refusal: Refusal | None) -> SessionDocument:
        """Return the document with another refusal: an open one joins the others, an ended one replaces all."""
        if refusal is None or not refusal.is_open:
            return replace(self, refusal=refusal, other_refusals=())
        others = [each for each in self.open_refusals if each.credential != refusal.credential]
        return replace(self, refusal=refusal, other_refusals=tuple(others[:_MAX_OTHERS]))

    def with_login(self, now: datetime) -> SessionDocument:
        """Return the document with one more login attempt."""
        return replace(self, logins=(*self.logins_of_the_day(now), now))

    def without_last_login(self) -> SessionDocument:
        """Return the document without the latest login attempt, of which the server knows nothing."""
        return replace(self, logins=self.logins[:-1])

    def logins_of_the_day(self, now: datetime) -> tuple[datetime, ...]:
        """Return the logins of the last 24 hours, including future ones, written by a clock that was ahead."""
        return tuple(login for login in self.logins if login > now - timedelta(days=1))

    @property
    def _has_grant(self) -> bool:
        sessions = (self.session, self.spare, *(each.session for each in self.others))
        return any(isinstance(session, GrantedSession) for session in sessions)

    def to_json(self) -> str:
        """Return the JSON to store. The JSON contains the tokens."""
        return _Stored(
            format=_FORMAT,
            version=_VERSION if self._has_grant else _VERSION - 1,
            did=self.did,
            made_with=self.made_with and self.made_with.to_text(),
            session=_StoredSession.of(self.session),
            granted=_StoredGrantedSession.of(self.session),
            spare=_StoredGrantedSession.of(self.spare),
            begun_at=self.begun_at,
            visit_told=list(self.visit_told),
            others=[_StoredKept.of(each) for each in self.others],
            logins=list(self.logins),
            refusal=self.refusal and _stored(self.refusal),
            other_refusals=[_stored(each) for each in self.other_refusals],
        ).model_dump_json()

    @classmethod
    def from_json(cls, text: str, *, place: str) -> SessionDocument:
        """Parse the output of `to_json`, of this release or an older one.

        Args:
            text: the stored JSON.
            place: the store's name, for the error message.

        Raises:
            StoreDamaged: the text is something else, or damaged. The message names the field and shows no value.
        """
        try:
            content = json.loads(text)
        except ValueError:
            raise StoreDamaged(place, f"the stored text is not JSON. {_REMEDY}") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise StoreDamaged(place, f"format: the text is not a session written by prefect-bluesky. {_REMEDY}")
        version = content.get("version")
        if not isinstance(version, int):
            raise StoreDamaged(place, f"version: the value is not a whole number. {_REMEDY}")
        if version > _VERSION:
            reason = f"version: the value is {version!r}; this release reads up to {_VERSION}."
            raise StoreDamaged(place, f"{reason} Upgrade prefect-bluesky on this worker.")
        try:
            return _Stored.model_validate(_of_version_1(content) if version == 1 else content).opened()
        except ValidationError as damage:
            first = damage.errors(include_input=False, include_url=False, include_context=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise StoreDamaged(place, f"{field}: {first['msg']}. {_REMEDY}") from None
        except AuthError as damage:
            what = f"session.access_token or session.refresh_token: {damage.problem.explanation} {_REMEDY}"
            raise StoreDamaged(place, what, problem=damage.problem) from None


def _of_version_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """Convert version 1, which contained only the session."""
    session = {name: content.get(name) for name in _StoredSession.model_fields}
    known = {"did": content.get("did"), "made_with": content.get("fingerprint")}
    return {"format": _FORMAT, "version": _VERSION, **known, "session": session}


def _is_fingerprint(text: str) -> str:
    Fingerprint.from_text(text)
    return text


def _is_server(url: str) -> str:
    try:
        return normal_service_url(url)
    except InvalidInput:
        raise ValueError("the value is not a server to which a token may be sent") from None


def _is_key(text: str) -> str:
    try:
        oauth.SigningKey.from_text(text)
    except InvalidInput:
        raise ValueError("the value is no key") from None
    return text


def _is_of_our_time(moment: datetime) -> datetime:
    if not 2020 < moment.year < 2200:
        raise ValueError("the value is not a time at which a session was received")
    return moment


_PROBLEMS = {problem.value: problem for problem in AuthProblem}
_Text = Annotated[str, Field(min_length=1)]
_FingerprintText = Annotated[str, AfterValidator(_is_fingerprint)]


class _Shape(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)


class _StoredSession(_Shape):
    did: _Text
    handle: _Text
    pds_url: Annotated[str, AfterValidator(_is_server)]
    access_token: _Text
    refresh_token: _Text
    received_at: Annotated[AwareDatetime, AfterValidator(_is_of_our_time)]

    @classmethod
    def of(cls, session: Session | None) -> Self | None:
        return cls.model_validate(session, from_attributes=True) if isinstance(session, PasswordSession) else None

    def opened(self) -> Session:
        return PasswordSession(**self.model_dump())


class _StoredGrantedSession(_StoredSession):
    issuer: Annotated[str, AfterValidator(_is_server)]
    client_id: _Text
    client_key: str
    key: Annotated[str, AfterValidator(_is_key)]
    granted_scope: str
    valid_for: timedelta
    granted_at: AwareDatetime

    @classmethod
    def of(cls, session: Session | None) -> Self | None:
        if not isinstance(session, GrantedSession):
            return None
        return cls.model_validate({**vars(session), "key": session.key.to_text()})

    def opened(self) -> Session:
        return GrantedSession(**{**self.model_dump(), "key": oauth.SigningKey.from_text(self.key)})


class _StoredKept(_Shape):
    session: _StoredSession | None = None
    granted: _StoredGrantedSession | None = None
    made_with: _FingerprintText

    @classmethod
    def of(cls, kept: Kept) -> Self:
        return cls(
            session=_StoredSession.of(kept.session),
            granted=_StoredGrantedSession.of(kept.session),
            made_with=kept.made_with.to_text(),
        )

    def opened(self) -> Kept:
        stored = self.granted or self.session
        return Kept(stored.opened() if stored else None, Fingerprint.from_text(self.made_with))


class _StoredRefusal(_Shape):
    problem: str
    fingerprint: _FingerprintText
    first_seen: AwareDatetime
    last_seen: AwareDatetime
    http_status: int | None
    xrpc_error: str | None
    # Older releases did not write the fields below.
    spent_login: bool = True
    is_told: bool = False
    ended_at: AwareDatetime | None = None
    alerts: bool = True
    symptom: str | None = None
    found: str = ""

    def opened(self) -> Refusal | None:
        """Return the refusal, or None if only a newer release knows its cause. In that case a login shows the cause."""
        if self.problem not in _PROBLEMS:
            return None
        rest = self.model_dump(exclude={"problem", "fingerprint", "symptom"})
        symptom = _PROBLEMS.get(self.symptom) if self.symptom else None
        return Refusal(_PROBLEMS[self.problem], Fingerprint.from_text(self.fingerprint), symptom=symptom, **rest)


def _stored(refusal: Refusal) -> _StoredRefusal:
    renamed = {
        "problem": refusal.problem.value,
        "symptom": refusal.symptom and refusal.symptom.value,
        "fingerprint": refusal.credential.to_text(),
    }
    return _StoredRefusal.model_validate({**vars(refusal), **renamed})


class _Stored(_Shape):
    format: Literal["prefect-bluesky/session"]
    version: Literal[2, 3]
    did: str | None = None
    made_with: _FingerprintText | None = None
    session: _StoredSession | None = None
    granted: _StoredGrantedSession | None = None
    spare: _StoredGrantedSession | None = None
    begun_at: AwareDatetime | None = None
    visit_told: list[str] = []
    others: list[_StoredKept] = []
    logins: list[AwareDatetime] = []
    refusal: _StoredRefusal | None = None
    other_refusals: list[_StoredRefusal] = []

    def opened(self) -> SessionDocument:
        return SessionDocument(
            did=self.did,
            session=stored.opened() if (stored := self.granted or self.session) else None,
            spare=self.spare.opened() if self.spare else None,
            others=tuple(each.opened() for each in self.others),
            begun_at=self.begun_at,
            visit_told=tuple(self.visit_told),
            made_with=None if self.made_with is None else Fingerprint.from_text(self.made_with),
            logins=tuple(self.logins),
            refusal=None if self.refusal is None else self.refusal.opened(),
            other_refusals=tuple(opened for each in self.other_refusals if (opened := each.opened())),
        )
