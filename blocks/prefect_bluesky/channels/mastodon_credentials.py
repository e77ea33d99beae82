"""The block of an account on Mastodon."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prefect.blocks.abstract import CredentialsBlock
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, field_validator

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.extras import extra
from prefect_bluesky.settings import current_settings
from prefect_bluesky.validation import normal_service_url

if TYPE_CHECKING:
    from mastodon import Mastodon


class MastodonCredentials(CredentialsBlock):
    """
    Publishes to an account on Mastodon, or on a server with the same API.

    Raises:
        InvalidInput: the instance's URL is none.

    Example:
        Load a stored block and use Mastodon.py's own client:
        ```python
        from prefect_bluesky import MastodonCredentials

        credentials = MastodonCredentials.load("BLOCK_NAME")
        credentials.get_client().status_post("Hello from Prefect")
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid")

    _block_type_name = "Mastodon Credentials"
    _block_type_slug = "mastodon-credentials"
    _logo_url = HttpUrl("https://github.com/mastodon.png?size=200")
    _documentation_url = HttpUrl("https://mastodonpy.readthedocs.io")
    _description = "Publishes to an account on Mastodon with an access token."

    instance_url: str = Field(
        title="Instance URL", description="The server that the account is on.", examples=["https://mastodon.social"]
    )
    access_token: SecretStr = Field(
        title="Access token",
        description=(
            "Of an application made in Mastodon under Preferences > Development, with the scopes read:accounts,"
            " read:statuses, write:statuses and write:media."
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
        # Of what cannot stand in a header, the HTTP client would show all.
        if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", written):
            raise InvalidInput(
                "access_token",
                "it is empty, masked, or holds what no access token holds.",
                "Copy it again from Preferences > Development, and start runs from a saved block.",
            )
        return SecretStr(written)

    def get_client(self) -> Mastodon:
        """Mastodon.py's own client. It makes no request yet.

        Example:
            >>> MastodonCredentials.load("alice").get_client().account_verify_credentials().acct
            'alice'
        """
        with extra("compose", "channels"):
            from mastodon import Mastodon

        client = Mastodon(
            api_base_url=self.instance_url,
            request_timeout=current_settings().request_timeout,
            # A worker that waits for a limit by itself, for up to minutes, is one that nobody can tell to stop.
            ratelimit_method="throw",
            user_agent="prefect-bluesky",
            # Asked for it, an instance that does not answer sends the client into an endless recursion (2.3.3).
            mastodon_version="4.3.0",
        )
        # Given at once, it would be taken for a path first.
        client.access_token = self.access_token.get_secret_value()
        return client
