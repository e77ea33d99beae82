"""Start a sandbox with `run()`, and control it with `Sandbox`."""

import copy
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from . import app
from .accounts import Account, Lifetimes
from .app import Request
from .oauth.controls import GrantControls
from .oauth.endpoints import ENDPOINTS
from .oauth.metadata import documents
from .oauth.refusals import as_answer
from .oauth.refusals import failure as oauth_failure
from .refusal import failure
from .service import Service
from .tokens import SERVICE_DID
from .xrpc import Answer

_HANDLE = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


@contextmanager
def run(
    *,
    access_lifetime: timedelta = timedelta(hours=2),
    refresh_lifetime: timedelta = timedelta(days=90),
    grace: timedelta = timedelta(hours=2),
    did_doc: bool = False,
    pds_url_in_did_doc: str | None = None,
    service_did: str = SERVICE_DID,
    on_request: Callable[[Request], None] | None = None,
) -> Iterator["Sandbox"]:
    """Run a sandbox on a free port of 127.0.0.1 until the block is left. All its data is then gone.

    Args:
        access_lifetime: lifetime of access tokens, in whole seconds.
        refresh_lifetime: lifetime of refresh tokens, in whole seconds.
        grace: time for which a refresh token still works after its first use; zero allows one use.
        did_doc: True to put the account's DID document into answers about a session, as bsky.social does.
        pds_url_in_did_doc: the PDS that the document names; by default the sandbox itself.
        service_did: the DID of the sandbox, which its tokens name. Two sandboxes at a time may need two.
        on_request: called with each handled request before its answer is sent, in the server's thread. Must not block.

    Raises:
        OSError: there is no free port.

    Example:
        >>> with run(access_lifetime=timedelta(minutes=5)) as pds:
        ...     alice = pds.create_account("alice.test")
    """
    lifetimes = Lifetimes(access_lifetime, refresh_lifetime, grace)
    with app.listen() as (listener, url):
        service = Service(
            lifetimes, url, pds_url_in_did_doc or url, service_did=service_did, did_doc=did_doc, on_request=on_request
        )
        make_app = partial(
            app.build,
            service.respond,
            service.clock,
            directory=service.did_document,
            documents=documents(url),
            endpoints=ENDPOINTS,
        )
        with app.serve(make_app, listener):
            yield Sandbox(url, service)


class Sandbox(GrantControls):
    """A running sandbox. Get one from `run()`. Safe to use from several threads.

    Attributes:
        url: the sandbox's address, such as "http://127.0.0.1:40123".
        plc_url: the address of its directory of DIDs, as https://plc.directory is one.
    """

    def __init__(self, url: str, service: Service) -> None:
        super().__init__(url, service)
        self.plc_url = url

    def __repr__(self) -> str:
        return f"Sandbox(url={self.url!r})"

    def create_account(self, handle: str | None = None) -> Account:
        """Register an account.

        Args:
            handle: the account's handle; by default a new one such as "user1f8008a9.test".

        Raises:
            ValueError: the handle is taken or malformed.
        """
        with self._service.lock:
            taken = {holder.handle for holder in self._service.accounts}
            if handle is None:
                # Unique across sandboxes, because a session store may outlive a sandbox.
                handle = f"user{secrets.token_hex(4)}.test"
            handle = handle.lower()
            if not _HANDLE.fullmatch(handle):
                raise ValueError(f"handle: {handle!r} is malformed. Give a handle such as 'alice.test'.")
            if handle in taken:
                raise ValueError(f"handle: {handle} is already taken. Choose another handle.")
            return self._service.accounts.create(handle)

    def create_app_password(self, account: Account, name: str = "second", privileged: bool = False) -> str:
        """Make another app password and return it.

        Raises:
            ValueError: the account already has an app password of this name.
            LookupError: there is no such account (any more).
        """
        with self._service.lock:
            holder = self._holder(account)
            if name in holder.app_passwords:
                raise ValueError(f"name: {account.handle} has an app password named {name!r}. Choose another name.")
            return self._service.accounts.add_app_password(holder, name, privileged=privileged).password

    def revoke_app_password(self, account: Account, password: str | None = None) -> None:
        """Revoke an app password (by default the account's first one) and its refresh tokens.

        Access tokens made with the app password work until they expire, as on a real PDS.

        Raises:
            LookupError: there is no such account or password (any more).
        """
        with self._service.lock:
            holder, wanted = self._holder(account), password or account.app_password
            name = next((made.name for made in holder.app_passwords.values() if made.password == wanted), None)
            if name is None:
                raise LookupError(f"password: {account.handle} has no such app password (any more).")
            self._service.accounts.revoke_app_password(holder, name)

    def change_password(self, account: Account, new: str) -> None:
        """Change the main password. All sessions end at their next refresh; app passwords stay valid.

        Raises:
            LookupError: there is no such account (any more).
        """
        with self._service.lock:
            self._service.accounts.change_password(self._holder(account), new)

    def deactivate(self, account: Account) -> None:
        """Deactivate an account, as its owner can. The account can still sign in, but not write.

        Raises:
            LookupError: there is no such account (any more).
        """
        with self._service.lock:
            self._holder(account).deactivated = True

    def take_down(self, account: Account) -> None:
        """Take an account down, as a moderator can. Its refresh tokens are revoked for ever.

        Raises:
            LookupError: there is no such account (any more).
        """
        with self._service.lock:
            holder = self._holder(account)
            holder.taken_down = True
            self._service.accounts.end_sessions(holder)
            self._service.grants.end(holder.did)

    def reinstate(self, account: Account) -> None:
        """Undo `deactivate` and `take_down`.

        Raises:
            LookupError: there is no such account (any more).
        """
        with self._service.lock:
            holder = self._holder(account)
            holder.deactivated = holder.taken_down = False

    def move(self, account: Account, pds_url: str) -> None:
        """Let the account's DID document name another PDS, as after a migration that left the account active here.

        Raises:
            LookupError: there is no such account (any more).
        """
        with self._service.lock:
            self._holder(account).moved_to = pds_url

    def delete_account(self, account: Account) -> None:
        """Delete an account with all its data.

        Raises:
            LookupError: there is no such account (any more).
        """
        with self._service.lock:
            holder = self._holder(account)
            self._service.accounts.delete(holder)
            self._service.grants.end(holder.did)

    def mint(
        self,
        account: Account,
        kind: Literal["access", "refresh"] = "access",
        expires_in: timedelta = timedelta(seconds=-1),
        **claims: object,
    ) -> str:
        """Return a correctly signed token of the account, by default a token that has just expired.

        Args:
            account: the token's account, which may be deleted.
            kind: an access token (of an app password's scope) or a refresh token.
            expires_in: time from now until the expiry; negative for an expired token.
            claims: replacements of the usual claims; None leaves a claim out. A refresh token can be used for a refresh
                unless `jti` is given.

        Example:
            >>> token = pds.mint(alice, "access", timedelta(hours=1), scope="com.atproto.access")
        """
        with self._service.lock:
            return self._service.accounts.mint(account.did, kind, expires_in, claims)

    def advance(self, by: timedelta) -> None:
        """Move the server's clock forward; tokens age by the same time.

        The header Date of each answer tells the new time, by which a client of OAuth has to sign.

        Raises:
            ValueError: `by` is negative.
        """
        with self._service.lock:
            self._service.clock.advance(by)

    def posts(self, account: Account) -> list[dict[str, Any]]:
        """Return the account's posts as `{"uri": ..., "cid": ..., "value": ...}`, oldest first.

        Raises:
            LookupError: there is no such account (any more).
        """
        collection = "app.bsky.feed.post"
        with self._service.lock:
            repo = self._holder(account).repo
            return [
                {"uri": repo.uri(collection, rkey), "cid": record.cid, "value": copy.deepcopy(record.value)}
                for rkey, record in repo.records_of(collection)
            ]

    def react(self, uri: str, *, likes: int = 0, reposts: int = 0, replies: int = 0, quotes: int = 0) -> None:
        """Let an AppView count so many reactions to a post (`app.bsky.feed.getPosts`).

        Args:
            uri: the post's at:// URI.
            likes: how many.
            reposts: how many.
            replies: how many.
            quotes: how many.

        Raises:
            LookupError: there is no such account.
        """
        did, _, rkey = uri.removeprefix("at://").split("/")
        counts = {"likeCount": likes, "repostCount": reposts, "replyCount": replies, "quoteCount": quotes}
        with self._service.lock:
            holder = self._service.accounts.find(did)
            if holder is None:
                raise LookupError(f"uri: there is no account {did}.")
            holder.reactions[rkey] = counts

    def requests(self, nsid: str | None = None) -> list[Request]:
        """Return the requests so far, in the order in which they were handled; of one method if `nsid` is given."""
        with self._service.lock:
            return [request for request in self._service.requests if nsid in (None, request.nsid)]

    def fail(
        self,
        nsid: str,
        status: int = 503,
        error: str | None = None,
        message: str | None = None,
        *,
        times: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next `times` calls of a method with an error; they change nothing.

        Args:
            nsid: the method; or, as in `delay`, `drop` and `requests`, "oauth/par", "oauth/token" or "oauth/revoke".
            status: HTTP status.
            error: the error's name; by default the usual name for the status.
            message: the error's text; by default the usual text for the status.
            times: the number of calls.
            headers: additional headers of the answer, such as Retry-After.

        Raises:
            ValueError: the sandbox has no such method, or `times` is not positive.

        Example:
            >>> pds.fail("com.atproto.repo.createRecord", 429, headers={"Retry-After": "3"})
        """
        self._check(nsid, times)
        given = (status, error, message, headers)
        answer = as_answer(oauth_failure(*given)) if nsid in ENDPOINTS else Answer.of(failure(*given))
        with self._service.lock:
            self._service.faults.fail(nsid, answer, times)

    def delay(self, nsid: str, seconds: float, times: int = 1) -> None:
        """Delay the answers to the next `times` calls of a method, by `seconds`. The calls do their work at once.

        Raises:
            ValueError: the sandbox has no such method, or `times` is not positive.
        """
        self._check(nsid, times)
        with self._service.lock:
            self._service.faults.delay(nsid, seconds, times)

    def drop(self, nsid: str, times: int = 1) -> None:
        """Do the work of the next `times` calls of a method, then close their connections without an answer.

        Together with `fail`, the calls do nothing and get no answer.

        Raises:
            ValueError: the sandbox has no such method, or `times` is not positive.
        """
        self._check(nsid, times)
        with self._service.lock:
            self._service.faults.drop(nsid, times)

    def _check(self, nsid: str, times: int) -> None:
        if nsid not in self._service.names:
            raise ValueError(f"nsid: the sandbox has no method {nsid!r}. Check the spelling.")
        if times < 1:
            raise ValueError(f"times: the value must be positive, not {times}.")
