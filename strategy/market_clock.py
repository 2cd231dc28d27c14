"""Market time in a strategy's process, taken from what the adapter publishes."""

from __future__ import annotations

from protocol.clock import Clock
from protocol.messages import Beacon

_WALL_TOLERANCE_MS = 2_000


class MarketClock:
    """Tells market time, UTC milliseconds; it never goes back while the adapter's log of time does not.

    Where the adapter's market time is its wall clock, time runs on between beacons. A file feed's clock may run at any
    speed: there it moves with beacons and ticks only.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beacon_ms = 0
        self._beacon_ns = 0
        self._follows_wall = False
        self._newest_ms = 0

    def on_beacon(self, beacon: Beacon) -> None:
        """Take the adapter's word."""
        self._beacon_ms = beacon.market_ms
        self._beacon_ns = self._clock.monotonic_ns()
        self._follows_wall = abs(beacon.market_ms - beacon.wall_ms) <= _WALL_TOLERANCE_MS
        self._newest_ms = max(self._newest_ms, beacon.market_ms)

    def on_time(self, time_ms: int) -> None:
        """Take the time of a tick or an event: on a file feed nothing tells the time sooner."""
        if not self._follows_wall:
            self._newest_ms = max(self._newest_ms, time_ms)

    def now_ms(self) -> int:
        """Return market time, UTC milliseconds; 0 before anything was heard."""
        if self._follows_wall:
            elapsed_ms = (self._clock.monotonic_ns() - self._beacon_ns) // 1_000_000
            self._newest_ms = max(self._newest_ms, self._beacon_ms + elapsed_ms)
        return self._newest_ms
