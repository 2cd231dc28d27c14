"""Showing the adapter that a strategy lives: every beacon that it has worked up to is repeated to the adapter.

The beacon comes through the same subscription and the same loop as ticks and bars, so its repetition shows that all of
it is open. A node that is dead, hangs or is busy repeats nothing, nor does a strategy that is not live.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from protocol.errors import BusError, NoAnswer, NoConnection
from protocol.event_follower import Asks
from protocol.messages import Beacon, StrategyAlive

_ANSWER_S = 5.0

log = logging.getLogger(__name__)


class Presence:
    """Speaks for one strategy.

    Args:
        orders: Asks the adapter's orders socket.
        is_live: Says whether live callbacks are being made.
    """

    def __init__(self, name: str, symbols: tuple[str, ...], *, orders: Asks, is_live: Callable[[], bool]) -> None:
        self._name = name
        self._symbols = symbols
        self._orders = orders
        self._is_live = is_live
        self._beacon: tuple[int, int] | None = None
        self._announced = False
        self._refused = ""

    def on_beacon(self, beacon: Beacon) -> None:
        """Repeat a beacon, once everything before it was handled."""
        self._beacon = (beacon.epoch, beacon.sent_ns)
        if self._is_live():
            self._say(leaving=False)

    def begin(self) -> None:
        """Say at once that the strategy is live: before its first order."""
        self._say(leaving=False)

    def leave(self) -> None:
        """Say that the strategy stops in order, if it was ever live."""
        if self._announced:
            self._announced = False
            self._say(leaving=True)

    def _say(self, *, leaving: bool) -> None:
        if self._beacon is None:
            return
        epoch, beacon_ns = self._beacon
        self._announced = not leaving
        self._orders.ask(
            lambda request_id: StrategyAlive(request_id, self._name, self._symbols, epoch, beacon_ns, leaving),
            on_reply=lambda _: None,
            on_error=self._on_error,
            deadline_s=_ANSWER_S,
        )

    def _on_error(self, error: BusError) -> None:
        # Without a connection there is nobody to tell, and the next beacon says it again.
        if not isinstance(error, NoConnection | NoAnswer) and error.text != self._refused:
            self._refused = error.text
            log.warning(
                "the adapter does not take this strategy's sign of life",
                extra={"strategy": self._name, "reason": error.text},
            )
