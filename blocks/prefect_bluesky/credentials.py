"""The block: an account, its app password, and where its session is stored."""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import secrets
from collections.abc import Hashable, Sequence
from datetime import timedelta
from functools import partial
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

from prefect.blocks.abstract import CredentialsBlock
from prefect.settings import PREFECT_API_URL
from prefect_aws import AwsCredentials
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, field_validator, model_validator

from prefect_bluesky.alerts import Reporter
from prefect_bluesky.errors import BlueskyError, InvalidInput
from prefect_bluesky.posts import Preview
from prefect_bluesky.prefect_api import OneValue, api_at_hand, as_block_form
from prefect_bluesky.publishing import (
    Attempt,
    PreparedPosts,
    Publishable,
    PublishedPost,
    SavedDraft,
    actions,
    label_as_bot,
)
from prefect_bluesky.sessions import (
    AppPassword,
    Authenticator,
    AwsSecret,
    AwsSessionStore,
    BlueskyOAuthClient,
    Diagnosis,
    Examination,
    GrantSignIn,
    LoginPolicy,
    MemorySessionStore,
    PasswordSignIn,
    PrefectSessionStore,
    SessionStatus,
    SessionStore,
    SignIn,
    Visit,
    async_sdk_client,
    from_block,
    from_secret,
    sdk_client,
    worker_lock,
)
from prefect_bluesky.settings import current_settings
from prefect_bluesky.validation import (
    looks_like_app_password,
    normal_account,
    normal_app_password,
    normal_secret_prefix,
    normal_service_url,
)

if TYPE_CHECKING:
    import atproto


class BlueskyCredentials(OneValue, CredentialsBlock):
    """
    Signs in to Bluesky social (AT Protocol) and keeps the session alive.

    The session is stored in AWS Secrets Manager if AWS credentials are given. Without them it is stored in an encrypted
    Prefect Secret if a Prefect API is available, and else in memory.

    Raises:
        InvalidInput: a field cannot be used; the message names the field and the remedy.

    Example:
        Load a stored block and publish:
        ```python
        from prefect_bluesky import BlueskyCredentials

        credentials = BlueskyCredentials.load("BLOCK_NAME")
        credentials.publish("Hello from Prefect")
        ```
    """

    # An error message must not show the input, which may be the app password.
    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid", json_schema_extra=as_block_form)

    _block_type_name = "Bluesky Credentials"
    _block_type_slug = "bluesky-credentials"
    _logo_url = HttpUrl("https://bsky.app/static/apple-touch-icon.png")
    _documentation_url = HttpUrl("https://github.com/bluesky-social/atproto")
    _description = "Signs in to Bluesky social (AT Protocol) with an app password and keeps the session alive."

    handle: str = Field(
        title="Handle",
        description="The account's handle, such as alice.bsky.social, or its DID.",
        examples=["alice.bsky.social"],
    )
    app_password: SecretStr | None = Field(
        default=None,
        title="App password",
        description=(
            "Create an app password in the Bluesky app under Settings > Privacy and security > App passwords. If left"
            " out, the app password is read from AWS Secrets Manager."
        ),
        examples=["xxxx-xxxx-xxxx-xxxx"],
    )
    service_url: str = Field(
        default="https://bsky.social",
        title="Service URL",
        description="The URL at which the account signs in: https://bsky.social, or the account's own PDS.",
    )
    oauth_client: BlueskyOAuthClient | None = Field(
        default=None,
        title="OAuth client",
        description="Signs in by a grant of the account's owner, in place of an app password.",
    )
    aws_credentials: AwsCredentials | None = Field(
        default=None,
        title="AWS credentials",
        description="Stores the session in AWS Secrets Manager. Without AWS credentials, Prefect stores the session.",
    )
    secret_prefix: str = Field(
        default="prefect-bluesky",
        title="Secret prefix",
        description="Only with AWS: the secrets are named PREFIX/ACCOUNT/session and PREFIX/ACCOUNT/app-password.",
    )

    _authenticators: ClassVar[dict[Hashable, Authenticator]] = {}
    _authenticators_lock: ClassVar[Lock] = Lock()
    _digest_key: ClassVar[bytes] = secrets.token_bytes(16)

    _normal_handle = field_validator("handle")(normal_account)
    _normal_service_url = field_validator("service_url")(normal_service_url)
    _normal_secret_prefix = field_validator("secret_prefix")(normal_secret_prefix)

    @field_validator("app_password")
    @classmethod
    def _normal_app_password(cls, password: SecretStr | None) -> SecretStr | None:
        # A form sends an empty text for a field that was left out.
        written = password.get_secret_value() if password else ""
        return SecretStr(normal_app_password(written)) if written else None

    @model_validator(mode="after")
    def _can_sign_in(self) -> Self:
        if self.app_password is None and self.aws_credentials is None and self.oauth_client is None:
            raise InvalidInput(
                "app_password",
                "the app password is missing, and without AWS credentials it cannot be read from Secrets Manager.",
                "Fill in the app password or the AWS credentials.",
            )
        return self

    def ensure_session(self, min_validity: timedelta | None = None) -> SessionStatus:
        """Ensure a valid session: the gate before a publish.

        A session that is valid for long enough is reused without a request. Otherwise one worker at a time refreshes
        the session, or signs in.

        Args:
            min_validity: how long the session must still be valid; by default 10 minutes (the setting MIN_VALIDITY). A
                demand longer than the life of the server's tokens is read as a third of their life.

        Raises:
            AuthError: the account cannot sign in; `problem` names the cause.
            ServiceError: the server refuses, or does not answer and no valid session is left.
            StoreError: the stored session cannot be read.

        Example:
            >>> credentials.ensure_session().action
            'reused'
        """
        return self._authenticator().ensure(min_validity)

    async def aensure_session(self, min_validity: timedelta | None = None) -> SessionStatus:
        """Ensure a valid session, from async code; see `ensure_session`."""
        return await asyncio.to_thread(self.ensure_session, min_validity)

    def keep_alive(self, max_age: timedelta = timedelta(minutes=30)) -> SessionStatus:
        """Refresh a session that is older than `max_age`, however long it is still valid.

        A server reports a revoked app password only at a refresh, so this finds it before a publish does. A younger
        session is `reused`, and its server is not asked. If the account is refused and the alert about it reached
        nobody, Prefect is told once more.

        Args:
            max_age: the longest time since the server gave the session.

        Raises: as `ensure_session`.

        Example:
            >>> credentials.keep_alive(timedelta()).action
            'refreshed'
        """
        authenticator = self._authenticator()
        try:
            return authenticator.ensure(max_age=max_age)
        except BlueskyError:
            authenticator.repeat_lost_alert()
            raise

    async def akeep_alive(self, max_age: timedelta = timedelta(minutes=30)) -> SessionStatus:
        """Refresh an old session, from async code; see `keep_alive`."""
        return await asyncio.to_thread(self.keep_alive, max_age)

    def visit(self) -> Visit:
        """Begin a visit of the account's owner, who grants access in a browser. The block needs an `oauth_client`.

        Raises:
            InvalidInput: the block has no OAuth client, or there is no such account.
            ServiceError: the account's server has no OAuth, or cannot be asked now.
        """
        if self.oauth_client is None:
            remedy = "Save a Bluesky OAuth Client, and pick it in the account's block."
            raise InvalidInput("oauth_client", "it is missing.", remedy)
        directory_url = current_settings().did_directory_url
        return Visit(self._authenticator(), self.service_url, self.oauth_client, directory_url)

    @property
    def did(self) -> str | None:
        """The account's DID, or None if this process has neither signed in nor read the stored session."""
        return self._authenticator().state.did

    def get_client(self) -> atproto.Client:
        """Return the AT Protocol SDK's own client, signed in.

        The client holds no tokens. Each call is signed with the stored session, so the client outlives its expiry.

        Raises: as `ensure_session`; a call raises the SDK's errors, or `AuthError` if the account cannot sign in.

        Example:
            >>> credentials.get_client().send_post("hi").uri
            'at://did:plc:.../app.bsky.feed.post/3...'
        """
        return sdk_client(self._authenticator())

    async def aget_client(self) -> atproto.AsyncClient:
        """Return the SDK's async client, signed in; see `get_client`."""
        return await async_sdk_client(self._authenticator())

    def diagnose(self, *, log_in: bool = False, is_bot: bool = False) -> Diagnosis:
        """Find out why the account cannot publish, by the checks that a person would make.

        The session is refreshed, and saved as after each refresh. Nothing is written to the account.

        Args:
            log_in: whether to sign in as well, which uses one of the day's logins.
            is_bot: whether to look for the label of `label_as_bot` as well.

        Example:
            >>> print(credentials.diagnose().problem)
            None
        """
        return self._examination().run(log_in=log_in, is_bot=is_bot)

    def label_as_bot(self) -> bool:
        """Say on the account's profile that a program writes its posts, and return whether that is new.

        Bluesky asks this of automated accounts, and its app shows a badge. The rest of the profile stays as it is.

        Raises:
            AuthError, ServiceError, StoreError: the profile may be unchanged; the same call may be made again.

        Example:
            >>> credentials.label_as_bot(), credentials.label_as_bot()
            (True, False)
        """
        return label_as_bot(self._authenticator())

    def sign_out(self) -> None:
        """End the account's sessions at its server, and forget them: what somebody may have copied is then of no use.

        With an app password, the next publish signs in again. With a grant, the account's owner has to grant access
        again.

        Raises:
            AuthError, ServiceError, StoreError: a session may live on; the same call may be made again.

        Example:
            >>> credentials.sign_out()
        """
        self._authenticator().sign_out()

    async def asign_out(self) -> None:
        """End the account's sessions, from async code; see `sign_out`."""
        await asyncio.to_thread(self.sign_out)

    def _examination(self) -> Examination:
        settings = current_settings()
        return Examination(
            account=self.handle,
            service_url=self.service_url,
            store=self.session_store(),
            authenticator=self._authenticator(),
            directory_url=settings.did_directory_url,
            max_logins_per_day=settings.max_logins_per_day,
        )

    @classmethod
    def from_environment(cls) -> Self:
        """Return the account of `BLUESKY_HANDLE`, `BLUESKY_APP_PASSWORD` and, optionally, `BLUESKY_SERVICE_URL`.

        Raises:
            InvalidInput: a variable is missing or cannot be used.
        """
        names = ("BLUESKY_HANDLE", "BLUESKY_APP_PASSWORD")
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise InvalidInput(
                " and ".join(missing), "missing in the environment.", "Set them, or name a saved account."
            )
        fields = {"handle": os.environ[names[0]], "app_password": os.environ[names[1]]}
        service_url = os.environ.get("BLUESKY_SERVICE_URL")
        return cls.model_validate({**fields, "service_url": service_url} if service_url else fields)

    @overload
    def publish(self, post: Publishable, key: str | None = ..., *, dry_run: Literal[False] = ...) -> PublishedPost: ...
    @overload
    def publish(self, post: Publishable, key: str | None = ..., *, dry_run: Literal[True]) -> Preview: ...
    @overload
    def publish(self, post: Publishable, key: str | None = ..., *, dry_run: bool) -> PublishedPost | Preview: ...
    @overload
    def publish(self, post: Publishable, *, as_draft: Literal[True]) -> SavedDraft: ...

    def publish(
        self, post: Publishable, key: str | None = None, *, dry_run: bool = False, as_draft: bool = False, **others: Any
    ) -> PublishedPost | Preview | SavedDraft:
        """Publish a post or a thread exactly once.

        Args:
            post: the post. A string is a post with that text, a list is a thread.
            key: distinguishes this post from all others of the account. A second publish under the same key, from
                anywhere and at any time, finds the first post. By default the key is the flow run's id and the post's
                content, so that a retried run posts once. Outside a run, each call is a separate post.
            dry_run: whether to send nothing and return a preview.
            as_draft: whether to save the post as a draft, for a person to finish in the Bluesky app. Saved once.
            others: none; the error about a field of `Post` says where it goes.

        Raises:
            InvalidInput: a field, an attachment or a reference cannot be used, or a draft cannot hold a field; the
                message names the field.
            SourceUnavailable: an attached file cannot be read.
            KeyConflict: another post has the key.
            AuthError, ServiceError, StoreError: as `ensure_session`. If `retryable`, the same call may be made again
                and posts once. Without a key and outside a run, a post whose answer was lost is not retryable.

        Example:
            >>> credentials.publish("Release 2.0 is out", key="release-2.0").url
            'https://bsky.app/profile/alice.test/post/3...'
            >>> credentials.publish("Release 2.0 is out", dry_run=True).posts[0].characters
            18
        """
        actions.refuse_arguments(others, ["post", "key", "dry_run", "as_draft"])
        act = actions.draft if as_draft else actions.preview if dry_run else actions.publish
        return act(post, key, self._authenticator())

    @overload
    async def apublish(
        self, post: Publishable, key: str | None = ..., *, dry_run: Literal[False] = ...
    ) -> PublishedPost: ...
    @overload
    async def apublish(self, post: Publishable, key: str | None = ..., *, dry_run: Literal[True]) -> Preview: ...
    @overload
    async def apublish(self, post: Publishable, key: str | None = ..., *, dry_run: bool) -> PublishedPost | Preview: ...
    @overload
    async def apublish(self, post: Publishable, *, as_draft: Literal[True]) -> SavedDraft: ...

    async def apublish(
        self, post: Publishable, key: str | None = None, *, dry_run: bool = False, as_draft: bool = False, **others: Any
    ) -> PublishedPost | Preview | SavedDraft:
        """Publish a post exactly once, from async code; see `publish`."""
        publish: Any = self.publish
        return await asyncio.to_thread(publish, post, key, dry_run=dry_run, as_draft=as_draft, **others)

    def publish_many(self, posts: Sequence[tuple[Publishable, str | None]]) -> list[PublishedPost | BlueskyError]:
        """Publish several posts, each exactly once, in as few commits as possible: up to 200 posts in one request.

        A post that cannot be published stops no other.

        Args:
            posts: the posts, in the order in which a feed shows them; each with its key, see `publish`.

        Returns:
            for each post, in that order, the published post, or the error that `publish` would raise.

        Raises:
            InvalidInput: one of the posts cannot be published, and none is.
            AuthError, ServiceError, StoreError: as `ensure_session`; none is published.

        Example:
            >>> done = credentials.publish_many([("Good morning", "morning"), ("Good night", "night")])
            >>> [isinstance(each, PublishedPost) for each in done]
            [True, True]
        """
        return actions.publish_many(posts, self._authenticator())

    async def apublish_many(
        self, posts: Sequence[tuple[Publishable, str | None]]
    ) -> list[PublishedPost | BlueskyError]:
        """Publish several posts, from async code; see `publish_many`."""
        return await asyncio.to_thread(self.publish_many, posts)

    def prepare_many(self, posts: Sequence[tuple[Publishable, str | None, Attempt]]) -> PreparedPosts:
        """Sign in, and make posts ready to be loaded and sent later; see `publish_many`.

        Args:
            posts: the posts with their keys, each with the attempt that it is.

        Raises: as `publish_many`.
        """
        return actions.prepare_many(posts, self._authenticator())

    def delete_post(self, post: PublishedPost | str) -> None:
        """Delete a post, or all of a thread, with its gates. A post that is gone already is no error.

        Prefect's `BlueskyCredentials.delete("NAME")` deletes the saved block instead.

        Args:
            post: the result of `publish`; or the at:// URI of a post, or its address in the Bluesky app.

        Raises:
            InvalidInput: this is no post, or another account's.
            AuthError, ServiceError, StoreError: the post may still be there; the same call may be made again.

        Example:
            >>> credentials.delete_post(credentials.publish("Never mind"))
        """
        actions.delete(post, self._authenticator())

    async def adelete_post(self, post: PublishedPost | str) -> None:
        """Delete a post, from async code; see `delete_post`."""
        await asyncio.to_thread(self.delete_post, post)

    def _authenticator(self) -> Authenticator:
        """Return this process's authenticator for this account, app password and store: it outlives the block."""
        password = self.app_password.get_secret_value() if self.app_password else None
        digest = password and self._digest(password)
        place = (self.aws_credentials, self.secret_prefix) if self.aws_credentials else _prefect_place()
        # The fields that a derived block adds, such as the place of its store.
        is_derived = type(self) is not BlueskyCredentials
        own = self._digest(self._own_fields()) if is_derived else None
        client = self.oauth_client and self._digest(self.oauth_client.identity)
        identity = (type(self), place, self.service_url, self.handle, digest, client, own, self._block_document_id)
        with self._authenticators_lock:
            known = self._authenticators.get(identity)
        if known is None:
            # Not under the lock: a derived block may use other accounts here.
            made = self._new_authenticator(password)
            with self._authenticators_lock:
                known = self._authenticators.setdefault(identity, made)
        return known

    @classmethod
    def _digest(cls, secret: str) -> bytes:
        """Return a digest of a secret that another process cannot make."""
        return hmac.digest(cls._digest_key, secret.encode(), "sha256")

    def _own_fields(self) -> str:
        """Return the fields that a derived block adds, with their secrets."""
        return self.model_dump_json(exclude=set(BlueskyCredentials.model_fields), context={"include_secrets": True})

    def _new_authenticator(self, password: str | None) -> Authenticator:
        settings = current_settings()
        if password and not looks_like_app_password(password):
            self.logger.warning(
                "app_password of %s does not look like an app password (xxxx-xxxx-xxxx-xxxx). If it is the"
                " account's main password, create an app password instead: it can be revoked on its own.",
                self.handle,
            )
        return Authenticator(
            account=self.handle,
            sign_in=self._sign_in(settings.did_directory_url),
            service_url=self.service_url,
            store=self.session_store(),
            lock=partial(worker_lock, self._name, lease=settings.lock_lease, required=self.oauth_client is not None),
            reporter=self.reporter(),
            directory_url=settings.did_directory_url,
            policy=LoginPolicy(
                min_validity=settings.min_validity,
                max_logins_per_day=settings.max_logins_per_day,
                refusal_cool_down=settings.refusal_cool_down,
            ),
        )

    def _sign_in(self, directory_url: str) -> SignIn:
        if self.oauth_client is not None:
            return GrantSignIn(self.handle, self.oauth_client.clients, directory_url)
        return PasswordSignIn(self.handle, self.service_url, self._app_password(), directory_url)

    def _app_password(self) -> AppPassword:
        if self.app_password is None and self.aws_credentials is not None:
            return from_secret(self._secret(self.aws_credentials, "app-password"))
        return from_block(self.app_password.get_secret_value() if self.app_password else "")

    def session_store(self) -> SessionStore:
        """Return the store of the session. Override this method in a subclass to store sessions elsewhere.

        Called once per process for each distinct block configuration; concurrent threads may call it more than once.

        Example:
            >>> print(credentials.session_store().place)
            Prefect Secret block bluesky-session-alice-test-...
        """
        if self.aws_credentials:
            return AwsSessionStore(self._secret(self.aws_credentials, "session"))
        if api_at_hand():
            return PrefectSessionStore(self._name)
        return MemorySessionStore((self.service_url, self.handle))

    def reporter(self) -> Reporter:
        """Return the reporter of refusals and recoveries. Override this method in a subclass to tell others too.

        Called as often as `session_store`.
        """
        return Reporter(self._block_document_id)

    def _secret(self, credentials: AwsCredentials, part: str) -> AwsSecret:
        account = self.handle.replace(":", "_").replace("%", "=")  # AWS allows neither in a name
        return AwsSecret(credentials, f"{self.secret_prefix}/{account}/{part}")

    @property
    def _name(self) -> str:
        """The account's name as a block document and a concurrency limit of Prefect may have it."""
        # "a-b.test" and "a.b-test" are two accounts with one readable name.
        digest = sha256(f"{self.service_url} {self.handle}".encode()).hexdigest()[:8]
        return f"bluesky-session-{re.sub('[^a-z0-9]+', '-', self.handle.lower())[:60]}-{digest}"


def _prefect_place() -> str:
    return (PREFECT_API_URL.value() or "this run's own API") if api_at_hand() else "memory"
