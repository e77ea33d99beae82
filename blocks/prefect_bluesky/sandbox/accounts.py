"""The accounts of the sandbox, with their passwords and sessions."""

import base64
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from .clock import Clock
from .identifiers import Tids, new_app_password, new_did
from .refusal import Refusal, bad_request, server_error, unauthorized
from .repo import Repo
from .tokens import Scope, Tokens

MAX_PASSWORD = 512


@dataclass(frozen=True)
class Account:
    """An account and its passwords. `repr()` and `str()` show no password.

    Attributes:
        did: the account's DID.
        handle: the account's handle, in lower case.
        password: the main password.
        app_password: the app password that the account was created with.
    """

    did: str
    handle: str
    password: str = field(repr=False)
    app_password: str = field(repr=False)


@dataclass(frozen=True)
class Lifetimes:
    """The lifetimes of a session's tokens, and the time for which a used refresh token still works."""

    access: timedelta
    refresh: timedelta
    grace: timedelta


@dataclass(frozen=True)
class AppPassword:
    """An app password and its name."""

    name: str
    password: str = field(repr=False)
    privileged: bool
    created_at: str


@dataclass
class Holder:
    """The server's data of an account."""

    did: str
    handle: str
    password: str = field(repr=False)
    repo: Repo = field(repr=False)
    app_passwords: dict[str, AppPassword] = field(default_factory=dict, repr=False)
    deactivated: bool = False
    taken_down: bool = False
    moved_to: str | None = None
    reactions: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)

    @property
    def email(self) -> str:
        """An invented address, for answers that contain one."""
        return f"{self.handle.replace('.', '-')}@example.com"

    @property
    def status(self) -> dict[str, Any]:
        """`active`, and the reason if the account is not active."""
        if self.taken_down:
            return {"active": False, "status": "takendown"}
        if self.deactivated:
            return {"active": False, "status": "deactivated"}
        return {"active": True}


@dataclass
class _RefreshToken:
    did: str
    app_password: str | None = field(repr=False)
    expires_at: float
    next_id: str | None = None


class Accounts:
    """All accounts and sessions. Not thread-safe: the caller holds the sandbox's lock."""

    def __init__(self, clock: Clock, tokens: Tokens, lifetimes: Lifetimes) -> None:
        self._clock = clock
        self._tokens = tokens
        self._lifetimes = lifetimes
        self._tids = Tids()
        self._holders: dict[str, Holder] = {}
        self._refresh_tokens: dict[str, _RefreshToken] = {}

    def __iter__(self) -> Iterator[Holder]:
        return iter(self._holders.values())

    def find(self, identifier: str) -> Holder | None:
        """Return the account of a DID or handle. Handles must be in lower case, as in the repo field of a write."""
        return self._holders.get(identifier) or next((h for h in self if h.handle == identifier), None)

    def create(self, handle: str) -> Account:
        """Register an account with one app password."""
        did = new_did()
        holder = Holder(did, handle, secrets.token_urlsafe(18), Repo(did, self._clock, self._tids))
        self._holders[did] = holder
        app_password = self.add_app_password(holder, "sandbox", privileged=False).password
        return Account(did, handle, holder.password, app_password)

    def delete(self, holder: Holder) -> None:
        """Remove an account, its records and its sessions."""
        self.end_sessions(holder)
        del self._holders[holder.did]

    def change_password(self, holder: Holder, new: str) -> None:
        """Set the main password. All sessions end at their next refresh, including sessions of app passwords."""
        holder.password = new
        self.end_sessions(holder)

    def add_app_password(self, holder: Holder, name: str, *, privileged: bool) -> AppPassword:
        """Make an app password.

        Raises:
            Refusal: 500 if the name is taken, as a PDS answers.
        """
        if name in holder.app_passwords:
            raise server_error()
        made = AppPassword(name, new_app_password(), privileged, self._clock.timestamp())
        holder.app_passwords[name] = made
        return made

    def revoke_app_password(self, holder: Holder, name: str) -> None:
        """Remove the app password of this name, if there is one, and the refresh tokens made with it."""
        holder.app_passwords.pop(name, None)
        self._forget(lambda token: token.did == holder.did and token.app_password == name)

    def end_sessions(self, holder: Holder) -> None:
        """Revoke all refresh tokens of an account. Access tokens cannot be revoked; they expire."""
        self._forget(lambda token: token.did == holder.did)

    def log_in(self, identifier: str, password: str) -> tuple[Holder, AppPassword | None]:
        """Return the account, and the app password unless the main password was given.

        Raises:
            Refusal: 401, with the same message for a wrong identifier and a wrong password.
        """
        if len(password) > MAX_PASSWORD:
            raise unauthorized("Password too long. Consider resetting your password.")
        wanted = identifier.lower()
        holder = next((h for h in self if wanted == h.email), None) if "@" in wanted else self.find(wanted)
        if holder is not None and secrets.compare_digest(password.encode(), holder.password.encode()):
            return holder, None
        app_passwords = [] if holder is None or holder.taken_down else list(holder.app_passwords.values())
        for app_password in app_passwords:
            if holder is not None and app_password.password == password:
                return holder, app_password
        raise unauthorized("Invalid identifier or password")

    def open_session(self, holder: Holder, app_password: AppPassword | None) -> dict[str, str]:
        """Return the two tokens of a new session."""
        jti = _new_token_id()
        tokens = self._token_pair(holder, app_password, jti)
        if not holder.taken_down:
            self._remember(jti, holder.did, app_password)
        return tokens

    def rotate(self, jti: str) -> dict[str, str]:
        """Trade a refresh token for two new tokens.

        Raises:
            Refusal: the refresh token was revoked, is unknown, or its grace period has passed.
        """
        now = self._clock.now()
        used = self._refresh_tokens.get(jti)
        holder = self._holders.get(used.did) if used else None
        if used is None or holder is None or used.expires_at <= now:
            raise bad_request("Token has been revoked", "ExpiredToken")
        used.expires_at = min(used.expires_at, now + self._lifetimes.grace.total_seconds())
        used.next_id = used.next_id or _new_token_id()
        app_password = holder.app_passwords.get(used.app_password or "")
        self._remember(used.next_id, holder.did, app_password)
        return self._token_pair(holder, app_password, used.next_id)

    def revoke(self, jti: str) -> None:
        """Revoke a refresh token, known or not."""
        self._refresh_tokens.pop(jti, None)

    def mint(
        self, did: str, kind: Literal["access", "refresh"], expires_in: timedelta, claims: dict[str, object]
    ) -> str:
        """Return a signed token with any claims; a claim of None is left out. See `Sandbox.mint`."""
        lifetime = self._lifetimes.access if kind == "access" else self._lifetimes.refresh
        now = self._clock.now()
        expires = now + expires_in.total_seconds()
        issued = min(now, expires - lifetime.total_seconds())
        made: dict[str, object] = {"scope": Scope.APP, "aud": self._tokens.service_did, "sub": did}
        if kind == "refresh":
            made |= {"scope": Scope.REFRESH, "jti": _new_token_id()}
            self._refresh_tokens[str(made["jti"])] = _RefreshToken(did, None, expires)
        made |= {"iat": int(issued), "exp": int(expires), **claims}
        kept = {name: value for name, value in made.items() if value is not None}
        return self._tokens.sign("at+jwt" if kind == "access" else "refresh+jwt", kept)

    def _token_pair(self, holder: Holder, app_password: AppPassword | None, jti: str) -> dict[str, str]:
        now = int(self._clock.now())
        common = {"aud": self._tokens.service_did, "sub": holder.did}
        access = {
            "scope": _scope(holder, app_password),
            **common,
            "iat": now,
            "exp": now + int(self._lifetimes.access.total_seconds()),
        }
        refresh = {
            "scope": Scope.REFRESH,
            **common,
            "jti": jti,
            "iat": now,
            "exp": now + int(self._lifetimes.refresh.total_seconds()),
        }
        return {
            "accessJwt": self._tokens.sign("at+jwt", access),
            "refreshJwt": self._tokens.sign("refresh+jwt", refresh),
        }

    def _remember(self, jti: str, did: str, app_password: AppPassword | None) -> None:
        expires_at = int(self._clock.now()) + self._lifetimes.refresh.total_seconds()
        name = app_password.name if app_password else None
        self._refresh_tokens.setdefault(jti, _RefreshToken(did, name, expires_at))

    def _forget(self, which: Callable[[_RefreshToken], bool]) -> None:
        self._refresh_tokens = {jti: token for jti, token in self._refresh_tokens.items() if not which(token)}


def refuse_inactive(holder: Holder, *, deactivated: bool = True) -> None:
    """Refuse an account that was taken down or, unless `deactivated` is False, deactivated.

    Raises:
        Refusal: 401.
    """
    if holder.taken_down:
        raise unauthorized("Account has been taken down", "AccountTakedown")
    if deactivated and holder.deactivated:
        raise unauthorized("Account is deactivated", "AccountDeactivated")


def visible(accounts: Accounts, identifier: str) -> Holder | None:
    """Return the account of a DID or handle if anybody may see it: it is neither deactivated nor taken down."""
    holder = accounts.find(identifier)
    return holder if holder and not holder.taken_down and not holder.deactivated else None


def account_not_found() -> Refusal:
    """Return the answer to a call for an unknown account."""
    return Refusal(403, "AccountNotFound", "Account not found")


def _scope(holder: Holder, app_password: AppPassword | None) -> Scope:
    if holder.taken_down:
        return Scope.TAKEN_DOWN
    if app_password is None:
        return Scope.MAIN
    return Scope.APP_PRIVILEGED if app_password.privileged else Scope.APP


def _new_token_id() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()
