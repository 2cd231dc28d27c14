"""The two clocks: one for durations, one for stamps. Handed in everywhere, so that tests turn them."""

from __future__ import annotations

import sys
import time
from typing import Protocol


class Clock(Protocol):
    """What a node reads time from."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never go back, comparable between processes of one machine."""
        ...

    def wall_ms(self) -> int:
        """Return UTC milliseconds since 1970."""
        ...


class SystemClock:
    """The machine's clocks."""

    if sys.platform == "win32" and sys.version_info < (3, 13):
        # time.monotonic ticks at 15.6 ms there; perf_counter is the same counter that 3.13 moved monotonic to.
        @staticmethod
        def monotonic_ns() -> int:
            """Return the performance counter in nanoseconds."""
            return time.perf_counter_ns()

    else:

        @staticmethod
        def monotonic_ns() -> int:
            """Return the monotonic clock in nanoseconds."""
            return time.monotonic_ns()

    @staticmethod
    def wall_ms() -> int:
        """Return UTC milliseconds since 1970."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that stands still until a test turns it."""

    def __init__(self, *, wall_ms: int = 1_700_000_000_000, monotonic_ns: int = 0) -> None:
        self._wall_ns = wall_ms * 1_000_000
        self._monotonic_ns = monotonic_ns

    def monotonic_ns(self) -> int:
        """Return nanoseconds turned so far."""
        return self._monotonic_ns

    def wall_ms(self) -> int:
        """Return UTC milliseconds since 1970."""
        return self._wall_ns // 1_000_000

    def advance(self, seconds: float) -> None:
        """Turn both clocks forward by `seconds`."""
        step = round(seconds * 1e9)
        self._monotonic_ns += step
        self._wall_ns += step
