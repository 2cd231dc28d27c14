"""A loop for tests: takes what other threads post, and runs it when told to."""

from __future__ import annotations

import queue
from collections.abc import Callable

from protocol.clock import Clock, ManualClock


class PostBox:
    """Stands in for `protocol.loop.Loop` where only `post` and `clock` are needed."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or ManualClock()
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def post(self, callback: Callable[[], None]) -> None:
        """Keep `callback` for the next `run`."""
        self._posted.put(callback)

    def run(self) -> bool:
        """Run what was posted; say whether there was anything."""
        ran = False
        while True:
            try:
                callback = self._posted.get_nowait()
            except queue.Empty:
                return ran
            ran = True
            callback()

    def run_next(self, timeout_s: float = 10.0) -> None:
        """Wait until something is posted, and run it.

        Raises:
            queue.Empty: Nothing was posted in time.
        """
        self._posted.get(timeout=timeout_s)()
