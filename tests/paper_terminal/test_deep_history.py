"""Bars older than the ticks: built alike at every period, joined to the bars from ticks."""

from __future__ import annotations

import numpy as np
import pytest

from paper_terminal import constants as api
from paper_terminal.deep_history import DeepHistory, grouped
from paper_terminal.feeds import SyntheticFeed
from paper_terminal.history import SymbolHistory, TooMuch, bar_opens
from paper_terminal.records import Records
from paper_terminal.server_time import ServerTimeRule

HOUR_MS = 3_600_000
UNTIL_MS = 1_772_000_000_000 // HOUR_MS * HOUR_MS
DAY_S = 86_400


def history(rule: str | int = "ny+7", days: int = 400) -> SymbolHistory:
    feed = SyntheticFeed(3, start_ms=UNTIL_MS, clock="feed", weekends=False)
    made = SymbolHistory(ServerTimeRule(rule), point=1e-5)
    made.append(feed.history("EURUSD", UNTIL_MS, UNTIL_MS + 3 * HOUR_MS))
    source = lambda from_ms, to_ms: feed.minute_bars("EURUSD", from_ms, to_ms)  # noqa: E731
    first_ms = UNTIL_MS - days * DAY_S * 1000
    made.deepen(DeepHistory(ServerTimeRule(rule), source, first_ms=first_ms, until_ms=UNTIL_MS, point=1e-5))
    return made


@pytest.mark.parametrize("timeframe", [api.TIMEFRAME_M15, api.TIMEFRAME_H1, api.TIMEFRAME_H4, api.TIMEFRAME_D1])
@pytest.mark.parametrize("rule", ["ny+7", 330])
def test_every_period_is_built_from_the_same_minutes(timeframe: int, rule: str | int) -> None:
    made = history(rule)
    to_s = UNTIL_MS // 1000 + 2 * DAY_S
    from_s = (to_s - 300 * DAY_S) // DAY_S * DAY_S
    minutes = made.bars_range(api.TIMEFRAME_M1, from_s, to_s)
    bars = made.bars_range(timeframe, from_s, to_s)
    assert (bars == grouped(minutes, bar_opens(minutes["time"], timeframe))).all()
    assert (np.diff(bars["time"]) > 0).all()
    assert (minutes["low"] <= np.minimum(minutes["open"], minutes["close"])).all()
    assert (minutes["high"] >= np.maximum(minutes["open"], minutes["close"])).all()


def test_as_many_bars_come_back_as_were_asked_for() -> None:
    made = history()
    for timeframe in (api.TIMEFRAME_M1, api.TIMEFRAME_M30, api.TIMEFRAME_H12, api.TIMEFRAME_W1):
        assert len(made.bars_from_position(timeframe, 3, 40)) == 40
        last_s = int(made.bars_from_position(timeframe, 20, 1)["time"][0])
        some = made.bars_from(timeframe, last_s, 10)
        assert len(some) == 10
        assert some["time"][-1] == last_s
    assert 50 < len(made.bars_from_position(api.TIMEFRAME_W1, 0, 5000)) < 62


@pytest.mark.parametrize("rule", ["ny+7", 330])
def test_ticks_make_the_bars_they_lie_behind(rule: str | int) -> None:
    made = history(rule)
    # A day in the depth, and one across the seam with the ticks that are held.
    for from_s in (UNTIL_MS // 1000 - 100 * DAY_S, UNTIL_MS // 1000 - DAY_S // 2):
        from_s = from_s // 3600 * 3600
        ticks = made.ticks_range(from_s, from_s + DAY_S, api.COPY_TICKS_ALL)
        bars = SymbolHistory(ServerTimeRule("utc"), point=1e-5)
        bars.append(ticks)
        expected = made.bars_range(api.TIMEFRAME_M1, from_s, from_s + DAY_S - 1)
        assert len(expected) > 600
        assert (bars.bars_range(api.TIMEFRAME_M1, from_s, from_s + DAY_S - 1) == expected).all()
        assert (np.diff(ticks["time_msc"]) >= 0).all()
        assert (ticks["ask"] > ticks["bid"]).all()
        assert (made.ticks_range(from_s + 900, from_s + 1000, api.COPY_TICKS_INFO) == _between(ticks, from_s)).all()


def _between(ticks: Records, from_s: int) -> Records:
    times = ticks["time_msc"]
    return ticks[(times >= (from_s + 900) * 1000) & (times <= (from_s + 1000) * 1000)]


def test_ticks_of_any_day_come_by_number_too() -> None:
    made = history()
    from_s = UNTIL_MS // 1000 - 200 * DAY_S
    some = made.ticks_from(from_s, 250_000, api.COPY_TICKS_ALL)
    assert len(some) == 250_000
    assert some["time"][0] >= from_s
    assert (made.ticks_from(from_s, 10, api.COPY_TICKS_ALL) == some[:10]).all()
    # To the last tick held, and no further; the first tick offered where the date is older.
    held = made.ticks_from(UNTIL_MS // 1000 - DAY_S, 10_000_000, api.COPY_TICKS_ALL)
    assert (held[-1] == made.last_tick()).all()
    assert len(made.ticks_from(1, 5, api.COPY_TICKS_ALL)) == 5
    assert not len(made.ticks_from(from_s, 10, api.COPY_TICKS_TRADE))


def test_more_ticks_than_memory_should_hold_are_refused() -> None:
    with pytest.raises(TooMuch):
        history().ticks_range(1, UNTIL_MS // 1000, api.COPY_TICKS_ALL)
