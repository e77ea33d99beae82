"""What is written into a store of one account: the session, and what is known about signing in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from prefect_bluesky.errors import AuthError, InvalidInput, StoreDamaged
from prefect_bluesky.problems import AuthProblem
from prefect_bluesky.sessions.fingerprint import Fingerprint
from prefect_bluesky.sessions.session import Session
from prefect_bluesky.validation import normal_service_url

_MAX_OTHERS = 4
_FORMAT = "prefect-bluesky/session"
_VERSION = 2
_REMEDY = "Nothing was changed. Point the block somewhere else, or delete it: the next run signs in anew."


@dataclass(frozen=True)
class Refusal:
    """That the account cannot sign in, or may not be used: until something changes, asking again would tell nothing.

    Args:
        problem: the cause.
        credential: the fingerprint of what was refused.
        first_seen: when it was refused first.
        last_seen: when it was refused last; the cool-down counts from here.
        http_status: the server's status.
        xrpc_error: the server's error name.
        spent_login: whether trying again takes a login, which is dear.
        is_told: whether Prefect has been told that it began.
        ended_at: when the account could sign in again; kept until Prefect has been told of that too.
        alerts: whether Prefect is told of it. The refused login of a script concerns the person in front of it.
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

    @property
    def is_open(self) -> bool:
        """Whether it still stands."""
        return self.ended_at is None

    @property
    def is_news(self) -> bool:
        """Whether Prefect has still to be told of its beginning or its end."""
        return self.alerts and not (self.is_told and self.is_open)


@dataclass(frozen=True)
class SessionDocument:
    """What is known about one account. Neither `repr` nor `str` shows a token.

    Args:
        did: the DID of the first login; it stays.
        session: the last session, if there is one.
        password_fingerprint: the fingerprint of the credential that made the last session, which serves only that
            credential. It stays when the session goes: it tells a revoked app password from a mistyped one.
        logins: when logins were attempted lately, with whatever app password.
        refusal: why the account cannot be used, if it cannot, or could not until a moment ago.
        other_refusals: those of other app passwords: two blocks of one account may have different ones.
    """

    did: str | None = None
    session: Session | None = None
    password_fingerprint: Fingerprint | None = None
    logins: tuple[datetime, ...] = ()
    refusal: Refusal | None = None
    other_refusals: tuple[Refusal, ...] = ()

    @property
    def open_refusals(self) -> list[Refusal]:
        """Those that stand, of whichever app password, the latest first."""
        return [each for each in (self.refusal, *self.other_refusals) if each and each.is_open]

    def with_session(self, session: Session, password_fingerprint: Fingerprint) -> SessionDocument:
        """The document with another session."""
        return replace(self, did=session.did, session=session, password_fingerprint=password_fingerprint)

    def with_refusal(self, refusal: Refusal | None) -> SessionDocument:
        """The document with another refusal, beside those of other app passwords; with one that has ended, alone."""
        if refusal is None or not refusal.is_open:
            return replace(self, refusal=refusal, other_refusals=())
        others = [each for each in self.open_refusals if each.credential != refusal.credential]
        return replace(self, refusal=refusal, other_refusals=tuple(others[:_MAX_OTHERS]))

    def with_login(self, now: datetime) -> SessionDocument:
        """The document with one more login attempted."""
        return replace(self, logins=(*self.logins_of_the_day(now), now))

    def logins_of_the_day(self, now: datetime) -> tuple[datetime, ...]:
        """The logins of the 24 hours before; those of a clock that ran ahead count too."""
        return tuple(login for login in self.logins if login > now - timedelta(days=1))

    def to_json(self) -> str:
        """What is written into a store. It holds the tokens."""
        stored = _Stored(
            format=_FORMAT,
            version=_VERSION,
            did=self.did,
            made_with=self.password_fingerprint and self.password_fingerprint.to_text(),
            session=self.session
            and _StoredSession(
                did=self.session.did,
                handle=self.session.handle,
                pds_url=self.session.pds_url,
                access_token=self.session.access_token,
                refresh_token=self.session.refresh_token,
                received_at=self.session.received_at,
            ),
            logins=list(self.logins),
            refusal=self.refusal and _stored(self.refusal),
            other_refusals=[_stored(each) for each in self.other_refusals],
        )
        return stored.model_dump_json()

    @classmethod
    def from_json(cls, text: str, *, place: str) -> SessionDocument:
        """What `to_json` wrote, in this release or an older one.

        Args:
            text: the JSON.
            place: where it was read, for the error.

        Raises:
            StoreDamaged: it is something else, or damaged; the message names the field and no value.
        """
        try:
            content = json.loads(text)
        except ValueError:
            raise StoreDamaged(place, f"it is not JSON. {_REMEDY}") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise StoreDamaged(place, f"format: it is not a session written by prefect-bluesky. {_REMEDY}")
        version = content.get("version")
        if not isinstance(version, int):
            raise StoreDamaged(place, f"version: it is no number. {_REMEDY}")
        if version > _VERSION:
            reason = f"version: it is {version!r}, this release reads up to {_VERSION}."
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
    """Version 1 knew nothing but the session."""
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
        raise ValueError("not a server that a token may be sent to") from None


def _is_of_our_time(moment: datetime) -> datetime:
    if not 2020 < moment.year < 2200:
        raise ValueError("not a time at which a session was received")
    return moment


_PROBLEMS = {problem.value: problem for problem in AuthProblem}
_Text = Annotated[str, Field(min_length=1)]
_FingerprintText = Annotated[str, AfterValidator(_is_fingerprint)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=False, hide_input_in_errors=True)


class _StoredSession(_Shape):
    did: _Text
    handle: _Text
    pds_url: Annotated[str, AfterValidator(_is_server)]
    access_token: _Text
    refresh_token: _Text
    received_at: Annotated[AwareDatetime, AfterValidator(_is_of_our_time)]


class _StoredRefusal(_Shape):
    problem: str
    fingerprint: _FingerprintText
    first_seen: AwareDatetime
    last_seen: AwareDatetime
    http_status: int | None
    xrpc_error: str | None
    # What an older release did not write.
    spent_login: bool = True
    is_told: bool = False
    ended_at: AwareDatetime | None = None
    alerts: bool = True

    def opened(self) -> Refusal | None:
        """The refusal; none if its cause is one that only a newer release knows: then a login will tell."""
        if self.problem not in _PROBLEMS:
            return None
        return Refusal(
            problem=_PROBLEMS[self.problem],
            credential=Fingerprint.from_text(self.fingerprint),
            first_seen=self.first_seen,
            last_seen=self.last_seen,
            http_status=self.http_status,
            xrpc_error=self.xrpc_error,
            spent_login=self.spent_login,
            is_told=self.is_told,
            ended_at=self.ended_at,
            alerts=self.alerts,
        )


def _stored(refusal: Refusal) -> _StoredRefusal:
    return _StoredRefusal(
        problem=refusal.problem.value,
        fingerprint=refusal.credential.to_text(),
        first_seen=refusal.first_seen,
        last_seen=refusal.last_seen,
        http_status=refusal.http_status,
        xrpc_error=refusal.xrpc_error,
        spent_login=refusal.spent_login,
        is_told=refusal.is_told,
        ended_at=refusal.ended_at,
        alerts=refusal.alerts,
    )


class _Stored(_Shape):
    format: Literal["prefect-bluesky/session"]
    version: Literal[2]
    did: str | None = None
    made_with: _FingerprintText | None = None
    session: _StoredSession | None = None
    logins: list[AwareDatetime] = []
    refusal: _StoredRefusal | None = None
    other_refusals: list[_StoredRefusal] = []

    def opened(self) -> SessionDocument:
        session, refusal = self.session, self.refusal
        return SessionDocument(
            did=self.did,
            session=None if session is None else Session(**session.model_dump()),
            password_fingerprint=None if self.made_with is None else Fingerprint.from_text(self.made_with),
            logins=tuple(self.logins),
            refusal=None if refusal is None else refusal.opened(),
            other_refusals=tuple(opened for each in self.other_refusals if (opened := each.opened())),
        )
