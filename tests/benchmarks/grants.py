"""Posts of accounts by grants through seeded faults: what is lost or doubled, and how often an owner has to come.

uv run tests/benchmarks/grants.py --faults 500 --json
uv run tests/benchmarks/grants.py --seed 7 --faults 50

Each account has 25 faults, and its session in Secrets Manager or in Prefect. Nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from contextlib import ExitStack
from pathlib import Path

# A script's own folder is on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.stage import Stage
from tests.granted_faults import Found, Life
from tests.pds.client_host import ClientHost

_OF_ONE_ACCOUNT = 25


def measure(faults: int, seed: int) -> Found:
    """Let so many faults strike accounts, the first of which has this seed."""
    found = Found()
    with ExitStack() as stack:
        stage = Stage(stack)
        while (struck := found.faults.total()) < faults:
            with ClientHost(stage.pds) as host:
                Life(seed, stage.pds, host, stage.aws, found).live(min(_OF_ONE_ACCOUNT, faults - struck))
            seed += 1
            print(f"{found.faults.total()} of {faults} faults, wrong: {found.wrong}", file=sys.stderr)
    return found


def main() -> None:
    """Let the faults strike, and print what came of them; exits with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--faults", type=int, default=500, help="how many faults strike")
    parser.add_argument("--seed", type=int, default=1, help="the first account's; the others follow")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found = vars(measure(arguments.faults, arguments.seed))
    if arguments.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name:18} {value}" for name, value in found.items()))
    sys.exit(bool(found["wrong"]))


if __name__ == "__main__":
    main()
