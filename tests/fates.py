"""What may befall a worker that publishes a thread, step by step; and which of it a seed brings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from tests.proxy import Answer, OnStep, Phase, Silence, Step
from tests.support import LOGIN, WRITE

LOOK = "com.atproto.repo.getRecord"
UPLOAD = "com.atproto.repo.uploadBlob"
RESOLVE = "com.atproto.identity.resolveHandle"

PUBLISHING = (LOGIN, LOOK, UPLOAD, UPLOAD, RESOLVE, UPLOAD, LOOK, UPLOAD, WRITE)
"""The steps of a worker that finds nothing there: the first look is for the thread, the second for what it quotes."""

FINDING = (LOGIN, *[LOOK] * 6)
"""The steps of one that finds the thread: five posts, and no sixth."""

WRITE_STEP = len(PUBLISHING)
_AFTER_ALL = 10**9


@dataclass(frozen=True)
class Fate:
    """Trouble that may happen to a step.

    Args:
        strikes: when.
        says: what the worker gets in place of the answer.
        kills: whether it is the worker's end.
        late: whether the request is on its way still, and reaches the server later.
    """

    strikes: Phase
    says: Answer | Silence
    kills: bool = False
    late: bool = False


_BAD_GATEWAY = Answer(502, b"<html>Bad Gateway</html>", (("Content-Type", "text/html"),))
_TOO_MANY = Answer(429, b'{"error": "RateLimitExceeded", "message": "Rate Limit Exceeded"}')

DEATHS = {
    "killed before": Fate(Phase.BEFORE, Silence.HANG, kills=True),
    "killed during": Fate(Phase.DURING, Silence.HANG, kills=True),
    "killed after": Fate(Phase.AFTER, Silence.HANG, kills=True),
    "killed, arrives later": Fate(Phase.BEFORE, Silence.HANG, kills=True, late=True),
}
TROUBLES = {
    "request lost": Fate(Phase.BEFORE, Silence.DROP),
    "answer lost": Fate(Phase.DURING, Silence.DROP),
    "arrives later": Fate(Phase.BEFORE, Silence.DROP, late=True),
    "502 before": Fate(Phase.BEFORE, _BAD_GATEWAY),
    "502 after": Fate(Phase.DURING, _BAD_GATEWAY),
    "429": Fate(Phase.BEFORE, _TOO_MANY),
    "timed out": Fate(Phase.DURING, Silence.HANG),
    "refused from then on": Fate(Phase.BEFORE, Silence.GONE),
}
FATES = DEATHS | TROUBLES


@dataclass(frozen=True)
class Fault:
    """A fate, and the step of a worker that it befalls.

    Args:
        step: which one, the first being 1. A worker that does not come so far is spared.
        fate: a name in `FATES`.
        later: before which step from there a late request arrives, be it this worker's or the next one's.
    """

    step: int
    fate: str
    later: int = 1


Life = tuple[Fault, ...]
"""What befalls one worker."""


def in_turn() -> Iterator[tuple[Life, ...]]:
    """Each fate at each step, deaths first."""
    out_already = (Fault(WRITE_STEP, "killed during"),)
    for fates in (DEATHS, TROUBLES):
        for fate in fates:
            yield from (((Fault(step, fate),),) for step in range(1, WRITE_STEP + 1))
        for fate in fates:
            yield from ((out_already, (Fault(step, fate),)) for step in range(1, len(FINDING) + 1))
        # The write of a dead worker, or one that seemed lost, arrives before each of the next worker's steps and last.
        for fate in (name for name in fates if fates[name].late):
            yield from (((Fault(WRITE_STEP, fate, later),),) for later in range(2, WRITE_STEP + 1))
            yield ((Fault(WRITE_STEP, fate, _AFTER_ALL),),)
        # A worker whose write got no answer looks for itself.
        for fate in fates:
            for step in range(WRITE_STEP + 1, WRITE_STEP + len(FINDING)):
                yield ((Fault(WRITE_STEP, "answer lost"), Fault(step, fate)),)


def by_chance(seed: int) -> tuple[Life, ...]:
    """Return one to three workers in a row that die, some of them after other trouble."""
    chance = Random(seed)
    return tuple(_ill_fated(chance) for _ in range(chance.randint(1, 3)))


def _ill_fated(chance: Random) -> Life:
    last = chance.choice(
        (chance.randint(1, WRITE_STEP), WRITE_STEP, chance.randint(WRITE_STEP, WRITE_STEP + len(FINDING)))
    )
    before = chance.sample(range(1, last), min(last - 1, chance.randint(0, 2)))
    fates = [*((step, chance.choice(list(TROUBLES))) for step in sorted(before)), (last, chance.choice(list(DEATHS)))]
    return tuple(Fault(step, fate, chance.randint(1, 2 * WRITE_STEP)) for step, fate in fates)


def scenario(seed: int) -> tuple[Life, ...]:
    """The trouble of a run's workers, before the last one is left alone."""
    planned = list(in_turn())
    return planned[seed - 1] if 0 < seed <= len(planned) else by_chance(seed)


class Destiny:
    """Brings upon the workers of one run what was planned for them.

    Attributes:
        struck: how often which fate befell which step of which method.
        deaths: how many workers were killed.
    """

    def __init__(self) -> None:
        self.struck: Counter[tuple[str, int, str]] = Counter()
        self.deaths = 0
        self._late: list[tuple[int, Step]] = []

    def of(self, life: Life, kill: Callable[[], None]) -> OnStep:
        """The trouble of one worker's steps, which come one after another.

        Args:
            life: what was planned for it.
            kill: kills it.
        """
        faults = {fault.step: fault for fault in life}

        def on_step(step: Step, phase: Phase) -> Answer | Silence | None:
            if phase is Phase.BEFORE:
                self._deliver(1)
            fault = faults.get(step.number)
            if fault is None or FATES[fault.fate].strikes is not phase:
                return None
            fate = FATES[fault.fate]
            self.struck[fault.fate, step.number, step.method] += 1
            if fate.late:
                self._late.append((fault.later, step))
            if fate.kills:
                self.deaths += 1
                kill()
            return fate.says

        return on_step

    def fulfil(self) -> None:
        """Let everything arrive that is on its way still."""
        self._deliver(_AFTER_ALL)

    def _deliver(self, steps: int) -> None:
        due = [step for left, step in self._late if left <= steps]
        self._late = [(left - steps, step) for left, step in self._late if left > steps]
        for step in due:
            step.send()
