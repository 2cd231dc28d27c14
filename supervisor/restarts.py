"""When to restart what ended, and when to give up. Pure: times are handed in.

The first restart is at once. A process that ends again before it has been stable waits, twice as long each
time up to a limit. More than `max_restarts` within the window is a fault that restarting does not cure: give up,
say so, and let a person decide.
"""

from __future__ import annotations

from collections import deque

import msgspec


class RestartPolicy(msgspec.Struct, frozen=True):
    """How restarts are paced. Times in seconds."""

    backoff_first_s: float
    backoff_max_s: float
    max_restarts: int
    window_s: float

    @property
    def stable_after_s(self) -> float:
        """How long a process must have run for its end to count as the first of a row again."""
        return self.backoff_max_s


class RestartHistory:
    """The restarts of one process."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._times_s: deque[float] = deque()
        self._in_a_row = 0
        self.count = 0
        """Restarts granted in this history's life."""

    def after_end(self, *, now_s: float, ran_s: float) -> float | None:
        """Return the pause before the restart in seconds, or None: ended too often, give up.

        Args:
            now_s: Monotonic time of the end.
            ran_s: How long it ran; 0 if it could not be started.
        """
        if ran_s >= self._policy.stable_after_s:
            self._in_a_row = 0
        while self._times_s and now_s - self._times_s[0] > self._policy.window_s:
            self._times_s.popleft()
        if len(self._times_s) >= self._policy.max_restarts:
            return None
        pause_s = backoff_s(self._in_a_row, first_s=self._policy.backoff_first_s, max_s=self._policy.backoff_max_s)
        self._times_s.append(now_s)
        self._in_a_row += 1
        self.count += 1
        return pause_s

    def forgive(self) -> None:
        """Start counting anew: a person asked for the restart."""
        self._times_s.clear()
        self._in_a_row = 0


def backoff_s(in_a_row: int, *, first_s: float, max_s: float) -> float:
    """Return the pause before a restart: 0 for the first in a row, then `first_s` doubled each time.

    Raises:
        ValueError: `in_a_row` is negative.
    """
    if in_a_row < 0:
        raise ValueError("the number of restarts in a row cannot be negative")
    if in_a_row == 0:
        return 0.0
    # The exponent is bounded: past 64 doublings every limit is reached, and a float would overflow.
    return min(max_s, first_s * 2.0 ** min(in_a_row - 1, 64))
