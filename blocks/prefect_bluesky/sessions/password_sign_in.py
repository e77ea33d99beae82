"""Sign in with an app password: two JWTs, of which one is sent as it is with each request."""

from __future__ import annotations

from datetime import datetime

import httpx

from prefect_bluesky.errors import RequestRefused
from prefect_bluesky.problems import is_token_refusal
from prefect_bluesky.sessions.app_password import AppPassword
from prefect_bluesky.sessions.login import create_session, end_session, refresh_session
from prefect_bluesky.sessions.session import Session
from prefect_bluesky.sessions.sign_in import NewSession, SignIn
from prefect_bluesky.validation import looks_like_app_password


class PasswordSignIn(SignIn):
    """An account that signs in with an app password.

    Args:
        account: the account's handle or DID.
        service_url: where it signs in.
        app_password: reads the app password.
        directory_url: the directory of did:plc accounts.
    """

    def __init__(self, account: str, service_url: str, app_password: AppPassword, directory_url: str) -> None:
        self._account, self._service_url, self._directory_url = account, service_url, directory_url
        self._read = app_password
        self._app_password = ""

    def read_credential(self) -> str:
        self._app_password = self._read()
        return f"{self._service_url} {self._app_password}"

    def describe(self) -> str:
        looks = "looks" if looks_like_app_password(self._read()) else "does not look"
        return f"{looks} like an app password"

    def create(self, received_at: datetime, ended: RequestRefused | None = None) -> NewSession:
        app_password = self._app_password or self._read()
        return create_session(
            self._service_url, self._account, app_password, self._directory_url, received_at=received_at
        )

    def refresh(self, session: Session, received_at: datetime, *, again: bool = False) -> NewSession:
        return refresh_session(session, self._directory_url, received_at=received_at)

    def end(self, session: Session) -> None:
        end_session(session)

    def sign(self, request: httpx.Request, session: Session) -> None:
        request.headers["Authorization"] = f"Bearer {session.access_token}"

    def is_refused(self, response: httpx.Response) -> bool:
        # `uploadBlob` answers a bad token with 500 only if the token is no JWT, and `Session` accepts only JWTs.
        # Therefore a 500 never counts as a refused token. A PDS refuses one with 400; other servers, with 401.
        if response.status_code not in {400, 401}:
            return False
        try:
            answer = response.json()
        except ValueError:
            return False
        return isinstance(answer, dict) and is_token_refusal(error=answer.get("error"), message=answer.get("message"))
