"""The faults that a test has arranged for the next calls of a method."""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass

from .xrpc import Answer


@dataclass(frozen=True)
class Fault:
    """The faults of one call.

    Attributes:
        failure: the answer given instead of handling the call.
        delay: seconds before the answer is sent.
        drop: True to close the connection instead of answering.
    """

    failure: Answer | None = None
    delay: float = 0.0
    drop: bool = False


class Faults:
    """The arranged faults, by method. Failures, delays and drops have separate queues.

    Example:
        >>> faults = Faults()
        >>> faults.drop("com.atproto.repo.createRecord", times=1)
        >>> faults.take("com.atproto.repo.createRecord").drop, faults.take("com.atproto.repo.createRecord").drop
        (True, False)
    """

    def __init__(self) -> None:
        self._failures: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self._delays: defaultdict[str, deque[float]] = defaultdict(deque)
        self._drops: Counter[str] = Counter()

    def fail(self, nsid: str, failure: Answer, times: int) -> None:
        """Answer the next calls with `failure`."""
        self._failures[nsid].extend([failure] * times)

    def delay(self, nsid: str, seconds: float, times: int) -> None:
        """Delay the answers to the next calls."""
        self._delays[nsid].extend([seconds] * times)

    def drop(self, nsid: str, times: int) -> None:
        """Drop the connections of the next calls."""
        self._drops[nsid] += times

    def take(self, nsid: str) -> Fault:
        """Return the fault of an incoming call, and remove the fault from the queue."""
        failures, delays = self._failures[nsid], self._delays[nsid]
        drop = self._drops[nsid] > 0
        self._drops[nsid] -= drop
        return Fault(failures.popleft() if failures else None, delays.popleft() if delays else 0.0, drop)
