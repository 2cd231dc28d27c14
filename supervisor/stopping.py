"""Ending the whole system in order: who depends on others ends first; then whom they depended on.

A group ends by being asked, and is killed after the stop deadline of its members. A process that cannot even be killed
(something in the kernel holds it) does not keep the others from ending.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from protocol.clock import Clock
from supervisor.node_states import ALIVE, State
from supervisor.supervised import Supervised

UNKILLABLE_AFTER_S = 10.0

log = logging.getLogger(__name__)


class Stop:
    """One orderly stop, advanced at every turn of the loop.

    Args:
        groups: Ended one after the other.
        ask: Asks one process to end; returns whether there was a way to ask it. Without one it is killed at once.
        clock: For the time after which an unkillable process is left alone.
    """

    def __init__(
        self, groups: Iterable[Sequence[Supervised]], *, ask: Callable[[Supervised], bool], clock: Clock
    ) -> None:
        self._waiting = deque(groups)
        self._current: Sequence[Supervised] = ()
        self._ask = ask
        self._clock = clock
        self._left_alone_ns = 0

    def advance(self) -> bool:
        """Go on as far as possible without waiting; return whether everything has ended."""
        while all(process.state is State.STOPPED for process in self._current) or self._hopeless():
            if not self._waiting:
                return True
            self._begin(self._waiting.popleft())
        return False

    def _begin(self, group: Sequence[Supervised]) -> None:
        self._current = group
        self._left_alone_ns = self._clock.monotonic_ns() + round(UNKILLABLE_AFTER_S * 1e9)
        for process in group:
            lived = process.state in ALIVE
            process.stop()
            if lived and not self._ask(process):
                process.kill_now()

    def _hopeless(self) -> bool:
        if self._clock.monotonic_ns() < self._left_alone_ns:
            return False
        left = [process.name for process in self._current if process.state is not State.STOPPED]
        log.error("processes that cannot be ended are left behind", extra={"names": left})
        return True
