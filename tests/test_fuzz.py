"""Careless calendars, ideas, feeds and pages: no traceback, no loss in silence, and each refusal with a place.

`tests/benchmarks/fuzz.py` tries more of them, for as long as one likes.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzzing import CASES

_OVER_HTTP = {"feeds", "pages"}


@pytest.mark.usefixtures("loopback_is_allowed")
@pytest.mark.parametrize("kind", CASES)
def test_nothing_is_lost_in_silence(kind: str, tmp_path: Path) -> None:
    seeds = range(60 if kind in _OVER_HTTP else 1000)
    faults = {seed: found for seed in seeds if (found := CASES[kind](Random(seed), tmp_path).faults)}
    assert faults == {}
