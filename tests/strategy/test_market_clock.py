"""Market time: runs with the wall clock between beacons, stands still between a feed's."""

from __future__ import annotations

from protocol.clock import ManualClock
from protocol.messages import Beacon
from strategy.market_clock import MarketClock

WALL_MS = 1_700_000_000_000


def beacon(*, market_ms: int, wall_ms: int = WALL_MS) -> Beacon:
    return Beacon(1, 0, wall_ms, market_ms, "log1", 0, {}, {}, "connected", "active", 0, "configured")


def test_wall_clock_runs_on_between_beacons_and_ticks_do_not_move_it() -> None:
    clock = ManualClock()
    market = MarketClock(clock)
    assert market.now_ms() == 0
    market.on_beacon(beacon(market_ms=WALL_MS))
    clock.advance(0.4)
    market.on_time(WALL_MS + 90_000)
    assert market.now_ms() == WALL_MS + 400


def test_market_time_never_goes_back() -> None:
    clock = ManualClock()
    market = MarketClock(clock)
    market.on_beacon(beacon(market_ms=WALL_MS))
    clock.advance(1.0)
    assert market.now_ms() == WALL_MS + 1000
    market.on_beacon(beacon(market_ms=WALL_MS + 900))
    assert market.now_ms() == WALL_MS + 1000


def test_feed_s_clock_moves_with_beacons_and_ticks_only() -> None:
    clock = ManualClock()
    market = MarketClock(clock)
    market.on_beacon(beacon(market_ms=5_000))
    clock.advance(10.0)
    assert market.now_ms() == 5_000
    market.on_time(7_000)
    assert market.now_ms() == 7_000
