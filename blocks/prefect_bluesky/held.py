"""Posts that wait because their account cannot sign in: how a run is held, and how its post goes out later."""

from __future__ import annotations
