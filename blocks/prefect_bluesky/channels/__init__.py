"""The places where posts go out, each with rules of its own.

A channel is a class with `rules`, `fit` and `publish`; see `Channel`.
"""

from prefect_bluesky.channels.channel import Channel, Published
from prefect_bluesky.channels.fitter import Rules, Variant, fit

__all__ = ["Channel", "Published", "Rules", "Variant", "fit"]
