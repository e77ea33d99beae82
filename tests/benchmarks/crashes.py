"""Exactly once, whatever dies: threads published through killed workers, lost answers and late requests, and judged.

uv run tests/benchmarks/crashes.py --runs 500 --real 100 --json
uv run tests/benchmarks/crashes.py --only 137

A run is what its seed says, so a failing one can be seen again. The first seeds let each fate befall each step, in a
worker that publishes the thread and in one that finds it out already; those after them are left to chance. The last
worker of a run is left alone, and what lies on the PDS then is compared with what was written and what was answered.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from prefect.settings import PREFECT_API_URL, temporary_settings

# A script's own folder is on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).parents[2]))

from prefect_bluesky import sandbox
from tests.crashes import WRONGS, Run, Stage, run_all
from tests.fates import Life, scenario
from tests.pds import server


def measure(on_sandbox: Sequence[int], on_real: Sequence[int]) -> list[Run]:
    """Make the runs of these seeds."""
    plans: list[tuple[Stage, str, Sequence[Life]]] = []
    with ExitStack() as running:
        running.enter_context(temporary_settings(restore_defaults={PREFECT_API_URL}))
        if on_sandbox:
            stage = running.enter_context(closing(Stage(running.enter_context(sandbox.run()))))
            plans += [(stage, f"{seed}", scenario(seed)) for seed in on_sandbox]
        if on_real:
            stage = running.enter_context(closing(Stage(running.enter_context(server.run()))))
            plans += [(stage, f"{seed} --real 1", scenario(seed)) for seed in on_real]
        return run_all(plans)


def summary(runs: Sequence[Run]) -> dict[str, object]:
    """Return the outcomes as JSON."""
    struck = sum((each.destiny.struck for each in runs), Counter[tuple[str, int, str]]())
    faults: defaultdict[str, Counter[str]] = defaultdict(Counter)
    steps: Counter[int] = Counter()
    for (fate, step, method), times in struck.items():
        faults[fate][method.rsplit(".", 1)[1]] += times
        steps[step] += times
    return {
        "runs": len(runs),
        "workers": sum(each.lives for each in runs),
        "deaths": sum(each.destiny.deaths for each in runs),
        "faults": {fate: dict(methods) for fate, methods in faults.items()},
        "faults_by_step": dict(sorted(steps.items())),
        **{wrong: sum(wrong in each.wrong for each in runs) for wrong in WRONGS},
        "wrong_runs": [each.name for each in runs if each.wrong],
    }


def main() -> None:
    """Make the runs, and print what came of them; exits with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--runs", type=int, default=500, help="how many runs in all")
    parser.add_argument("--real", type=int, default=100, metavar="N", help="how many of them on a real PDS")
    parser.add_argument("--seed", type=int, default=1, help="the first seed, of the sandbox's runs and of the others")
    parser.add_argument("--only", type=int, metavar="SEED", help="this run alone; with --real 1 on a real PDS")
    arguments = parser.parse_args()
    # Workers inherit it: what they say of a session is not for here.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    first, runs, real = arguments.seed, arguments.runs, arguments.real
    if arguments.only is not None:
        first, runs, real = arguments.only, 1, int(real == 1)
    start = time.monotonic()
    made = measure(range(first, first + runs - real), range(first, first + real))
    found = {**summary(made), "seconds": round(time.monotonic() - start, 1)}
    for each in made:
        for wrong, what in each.wrong.items():
            print(f"--only {each.name}: {wrong}: {what}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name:16} {value}" for name, value in found.items()))
    sys.exit(any(each.wrong for each in made))


if __name__ == "__main__":
    main()
