"""Any service that Apprise reaches, as a channel: Telegram, Matrix, Slack, e-mail and over a hundred more."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr

from prefect_bluesky.channels.base import Channel, Published, channel_of
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.channels.fitting import Rules, Variant, fit
from prefect_bluesky.errors import InvalidInput, Unconfirmed
from prefect_bluesky.extras import extra
from prefect_bluesky.posts import Measure, find_entities
from prefect_bluesky.prefect_api import can_keep_notes, load_note, save_note

if TYPE_CHECKING:
    from apprise.plugins.base import NotifyBase

CODE_POINTS = Measure(find_entities, lambda text, entity: text[entity.start : entity.end], length=len)
"""As Apprise counts, and cuts what is longer."""


class AppriseService(Block):
    """
    Publishes texts to a service that Apprise reaches, such as a Telegram channel or a Matrix room.

    Example:
        Load a stored block and publish:
        ```python
        from prefect_bluesky import AppriseService
        from prefect_bluesky.channels import Draft, channel_of

        service = AppriseService.load("BLOCK_NAME")
        channel = channel_of(service)
        channel.publish(channel.fit(Draft(kind="hook", posts=("Hello from Prefect",))), key="hello")
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid")

    _block_type_name = "Apprise Service"
    _block_type_slug = "apprise-service"
    _logo_url = HttpUrl("https://github.com/caronc.png?size=200")
    _documentation_url = HttpUrl("https://github.com/caronc/apprise/wiki")
    _description = "Publishes texts to any of the services that Apprise reaches."

    url: SecretStr = Field(
        title="URL",
        description="Apprise's URL of the place. It holds its secrets: see Apprise's wiki for each service's form.",
        examples=["tgram://BOT_TOKEN/@my_channel", "matrixs://USER:PASSWORD@HOST/#room"],
    )


class AppriseChannel:
    """A place that Apprise reaches.

    Such a service neither tells what it has already nor takes a key, so a text whose fate is not known is not sent a
    second time by a run: a person is told to look.

    Args:
        service: its block.

    Raises:
        InvalidInput: Apprise knows no service by the block's URL.

    Example:
        >>> AppriseChannel(AppriseService(url="json://localhost/notices")).rules.channel
        'JSON'
    """

    def __init__(self, service: AppriseService) -> None:
        with extra("compose", "channels"):
            from apprise import Apprise

        # A block that is made in the UI is not checked when it is saved.
        plugin = Apprise.instantiate(service.url.get_secret_value())
        if plugin is None:
            raise InvalidInput("url", "Apprise knows no service by it.", "See https://github.com/caronc/apprise/wiki.")
        self._plugin: NotifyBase = plugin

    @cached_property
    def rules(self) -> Rules:
        """A text, as long as the service takes it."""
        return Rules(channel=str(self._plugin.service_name), max_length=self._plugin.body_maxlen, measure=CODE_POINTS)

    def fit(self, draft: Draft) -> Variant:
        """A draft as it goes out here; see `Channel`."""
        return fit(draft, self.rules)

    def publish(self, variant: Variant, key: str) -> Published:
        """Send a text; see `Channel`.

        Raises:
            Unconfirmed: the service did not confirm it, this time or before.
        """
        from apprise import Apprise, NotifyFormat

        name = self.rules.channel
        digest = sha256(key.encode()).hexdigest()[:32]
        sent, taken = f"sent-{digest}", f"taken-{digest}"
        # Elsewhere there is no other attempt.
        repeatable = can_keep_notes()
        if repeatable and not save_note(sent, name):
            if load_note(taken):
                return Published(())
            raise Unconfirmed(name)
        sender = Apprise()
        sender.add(self._plugin)
        if not sender.notify(body=variant.posts[0], body_format=NotifyFormat.TEXT):
            raise Unconfirmed(name)
        if repeatable:
            save_note(taken, name)
        return Published(())


@channel_of.register
def _(service: AppriseService) -> Channel:
    return AppriseChannel(service)
