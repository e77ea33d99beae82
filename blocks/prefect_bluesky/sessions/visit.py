"""A visit of an account's owner, who consents in a browser: once for a session, and once more for a spare one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from prefect_bluesky.errors import BlueskyError, InvalidInput, RequestRefused
from prefect_bluesky.protocol import did_document, handles_in, oauth, pds_in, resolve_handle
from prefect_bluesky.sessions.authenticator import Authenticator
from prefect_bluesky.sessions.granted_session import GrantedSession
from prefect_bluesky.sessions.oauth_client import BlueskyOAuthClient

Ask = Callable[[str, bool, str], str]
"""Shows a person a link, whether it is for the spare session, and what is wrong with the last address (or "").

Returns the address at which the person's browser ended, or "" for a new link.
"""

_AGAIN = "Ask for a new link."


class Visit:
    """A visit: links for a person, and the addresses at which the person's browser ends.

    Args:
        authenticator: keeps the account's sessions.
        service_url: a server that knows the account's handle.
        client: who asks.
        directory_url: the directory of did:plc accounts.

    Raises:
        InvalidInput: there is no such account.
        RequestRefused: the account's PDS has no OAuth.
        ServiceUnavailable, RateLimited: a server cannot be asked now.
    """

    def __init__(
        self, authenticator: Authenticator, service_url: str, client: BlueskyOAuthClient, directory_url: str
    ) -> None:
        self._authenticator, self._client, self._directory_url = authenticator, client, directory_url
        account = authenticator.account
        did = account if account.startswith("did:") else resolve_handle(service_url, account)
        if did is None:
            raise InvalidInput("handle", f"nobody has the handle {account}.", "Copy it from the account's profile.")
        self.did = did
        self.handle, self.pds_url, self._server = self._identity()
        self._asked: oauth.AskedGrant | None = None

    def link(self) -> str:
        """Ask for a grant. Return the link for the person, which is good for five minutes. Raises as the class."""
        latest = self._client.latest
        hint = "" if self.handle.startswith("did:") else self.handle
        self._asked = oauth.ask_for_grant(self._server, latest, self._client.scope, did=self.did, handle=hint)
        return self._asked.link

    def take(self, address: str, *, is_spare: bool = False) -> GrantedSession:
        """Take the address at which the person's browser ended, and store the session.

        Args:
            address: the address, as it was copied.
            is_spare: whether the session waits for the end of the one that is in use.

        Raises:
            InvalidInput: this is not that address, or the person did not consent.
            StoreError: the session could not be stored, and was ended again.
            AuthError: the session is another account's than the one that the block was used for before.
            RequestRefused, ServiceUnavailable, RateLimited: as the class.
        """
        if self._asked is None:
            raise InvalidInput("address", "no link was asked for.", _AGAIN)
        asked = self._asked
        tokens = asked.take(address)
        # What the names say may have changed since the link was made (https://atproto.com/specs/oauth).
        if self._identity()[1:] != (self.pds_url, self._server):
            asked.give_back(tokens)
            raise InvalidInput("address", "the account has moved to another server meanwhile.", _AGAIN)
        now = datetime.now(UTC)
        session = GrantedSession(
            did=tokens.did,
            handle=self.handle,
            pds_url=self.pds_url,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            received_at=now,
            issuer=self._server.issuer,
            client_id=asked.client.client_id,
            client_key=asked.client.key.thumbprint if asked.client.key else "",
            key=asked.key,
            granted_scope=tokens.scope,
            valid_for=tokens.lifetime,
            granted_at=now,
        )
        try:
            self._authenticator.adopt(session, is_spare=is_spare)
        except BlueskyError:
            asked.give_back(tokens)
            raise
        return session

    def sessions(self, ask: Ask) -> Iterator[GrantedSession]:
        """Ask a person for a session, and then for a spare one. Yield each once it is stored.

        The person gets a new link after each address that is refused.

        Raises: as `link` and `take`, but for a mistake of the person. A session that was yielded stays stored.
        """
        for is_spare in (False, True):
            yield self._until_taken(ask, is_spare)

    def _until_taken(self, ask: Ask, is_spare: bool) -> GrantedSession:
        wrong = ""
        while True:
            address = ask(self.link(), is_spare, wrong)
            wrong = ""
            if not address.strip():
                continue
            try:
                return self.take(address, is_spare=is_spare)
            # A server refuses a code that is older than five minutes.
            except (InvalidInput, RequestRefused) as mistake:
                wrong = str(mistake)

    def _identity(self) -> tuple[str, str, oauth.AuthorizationServer]:
        """Return the account's handle, its PDS and the authorization server of that, as they are today."""
        document = did_document(self.did, self._directory_url)
        pds_url = pds_in(document)
        if pds_url is None:
            raise InvalidInput("handle", f"the DID document of {self.did} names no PDS.", "Check the account.")
        handle = next(iter(handles_in(document)), self._authenticator.account)
        return handle, pds_url, oauth.AuthorizationServer.of(pds_url)
