"""The block of an OAuth client: who asks an account's owner for a grant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Self

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, field_validator, model_validator

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.prefect_api import OneValue, as_block_form
from prefect_bluesky.protocol import oauth


class BlueskyOAuthClient(OneValue, Block):
    """
    Asks the owners of accounts for grants, by which Prefect may publish and nothing else.

    Without a URL, the client is one to try it out: its grants last two weeks. Those of a client with a URL and a key
    last two years (oauth-provider 0.22.9).

    Raises:
        InvalidInput: a field cannot be used; the message names the field and the remedy.

    Example:
        Load a stored client, and save an account with it:
        ```python
        from prefect_bluesky import BlueskyOAuthClient
        from prefect_bluesky import BlueskyCredentials

        client = BlueskyOAuthClient.load("BLOCK_NAME")
        BlueskyCredentials(handle="alice.bsky.social", oauth_client=client).save("alice")
        ```
    """

    # An error message must not show the input, which may be a key. Prefect adds fields to a block within another one.
    # Neither they nor a key under a misspelt name are kept.
    model_config = ConfigDict(hide_input_in_errors=True, extra="ignore", json_schema_extra=as_block_form)

    _block_type_name = "Bluesky OAuth Client"
    _block_type_slug = "bluesky-oauth-client"
    _logo_url = HttpUrl("https://bsky.app/static/apple-touch-icon.png")
    _documentation_url = HttpUrl("https://atproto.com/specs/oauth")
    _description = "Asks the owners of Bluesky accounts for grants, by which Prefect may publish and nothing else."

    url: str = Field(
        default="",
        title="Folder on the web",
        description=(
            "The https:// URL of the folder that has the client's two files. Leave empty to try it out: such a grant"
            " lasts two weeks."
        ),
        examples=["https://example.org/bot"],
    )
    key: SecretStr | None = Field(
        default=None, title="Key", description="The client's private key, as a JWK. Only with a folder on the web."
    )
    older_key: SecretStr | None = Field(
        default=None,
        title="Older key",
        description="The key that this one has replaced. Sessions that were granted to it still need it.",
    )
    # Not a list: with a list's default, Prefect's UI (V2 of 3.9.1) renders the account's form without end.
    rights: str = Field(
        default="create",
        title="Rights",
        description="What to ask for: create, delete, video, or scopes of the AT Protocol, with spaces between them.",
    )

    @field_validator("key", "older_key")
    @classmethod
    def _normal_key(cls, key: SecretStr | None) -> SecretStr | None:
        # A form sends an empty text for a field that was left out.
        if key is None or not key.get_secret_value().strip():
            return None
        return SecretStr(oauth.SigningKey.from_text(key.get_secret_value()).to_text())

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.url) != (self.key is not None):
            missing = "key" if self.url else "url"
            raise InvalidInput(missing, "it is missing.", "Give both the folder on the web and the key, or neither.")
        if not self.rights.split():
            raise InvalidInput("rights", "there are none.", "Write create.")
        oauth.scope_of(self.rights.split())  # raises, as does the next line
        self.clients()
        return self

    @staticmethod
    def new_key() -> SecretStr:
        """Return a new key.

        Example:
            >>> BlueskyOAuthClient.new_key()
            SecretStr('**********')
        """
        return SecretStr(oauth.SigningKey.new().to_text())

    def with_new_key(self) -> Self:
        """Return the client with another key. Sessions that were granted to the older one are refreshed with that.

        Raises:
            InvalidInput: the client has no key.

        Example:
            >>> client = BlueskyOAuthClient(url="https://example.org/bot", key=BlueskyOAuthClient.new_key())
            >>> client.with_new_key().older_key == client.key
            True
        """
        if self.key is None:
            raise InvalidInput("key", "this client has none.", "Give it a folder on the web, and a key.")
        return self.model_copy(update={"older_key": self.key, "key": self.new_key()})

    @property
    def scope(self) -> str:
        """What is asked for, as a scope of the AT Protocol."""
        return oauth.scope_of(self.rights.split())

    @property
    def identity(self) -> str:
        """All that tells the client from another one. It has the keys, so it must not be shown.

        Each call of the account's block needs it, and Prefect's own serialization takes 10 ms (measured on 3.9.1).
        """
        keys = (key and key.get_secret_value() for key in (self.key, self.older_key))
        return json.dumps([self.url, self.rights, *keys])

    def clients(self) -> Mapping[str, oauth.Client]:
        """Return the client with each of its keys, by the key's thumbprint, the latest last."""
        if not self.url:
            return {"": oauth.Client.loopback(self.scope)}
        texts = [key.get_secret_value() for key in (self.older_key, self.key) if key]
        return {key.thumbprint: oauth.Client.hosted(self.url, key) for key in map(oauth.SigningKey.from_text, texts)}

    @property
    def latest(self) -> oauth.Client:
        """The client with its latest key."""
        *_, latest = self.clients().values()
        return latest

    def files(self) -> dict[str, str]:
        """Return the files that belong into the folder on the web, by their names.

        Raises:
            InvalidInput: the client has no folder.

        Example:
            >>> list(BlueskyOAuthClient(url="https://example.org/bot", key=BlueskyOAuthClient.new_key()).files())
            ['client-metadata.json', 'callback.html']
        """
        *older, latest = self.clients().values()
        if latest.key is None:
            raise InvalidInput("url", "this client has no folder on the web.", "Fill in the URL and the key.")
        return latest.files(self.scope, others=[client.key for client in older if client.key])
