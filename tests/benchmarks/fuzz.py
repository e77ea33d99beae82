"""Try careless calendars, ideas, feeds and pages for a time, and count what became of them.

    uv run tests/benchmarks/fuzz.py --minutes 60

It ends with 1 if anything was lost in silence or ended in a traceback.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from itertools import count
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzzing import CASES


def main() -> None:
    """Try one case of each kind in turn."""
    parser = argparse.ArgumentParser(description="Fuzz what people feed to calendars and compose.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--first-seed", type=int, default=1_000_000, help="the suite tries those from 0")
    arguments = parser.parse_args()
    os.environ["PREFECT_INTEGRATIONS_BLUESKY_ALLOW_PRIVATE_ADDRESSES"] = "true"
    logging.disable(logging.CRITICAL)
    ends_at = time.monotonic() + arguments.minutes * 60
    tried: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in count(arguments.first_seed):
            if time.monotonic() > ends_at:
                break
            for kind, case in CASES.items():
                tried[kind] += 1
                try:
                    outcome = case(Random(seed), Path(folder))
                except Exception:  # any traceback is what is looked for
                    faults.append(f"{kind} {seed}: {traceback.format_exc(limit=-3)}")
                else:
                    refused[kind] += bool(outcome.refused)
                    faults += [f"{kind} {seed}: {fault}" for fault in outcome.faults]
    for kind, times in tried.items():
        print(f"{kind}: {times:,} tried, {refused[kind]:,} refused")
    print(f"{len(faults)} faults", *faults[:20], sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
