"""Rarely changed settings, by Prefect's convention for integrations.

Set them in the environment (`PREFECT_INTEGRATIONS_BLUESKY_REQUEST_TIMEOUT=60`), in `prefect.toml` or under
`[tool.prefect.integrations.bluesky]` in `pyproject.toml`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache
from importlib.metadata import version

from prefect.settings.base import PrefectBaseSettings, build_settings_config
from pydantic import Field


class BlueskySettings(PrefectBaseSettings):
    """The settings for every account of this process."""

    model_config = build_settings_config(("integrations", "bluesky"))

    did_directory_url: str = Field(
        default="https://plc.directory", description="The directory of did:plc accounts. A test network has its own."
    )
    request_timeout: float = Field(
        default=30, gt=0, description="Seconds that a server may take to answer. The SDK's 5 s would abort uploads."
    )
    min_validity: timedelta = Field(
        default=timedelta(minutes=10),
        ge=timedelta(),
        description="A session that expires sooner than this is refreshed before use.",
    )
    lock_lease: float = Field(
        default=60,
        ge=60,
        description="Seconds until another worker may take the lock of a worker that died. Prefect's minimum is 60.",
    )
    max_logins_per_day: int = Field(
        default=10, ge=1, description="Logins per account and 24 hours. The measured limits of Bluesky are 10 to 100."
    )
    points_per_hour: int = Field(
        default=5_000,
        ge=1_000,
        description="Points an account may spend on writes per hour; a post takes 3. A lower value leaves people some.",
    )
    points_per_day: int = Field(
        default=35_000, ge=1_000, description="Points an account may spend on writes per 24 hours."
    )
    refusal_cool_down: timedelta = Field(
        default=timedelta(hours=6), gt=timedelta(), description="The wait before a refused app password is tried again."
    )
    accounts_per_run: int = Field(
        default=250,
        ge=1,
        description="Accounts due in the same minute that one run publishes for. More accounts share several runs.",
    )
    hold_for: timedelta = Field(
        default=timedelta(days=7),
        gt=timedelta(),
        description="The time for which a post is held. Afterwards the post is not sent.",
    )
    held_spacing: timedelta = Field(
        default=timedelta(minutes=1),
        ge=timedelta(),
        description="The time between two held posts of an account, when the account works again.",
    )
    send_late: timedelta = Field(
        default=timedelta(days=1),
        ge=timedelta(),
        description="How long after its time a post of a calendar is still sent. Older posts are counted and named.",
    )
    contact: str = Field(
        default="",
        pattern=r"^[\x21-\x7e ]{0,200}$",
        description="An e-mail address or URL that each request names, so that a server's operator can ask you.",
    )
    aws_kms_key_id: str | None = Field(
        default=None,
        description="The KMS key that encrypts new secrets. Default: the AWS account's key for Secrets Manager.",
    )
    aws_tags: dict[str, str] = Field(default={}, description="Tags of new secrets, as JSON.")
    max_image_bytes: int = Field(
        default=976 * 1024,
        ge=50_000,
        le=2_000_000,
        description="The size limit of images. Bluesky now accepts 2,000,000 bytes, an older PDS 1,000,000.",
    )
    appview_url: str = Field(
        default="https://public.api.bsky.app", description="The AppView that counts likes, reposts, replies and quotes."
    )
    video_service_url: str = Field(
        default="https://video.bsky.app", description="The service that receives videos and makes them playable."
    )
    fetch_timeout: float = Field(
        default=10, gt=0, description="Seconds to load the page of a link card, or a file behind a URL."
    )
    allow_private_addresses: bool = Field(
        default=False,
        description="Allow URLs in posts to lead into private networks. Off: nobody can reach those this way.",
    )


def user_agent() -> str:
    """Return what every request of this package calls itself: its name, its version and whom to ask about it.

    Example:
        >>> user_agent().startswith("prefect-bluesky/")
        True
    """
    contact = current_settings().contact
    return f"prefect-bluesky/{version('prefect-bluesky')}" + (f" ({contact})" if contact else "")


def current_settings() -> BlueskySettings:
    """Return the settings. Reading takes 3 ms, so they are read again only if the environment has changed."""
    return _read(frozenset(item for item in os.environ.items() if item[0].startswith("PREFECT_")))


@lru_cache(maxsize=1)
def _read(environment: frozenset[tuple[str, str]]) -> BlueskySettings:
    return BlueskySettings()
