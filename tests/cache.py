"""What is made once and serves all later test runs, outside the repository."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return a directory of the cache, after making it if that was never done.

    Args:
        name: the name of the directory, with the versions of what it is made of.
        make: makes the directory at the given path.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prefect-bluesky"
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / name
    with (cache / f"making-{name}").open("w") as turn:
        # Test runs that meet here make it once.
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=cache, prefix="making-", ignore_cleanup_errors=True) as temporary:
                staging = Path(temporary) / name
                make(staging)
                staging.rename(target)
    return target
