"""The synthetic market: the same for the same seed at the same time, and shaped like foreign exchange."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_terminal.feeds import FeedError, SyntheticFeed, SyntheticSymbol
from paper_terminal.records import TICK_DTYPE, Records

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# Wednesday 2025-11-19 00:00 UTC.
WEDNESDAY_MS = 1_763_510_400_000

EURUSD = SyntheticSymbol(name="EURUSD", price=1.1, digits=5, ticks_per_second=1.0)
XAUUSD = SyntheticSymbol(name="XAUUSD", price=2400.0, digits=2, spread_points=18, ticks_per_second=0.5)


def feed(*, start_ms: int = WEDNESDAY_MS, seed: int = 7, weekends: bool = True) -> SyntheticFeed:
    return SyntheticFeed(seed, (EURUSD, XAUUSD), start_ms=start_ms, weekends=weekends)


@pytest.fixture(scope="module")
def day() -> Records:
    return feed().history("EURUSD", WEDNESDAY_MS - DAY_MS, WEDNESDAY_MS - 1)


def test_restarted_feed_finds_the_same_market() -> None:
    first = feed(start_ms=WEDNESDAY_MS)
    later = feed(start_ms=WEDNESDAY_MS + 90 * 60_000)
    wanted = (WEDNESDAY_MS - HOUR_MS, WEDNESDAY_MS + 3 * HOUR_MS)
    for symbol in first.symbols:
        assert np.array_equal(first.history(symbol, *wanted), later.history(symbol, *wanted))


def test_another_seed_is_another_market() -> None:
    wanted = ("EURUSD", WEDNESDAY_MS, WEDNESDAY_MS + HOUR_MS)
    assert not np.array_equal(feed(seed=1).history(*wanted), feed(seed=2).history(*wanted))


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 3 * HOUR_MS), max_size=12))
def test_ticks_taken_in_any_steps_are_the_history(cuts: list[int]) -> None:
    live = feed()
    end_ms = WEDNESDAY_MS + 3 * HOUR_MS
    taken: dict[str, list[Records]] = {symbol: [] for symbol in live.symbols}
    for until_ms in [*sorted(WEDNESDAY_MS + cut for cut in cuts), end_ms]:
        for symbol, ticks in live.take(until_ms):
            assert len(ticks)
            taken[symbol].append(ticks)
    for symbol, parts in taken.items():
        assert np.array_equal(np.concatenate(parts), live.history(symbol, WEDNESDAY_MS, end_ms))


def test_take_gives_nothing_twice_and_nothing_when_time_goes_back() -> None:
    live = feed()
    assert live.take(WEDNESDAY_MS + HOUR_MS)
    assert live.take(WEDNESDAY_MS + HOUR_MS) == []
    assert live.take(WEDNESDAY_MS) == []


def test_next_time_is_that_of_the_next_tick_taken() -> None:
    live = feed()
    for _ in range(50):
        due_ms = live.next_time_ms()
        assert live.take(due_ms - 1) == []
        ticks = live.take(due_ms)
        assert {int(time) for _, part in ticks for time in part["time_msc"]} == {due_ms}


def test_history_bounds_are_inclusive(day: Records) -> None:
    first, last = int(day["time_msc"][10]), int(day["time_msc"][500])
    part = feed().history("EURUSD", first, last)
    assert int(part["time_msc"][0]) == first
    assert int(part["time_msc"][-1]) == last
    assert len(feed().history("EURUSD", last, first)) == 0


def test_records_are_ordered_on_the_digits_grid_and_never_crossed(day: Records) -> None:
    assert day.dtype == TICK_DTYPE
    assert np.all(np.diff(day["time_msc"]) >= 0)
    assert np.array_equal(day["time"], day["time_msc"] // 1000)
    assert np.all(day["bid"] < day["ask"])
    assert np.all(day["bid"] > 0)
    for side in ("bid", "ask"):
        assert np.array_equal(day[side], np.round(day[side], 5))


def test_flags_tell_which_side_changed(day: Records) -> None:
    bid_changed, ask_changed = np.diff(day["bid"]) != 0, np.diff(day["ask"]) != 0
    expected = 2 * bid_changed + 4 * ask_changed
    hour_began = np.diff(day["time_msc"] // HOUR_MS) != 0
    assert np.array_equal(day["flags"][1:][~hour_began], expected[~hour_began])
    assert np.all(day["flags"] > 0)


def test_tick_rate_and_daily_move_are_near_what_was_asked() -> None:
    week = feed().history("EURUSD", WEDNESDAY_MS - 7 * DAY_MS, WEDNESDAY_MS)
    assert len(week) / (7 * 86_400) == pytest.approx(1.0, rel=0.15)
    at = np.searchsorted(week["time_msc"], np.arange(WEDNESDAY_MS - 7 * DAY_MS + 60_000, WEDNESDAY_MS, 60_000))
    minute_moves = np.diff(np.log(week["bid"][at - 1]))
    assert minute_moves.std() * 1440**0.5 == pytest.approx(0.006, rel=0.4)


def test_no_jump_at_the_hour(day: Records) -> None:
    """The bridge joins the hours: the step over a boundary is like any other of its length."""
    boundary = np.flatnonzero(np.diff(day["time_msc"] // HOUR_MS))
    steps = np.abs(np.diff(day["bid"]))
    assert steps[boundary].max() < 6 * steps.mean() + 20e-5


def test_volatility_comes_in_clusters() -> None:
    week = feed().history("EURUSD", WEDNESDAY_MS - 7 * DAY_MS, WEDNESDAY_MS)
    at = np.searchsorted(week["time_msc"], np.arange(WEDNESDAY_MS - 7 * DAY_MS + 60_000, WEDNESDAY_MS, 60_000))
    size = np.abs(np.diff(np.log(week["bid"][at - 1])))
    assert np.corrcoef(size[1:], size[:-1])[0, 1] > 0.1


def test_london_is_busier_than_the_rollover_and_its_spread_tighter(day: Records) -> None:
    hour = day["time_msc"] // HOUR_MS % 24
    assert (hour == 14).sum() > 2 * (hour == 22).sum()
    spread = day["ask"] - day["bid"]
    minute = day["time_msc"] // 60_000 % 1440
    rollover = (minute >= 22 * 60 - 5) & (minute <= 22 * 60 + 5)
    assert np.median(spread[rollover]) > 2 * np.median(spread[hour == 14])


def test_market_closed_at_weekends_when_asked() -> None:
    friday_evening_ms = WEDNESDAY_MS + 2 * DAY_MS + 22 * HOUR_MS
    sunday_evening_ms = friday_evening_ms + 2 * DAY_MS
    closed = feed(start_ms=friday_evening_ms, weekends=False)
    assert len(closed.history("EURUSD", friday_evening_ms, sunday_evening_ms - 1)) == 0
    assert sunday_evening_ms <= closed.next_time_ms() < sunday_evening_ms + 60_000
    before = closed.history("EURUSD", friday_evening_ms - HOUR_MS, friday_evening_ms)["bid"][-1]
    after = closed.history("EURUSD", sunday_evening_ms, sunday_evening_ms + HOUR_MS)["bid"][0]
    assert after == pytest.approx(before, rel=0.001)


def test_weekend_is_quoted_by_default() -> None:
    saturday_ms = WEDNESDAY_MS + 3 * DAY_MS
    assert len(feed().history("EURUSD", saturday_ms, saturday_ms + HOUR_MS)) > 100


def test_unknown_symbol_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        feed().history("GBPUSD", WEDNESDAY_MS, WEDNESDAY_MS)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"price": float("nan")}, "price"),
        ({"price": 0.0}, "price"),
        ({"digits": 9}, "digits"),
        ({"daily_volatility": 0.0}, "daily_volatility"),
        ({"spread_points": 0}, "spread_points"),
        ({"ticks_per_second": 0.0}, "ticks_per_second"),
        ({"name": ""}, "name"),
    ],
)
def test_bad_symbol_settings_are_refused_by_name(change: dict[str, float], named: str) -> None:
    settings_ = {"name": "EURUSD", "price": 1.1, "digits": 5} | change
    with pytest.raises(FeedError, match=named):
        SyntheticSymbol(**settings_)  # type: ignore[arg-type]


def test_bad_feed_settings_are_refused() -> None:
    with pytest.raises(FeedError, match="at least one"):
        SyntheticFeed(1, (), start_ms=0)
    with pytest.raises(FeedError, match="twice"):
        SyntheticFeed(1, (EURUSD, EURUSD), start_ms=0)
    with pytest.raises(FeedError, match="start_ms"):
        SyntheticFeed(1, (EURUSD,), start_ms=-1)


def test_deals_of_a_market_charted_by_last_are_at_the_bid() -> None:
    symbol = SyntheticSymbol(name="SBER", price=300.0, digits=2, deals=True)
    feed = SyntheticFeed(3, [symbol], start_ms=1_772_000_000_000)
    ticks = feed.history("SBER", 1_772_000_000_000, 1_772_000_600_000)
    assert len(ticks) > 100
    assert (ticks["last"] == ticks["bid"]).all()
    assert (ticks["flags"] & 0b111000 == 0b011000).all()
    assert (ticks["volume"] == ticks["volume_real"]).all()
    bars = feed.minute_bars("SBER", 1_772_000_000_000, 1_772_003_600_000)
    assert (bars["real_volume"] == bars["tick_volume"]).all()
