"""The block of a Mastodon account."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prefect.blocks.abstract import CredentialsBlock
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, field_validator

from prefect_bluesky.channels.direct import PublishesPosts
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.extras import extra
from prefect_bluesky.settings import current_settings, user_agent
from prefect_bluesky.validation import normal_service_url

if TYPE_CHECKING:
    from mastodon import Mastodon


class MastodonCredentials(PublishesPosts, CredentialsBlock):
    """
    Publishes to an account on Mastodon, or on a server with the same API.

    Raises:
        InvalidInput: the instance URL or the access token is not valid.

    Example:
        Load a stored block and publish:
        ```python
        from prefect_bluesky import MastodonCredentials

        credentials = MastodonCredentials.load("BLOCK_NAME")
        credentials.publish("Hello from Prefect")
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid")

    _block_type_name = "Mastodon Credentials"
    _block_type_slug = "mastodon-credentials"
    _logo_url = HttpUrl("https://github.com/mastodon.png?size=200")
    _documentation_url = HttpUrl("https://mastodonpy.readthedocs.io")
    _description = "Publishes to an account on Mastodon with an access token."

    instance_url: str = Field(
        title="Instance URL", description="The server of the account.", examples=["https://mastodon.social"]
    )
    access_token: SecretStr = Field(
        title="Access token",
        description=(
            "The token of an application. Create the application in Mastodon under Preferences > Development, with the"
            " scopes read:accounts, read:statuses, write:statuses and write:media."
        ),
        examples=["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"],
    )

    @field_validator("instance_url")
    @classmethod
    def _normal_instance_url(cls, url: str) -> str:
        return normal_service_url(url, "instance_url", "https://mastodon.social")

    @field_validator("access_token")
    @classmethod
    def _normal_access_token(cls, token: SecretStr) -> SecretStr:
        written = token.get_secret_value().strip()
        # The HTTP client would print an invalid header value in full.
        if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", written):
            raise InvalidInput(
                "access_token",
                "it is empty, masked, or has characters that no access token has.",
                "Copy the token again from Preferences > Development, and start runs from a saved block.",
            )
        return SecretStr(written)

    def get_client(self) -> Mastodon:
        """Return Mastodon.py's own client, without making a request.

        Example:
            >>> MastodonCredentials.load("alice").get_client().account_verify_credentials().acct
            'alice'
        """
        with extra("compose", "channels"):
            from mastodon import Mastodon

        client = Mastodon(
            api_base_url=self.instance_url,
            request_timeout=current_settings().request_timeout,
            # Otherwise the client waits at a rate limit, for up to minutes, and nobody can stop the worker meanwhile.
            ratelimit_method="throw",
            user_agent=user_agent(),
            # Without this the client asks for the version, and recurses endlessly if no answer comes (2.3.3).
            mastodon_version="4.3.0",
        )
        # The constructor would first try the token as a file path.
        client.access_token = self.access_token.get_secret_value()
        return client
