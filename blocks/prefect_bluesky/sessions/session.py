"""A session as data. How it came to be, and how it is refreshed, is the business of a way to sign in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class Session(ABC):
    """The session of one account. Neither `repr` nor `str` shows a token.

    Args:
        did: the account's DID.
        handle: the account's handle at the last login or refresh.
        pds_url: the PDS of the account's repository, without a trailing slash.
        access_token: what calls are signed with.
        refresh_token: what is traded for a new session.
        received_at: the time at which a process received the tokens, by its own clock.
    """

    did: str
    handle: str
    pds_url: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    received_at: datetime

    @property
    @abstractmethod
    def scope(self) -> str:
        """What the session allows, in the server's words."""

    @property
    @abstractmethod
    def lifetime(self) -> timedelta:
        """The lifetime of the access token, by the server's clock."""

    @property
    def expires_at(self) -> datetime:
        """The expiry of the access token, by the clock of `received_at`.

        The server's own time of expiry is by the server's clock; a drift between the two clocks must not matter.
        """
        return self.received_at + self.lifetime

    @property
    def began_at(self) -> datetime:
        """The time at which the server first gave tokens, as far as it is known."""
        return self.received_at

    @property
    def ends_at(self) -> datetime | None:
        """The time at which no refresh helps any more; None if a login does."""
        return None


class SessionStatus(BaseModel):
    """The outcome of `ensure_session`. Safe to log and to return, as it contains no token.

    Example:
        >>> status = credentials.ensure_session()
        >>> status.action
        'reused'
    """

    model_config = ConfigDict(frozen=True)

    did: str = Field(description="The account's DID.")
    handle: str = Field(description="The account's handle.")
    pds_url: str = Field(description="The PDS that holds the account's repository.")
    expires_at: datetime = Field(description="The expiry of the access token, by this machine's clock.")
    action: Literal["reused", "refreshed", "logged_in"] = Field(description="The way the session was obtained.")
    scope: str = Field(default="", description="What the session allows, in the server's words.")

    def __str__(self) -> str:
        until = f"{self.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.handle} ({self.did}): session {self.action.replace('_', ' ')}, valid until {until}"

    if not TYPE_CHECKING:  # type checkers refuse an `await` by themselves

        def __await__(self) -> NoReturn:
            """Say what to do in place of awaiting the result of `ensure_session`."""
            raise TypeError("ensure_session is not awaited. Call it without await, or await aensure_session.")
