"""How a benchmark tells what it has found: as JSON or lines, and as a chart of each figure beside its target."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.stage import Numbers


@dataclass(frozen=True)
class Target:
    """A figure, and what it should be.

    Attributes:
        label: what the figure says; may name other figures of its measure, such as `{accounts}`.
        measure: the measure that has found it.
        figure: its name there.
        value: what it should be, at most or at least.
        at_least: whether more is better.
        unit: what follows its value, such as "x".
    """

    label: str
    measure: str
    figure: str
    value: float
    at_least: bool = False
    unit: str = ""

    def is_met(self, value: float) -> bool:
        """Return whether a figure is as it should be."""
        return value >= self.value if self.at_least else value <= self.value

    def __str__(self) -> str:
        return f"target: {'at least' if self.at_least else 'at most'} {self.value:g}{self.unit}"


def tell(found: Mapping[str, Numbers], *, as_json: bool) -> None:
    """Print what the measures have found."""
    if as_json:
        print(json.dumps(found))
        return
    for name, numbers in found.items():
        print(f"{name:20} {_told(numbers)}")


def tell_round(round_: int, rounds: int, numbers: Numbers) -> None:
    """Say what a round has found: a run takes hours."""
    print(f"round {round_ + 1} of {rounds}: {_told(numbers)}", file=sys.stderr)


def _told(numbers: Numbers) -> str:
    """Return the figures of a measure as one line."""
    return ", ".join(f"{what} {value:.3g}" for what, value in numbers.items())


def draw(found: Mapping[str, Numbers], targets: Sequence[Target], path: Path) -> None:
    """Draw each figure that was found beside its target."""
    from matplotlib import pyplot

    shown = [(target, found[target.measure]) for target in targets if target.measure in found]
    size = (8, 1.1 * len(shown) + 0.6)
    figure, axes = pyplot.subplots(len(shown), squeeze=False, figsize=size, constrained_layout=True)
    for axis, (target, numbers) in zip(axes[:, 0], shown, strict=True):
        value = float(numbers[target.figure])
        axis.barh([0], [value], color="#208b3a" if target.is_met(value) else "#c9184a", height=0.5)
        axis.axvline(target.value, color="black", linestyle="--", linewidth=1)
        axis.text(target.value, 0.42, f" {target}", fontsize=8, va="bottom")
        axis.text(value, 0, f" {value:.3g}{target.unit}", fontsize=9, va="center")
        axis.set_xlim(0, 1.35 * max(value, target.value) or 1)
        axis.set_ylim(-0.4, 0.8)
        axis.set_yticks([0], [target.label.format(**numbers)], fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
