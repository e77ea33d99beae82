"""Settings that are rarely changed, by Prefect's convention for integrations.

Each is read from the environment (`PREFECT_INTEGRATIONS_BLUESKY_REQUEST_TIMEOUT=60`), from `prefect.toml` or from
`[tool.prefect.integrations.bluesky]` in `pyproject.toml`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache

from prefect.settings.base import PrefectBaseSettings, build_settings_config
from pydantic import Field


class BlueskySettings(PrefectBaseSettings):
    """How the plugin behaves for every account of this process."""

    model_config = build_settings_config(("integrations", "bluesky"))

    did_directory_url: str = Field(
        default="https://plc.directory", description="The directory of did:plc accounts; a test network has its own."
    )
    request_timeout: float = Field(
        default=30, gt=0, description="Seconds that a server may take to answer. The SDK's own 5 s cut uploads short."
    )
    min_validity: timedelta = Field(
        default=timedelta(minutes=10),
        ge=timedelta(),
        description="How long a session must still be valid for to be used without a refresh.",
    )
    lock_lease: float = Field(
        default=60,
        ge=60,
        description="Seconds until the lock of a worker that died goes to another; Prefect allows no less than 60.",
    )
    max_logins_per_day: int = Field(
        default=10,
        ge=1,
        description="Logins per account and 24 hours; Bluesky has been seen to allow no more than 10 to 100.",
    )
    points_per_hour: int = Field(
        default=5_000,
        ge=1_000,
        description="Points that an account may spend on writes in an hour; a post takes 3. Less leaves people some.",
    )
    points_per_day: int = Field(
        default=35_000, ge=1_000, description="Points that an account may spend on writes in 24 hours."
    )
    refusal_cool_down: timedelta = Field(
        default=timedelta(hours=6),
        gt=timedelta(),
        description="How long an app password that was refused is not tried again.",
    )
    hold_for: timedelta = Field(
        default=timedelta(days=7),
        gt=timedelta(),
        description="How long a post is held. After that it is not sent any more.",
    )
    aws_kms_key_id: str | None = Field(
        default=None,
        description="The KMS key that encrypts new secrets; left out, the account's own for Secrets Manager.",
    )
    aws_tags: dict[str, str] = Field(default={}, description="Tags of new secrets, as JSON.")
    max_image_bytes: int = Field(
        default=976 * 1024,
        ge=50_000,
        le=2_000_000,
        description="What an image is made to fit into. Bluesky takes 2,000,000 bytes by now, an older PDS 1,000,000.",
    )
    video_service_url: str = Field(
        default="https://video.bsky.app", description="The service that takes videos and makes them playable."
    )
    fetch_timeout: float = Field(
        default=10, gt=0, description="Seconds that the page of a link card, or a file behind a URL, may take in all."
    )
    allow_private_addresses: bool = Field(
        default=False,
        description="Whether URLs in posts may lead into private networks. Off: nobody reaches those through you.",
    )


def current_settings() -> BlueskySettings:
    """The settings; read once for as long as the environment stays the same, since reading them takes 3 ms."""
    return _read(frozenset(item for item in os.environ.items() if item[0].startswith("PREFECT_")))


@lru_cache(maxsize=1)
def _read(environment: frozenset[tuple[str, str]]) -> BlueskySettings:
    return BlueskySettings()
