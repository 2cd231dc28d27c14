"""When to try again: exponential backoff with jitter, and the circuit breaker. Pure: time and chance are handed in."""

from __future__ import annotations

from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]


def backoff_s(failures: int, *, first_s: float, max_s: float, chance: float) -> float:
    """Return the pause after `failures` failures in a row, seconds.

    It doubles from `first_s` up to `max_s`; `chance` (0 to 1) spreads it over its upper half, so that several
    adapters that lost the same server do not come back in step.
    """
    doublings = min(max(failures - 1, 0), 30)
    full_s = min(first_s * 2.0**doublings, max_s)
    return float(full_s * (0.5 + 0.5 * min(max(chance, 0.0), 1.0)))


class Breaker:
    """Opens after some failures in a row; while it is open nothing is tried.

    After its time it is half open: one try is let through. That one succeeding closes it; failing opens it for twice
    the time, up to a limit.
    """

    def __init__(self, *, failures: int, open_s: float, max_s: float) -> None:
        self._limit = failures
        self._first_open_ns = round(open_s * 1e9)
        self._max_open_ns = round(max_s * 1e9)
        self._open_ns = self._first_open_ns
        self._failures = 0
        self._open_until_ns: int | None = None
        self._trying = False
        self.times_opened = 0

    def state(self, now_ns: int) -> BreakerState:
        """Return ``closed``, ``open`` or ``half_open`` at the monotonic time `now_ns`."""
        if self._open_until_ns is None:
            return "closed"
        return "open" if now_ns < self._open_until_ns else "half_open"

    def allows(self, now_ns: int) -> bool:
        """Return whether a try may be made now; in ``half_open`` this takes the one try there is."""
        state = self.state(now_ns)
        if state == "half_open":
            if self._trying:
                return False
            self._trying = True
            return True
        return state == "closed"

    def succeeded(self) -> None:
        """Close: a try succeeded."""
        self.reset()

    def failed(self, now_ns: int) -> None:
        """Count a failed try at `now_ns`."""
        if self._open_until_ns is not None:
            if now_ns < self._open_until_ns:
                return  # a try begun before it opened
            self._open_ns = min(self._open_ns * 2, self._max_open_ns)
            self._open(now_ns)
            return
        self._failures += 1
        if self._failures >= self._limit:
            self._open(now_ns)

    def not_tried(self) -> None:
        """Give a try back that `allows` let through: it came to nothing, so it says neither good nor bad."""
        self._trying = False

    def reset(self) -> None:
        """Close at once: a success, or a person's order."""
        self._failures = 0
        self._open_ns = self._first_open_ns
        self._open_until_ns = None
        self._trying = False

    def open_for_s(self, now_ns: int) -> float:
        """Return how long it still stays open, seconds."""
        return max(0, (self._open_until_ns or 0) - now_ns) / 1e9

    def _open(self, now_ns: int) -> None:
        self._open_until_ns = now_ns + self._open_ns
        self._trying = False
        self.times_opened += 1
