"""A worker of Prefect whose runs start at once. Nothing here knows of Bluesky, and no other room needs it."""

from prefect_bluesky.worker import warm
from prefect_bluesky.worker.worker import BlueskyWorker

__all__ = ["BlueskyWorker", "warm"]
