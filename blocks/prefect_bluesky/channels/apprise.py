"""A channel for each service that Apprise supports: Telegram, Matrix, Slack, e-mail and over a hundred more."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr

from prefect_bluesky.channels.base import Published, channel_of
from prefect_bluesky.channels.direct import PublishesPosts
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.channels.fitting import Rules, Variant, fit
from prefect_bluesky.errors import InvalidInput, Unconfirmed
from prefect_bluesky.extras import extra
from prefect_bluesky.posts import Measure, find_entities
from prefect_bluesky.prefect_api import can_keep_notes, load_note, save_note

if TYPE_CHECKING:
    from apprise.plugins.base import NotifyBase

CODE_POINTS = Measure(find_entities, lambda text, entity: text[entity.start : entity.end], length=len)
"""Counts code points, as Apprise does. Apprise cuts a text that is too long."""


class AppriseService(PublishesPosts, Block):
    """
    Publishes texts to a service that Apprise supports, such as a Telegram channel or a Matrix room.

    Example:
        Load a stored block and publish:
        ```python
        from prefect_bluesky import AppriseService

        service = AppriseService.load("BLOCK_NAME")
        service.publish("Hello from Prefect")
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid")

    _block_type_name = "Apprise Service"
    _block_type_slug = "apprise-service"
    _logo_url = HttpUrl("https://github.com/caronc.png?size=200")
    _documentation_url = HttpUrl("https://github.com/caronc/apprise/wiki")
    _description = "Publishes texts to any service that Apprise supports."

    url: SecretStr = Field(
        title="URL",
        description="The service's Apprise URL, with its secrets. Apprise's wiki lists the format of each service.",
        examples=["tgram://BOT_TOKEN/@my_channel", "matrixs://USER:PASSWORD@HOST/#room"],
    )


class AppriseChannel:
    """A service that Apprise supports, as a channel.

    Such a service neither lists its posts nor accepts a key. A run therefore never sends a text again if the first
    sending may have failed: the error asks a person to check.

    Raises:
        InvalidInput: Apprise does not recognise the block's URL.
    """

    def __init__(self, service: AppriseService) -> None:
        with extra("compose", "channels"):
            from apprise import Apprise

        # The UI saves a block without validating it.
        plugin = Apprise.instantiate(service.url.get_secret_value())
        if plugin is None:
            raise InvalidInput("url", "Apprise does not recognise it.", "See https://github.com/caronc/apprise/wiki.")
        self._plugin: NotifyBase = plugin

    @cached_property
    def rules(self) -> Rules:
        """The service's own limit for a text."""
        return Rules(channel=str(self._plugin.service_name), max_length=self._plugin.body_maxlen, measure=CODE_POINTS)

    def fit(self, draft: Draft) -> Variant:
        return fit(draft, self.rules)

    def publish(self, variant: Variant, key: str) -> Published:
        """Send a text; see `Channel`.

        Raises:
            Unconfirmed: the service did not confirm the text, now or in an earlier attempt.
        """
        from apprise import Apprise, NotifyFormat

        name = self.rules.channel
        digest = sha256(key.encode()).hexdigest()[:32]
        sent, taken = f"sent-{digest}", f"taken-{digest}"
        # Outside a flow run there is no second attempt.
        in_run = can_keep_notes()
        if in_run and not save_note(sent, name):
            if load_note(taken):
                return Published(())
            raise Unconfirmed(name)
        sender = Apprise()
        sender.add(self._plugin)
        if not sender.notify(body=variant.posts[0], body_format=NotifyFormat.TEXT):
            raise Unconfirmed(name)
        if in_run:
            save_note(taken, name)
        return Published(())


channel_of.register(AppriseService, AppriseChannel)
