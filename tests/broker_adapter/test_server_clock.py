"""Server time, market time and conversions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from broker_adapter.api_types import ApiDeal, ApiOrder, ApiPosition
from broker_adapter.conversion import deal_from, order_from, position_from
from broker_adapter.server_clock import ServerClock, parse_setting
from market.server_time import ServerTimeRule
from mt5bus.errors import ConfigError
from protocol.clock import ManualClock
from protocol.ticks import RATE_DTYPE, TICK_DTYPE, rates_array, ticks_array
from tests.broker_adapter.fake_api import TradeDeal, TradeOrder, TradePosition, filled

HOUR_MS = 3_600_000
WINTER = 1_795_000_000_000  # November 2026


def clock_of(
    folder: Path, *, setting: str = "auto", feed: bool = False, wall: ManualClock | None = None
) -> ServerClock:
    return ServerClock(wall or ManualClock(wall_ms=WINTER), setting=setting, feed=feed, symbols=2, folder=folder)


@pytest.mark.parametrize(
    ("text", "offset_h"), [("utc", 0), ("utc+3", 3), ("utc-5", -5), ("utc+5:30", 5.5), ("ny+7", 2), ("fixed:+60", 1)]
)
def test_settings_name_rules(text: str, offset_h: float) -> None:
    rule = parse_setting(text)
    assert rule is not None
    assert rule.offset_ms(WINTER) == offset_h * HOUR_MS


def test_a_wrong_setting_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"adapter\.server_time"):
        parse_setting("moon+3")


def test_it_is_assumed_until_measured_and_remembered_after(tmp_path: Path) -> None:
    wall = ManualClock(wall_ms=WINTER)
    changes: list[ServerTimeRule] = []
    clock = clock_of(tmp_path, wall=wall)
    clock._on_change = changes.append
    assert (clock.status, clock.known, clock.offset_minutes) == ("assumed", False, 120)
    for _ in range(6):
        wall.advance(1)
        for symbol in ("A", "B"):
            clock.observe(symbol, wall.wall_ms() + 5 * HOUR_MS - 300)
    assert (clock.status, clock.known, clock.offset_minutes) == ("measured", True, 300)
    assert len(changes) == 1
    again = clock_of(tmp_path, wall=wall)
    assert (again.status, again.offset_minutes) == ("assumed", 300)


def test_a_feeds_clock_is_its_newest_tick(tmp_path: Path) -> None:
    clock = clock_of(tmp_path, feed=True)
    assert clock.market_ms() == 0
    assert clock.known
    clock.observe("A", 1_399_248_000_040 + 3 * HOUR_MS)  # summer: New York + 7 is three hours ahead
    clock.observe("B", 1_399_248_000_000 + 3 * HOUR_MS)
    assert clock.market_ms() == 1_399_248_000_040


def test_records_become_utc(tmp_path: Path) -> None:
    clock = clock_of(tmp_path, setting="utc+2")
    ticks = np.zeros(2, TICK_DTYPE)
    ticks["time_msc"] = [WINTER + 1, WINTER + 1001]
    ticks["bid"] = [1.5, 2.5]
    moved = ticks_array(clock.ticks_to_utc(ticks.tobytes()))
    assert moved["time_msc"].tolist() == [WINTER + 1 - 2 * HOUR_MS, WINTER + 1001 - 2 * HOUR_MS]
    assert moved["time"].tolist() == [(WINTER - 2 * HOUR_MS) // 1000, (WINTER - 2 * HOUR_MS) // 1000 + 1]
    assert moved["bid"].tolist() == [1.5, 2.5]
    rates = np.zeros(1, RATE_DTYPE)
    rates["time"] = WINTER // 1000
    assert rates_array(clock.rates_to_utc(rates.tobytes()))["time"][0] == (WINTER - 2 * HOUR_MS) // 1000
    assert clock.ticks_to_utc(b"") == b""


def test_values_become_canonical_and_utc(tmp_path: Path) -> None:
    clock = clock_of(tmp_path, setting="utc+2")
    names = {"EURUSD.m": "EURUSD"}.get

    def canonical(broker: str) -> str:
        return names(broker) or broker

    position = filled(TradePosition, ApiPosition, symbol="EURUSD.m", time=WINTER // 1000, time_msc=WINTER + 7)
    made = position_from(ApiPosition(*position), to_utc_ms=clock.to_utc_ms, canonical=canonical)
    assert (made.symbol, made.time_ms, made.time_update_ms) == ("EURUSD", WINTER + 7 - 2 * HOUR_MS, 0)
    order = filled(TradeOrder, ApiOrder, symbol="OTHER", time_setup=WINTER // 1000)
    active = order_from(ApiOrder(*order), to_utc_ms=clock.to_utc_ms, canonical=canonical)
    assert (active.symbol, active.time_setup_ms, active.time_done_ms, active.time_expiration_ms) == (
        "OTHER",
        WINTER - 2 * HOUR_MS,
        0,
        0,
    )
    deal = deal_from(
        ApiDeal(*filled(TradeDeal, ApiDeal, time=WINTER // 1000)), to_utc_ms=clock.to_utc_ms, canonical=canonical
    )
    assert (deal.symbol, deal.time_ms) == ("", WINTER - 2 * HOUR_MS)
