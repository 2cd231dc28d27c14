"""Timeframes and the bar builder."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import Bar, BarBuilder, ServerTimeRule, Timeframe, period_open_utc_ms, period_opens_utc_ms

HOUR_MS = 3_600_000
NAMES = [
    *(f"S{n}" for n in (1, 5, 10, 30)),
    *(f"M{n}" for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)),
    *(f"H{n}" for n in (1, 2, 3, 4, 6, 8, 12)),
    "D1",
    "W1",
    "MN1",
]  # fmt: skip
NY = ServerTimeRule.parse("ny+7")
rules = st.sampled_from([NY, ServerTimeRule.parse("eu+2"), ServerTimeRule.parse("utc")])
frames = st.sampled_from(NAMES).map(Timeframe.parse)
moments = st.integers(1_000_000_000_000, 2_500_000_000_000)


def utc_ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


def test_codes_are_the_terminals() -> None:
    """Values from the MetaTrader5 package: minutes as they are, hours 0x4000 + n, and so on."""
    codes = {name: Timeframe.parse(name).mt5_code for name in NAMES}
    assert codes["S5"] is None
    assert codes["M1"] == 1
    assert codes["M30"] == 30
    assert codes["H1"] == 16385
    assert codes["H12"] == 16396
    assert (codes["D1"], codes["W1"], codes["MN1"]) == (16408, 32769, 49153)


@pytest.mark.parametrize("name", ["", "M7", "M60", "H5", "H24", "D2", "S60", "S7", "m1", "M01", "W2", "MN2", "M1 "])
def test_unknown_timeframe_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown timeframe"):
        Timeframe.parse(name)


def test_week_opens_on_sunday_and_month_on_its_first() -> None:
    wednesday = utc_ms(2025, 11, 19, 13, 5)
    assert Timeframe.parse("W1").open_time_ms(wednesday) == utc_ms(2025, 11, 16)
    assert Timeframe.parse("MN1").open_time_ms(wednesday) == utc_ms(2025, 11, 1)
    assert Timeframe.parse("MN1").next_open_ms(utc_ms(2025, 12, 1)) == utc_ms(2026, 1, 1)
    assert Timeframe.parse("H4").open_time_ms(wednesday) == utc_ms(2025, 11, 19, 12)


@given(frame=frames, time=moments)
def test_period_contains_its_time(frame: Timeframe, time: int) -> None:
    opened = frame.open_time_ms(time)
    assert opened <= time < frame.next_open_ms(opened)
    assert frame.open_time_ms(opened) == opened
    assert frame.open_times_ms(np.array([time])).tolist() == [opened]


def test_day_opens_at_the_servers_midnight() -> None:
    day = Timeframe.parse("D1")
    assert period_open_utc_ms(day, utc_ms(2025, 1, 15, 12), rule=NY) == utc_ms(2025, 1, 14, 22)
    assert period_open_utc_ms(day, utc_ms(2025, 7, 15, 12), rule=NY) == utc_ms(2025, 7, 14, 21)
    # The Sunday on which clocks go back has 25 hours; it opened under the former offset.
    assert period_open_utc_ms(day, utc_ms(2025, 11, 2, 21), rule=NY) == utc_ms(2025, 11, 1, 21)


@given(frame=frames, rule=rules, times=st.lists(moments, min_size=2, max_size=20))
def test_periods_never_go_back_and_arrays_agree(frame: Timeframe, rule: ServerTimeRule, times: list[int]) -> None:
    times.sort()
    opens = [period_open_utc_ms(frame, time, rule=rule) for time in times]
    assert opens == sorted(opens)
    assert all(opened <= time for opened, time in zip(opens, times, strict=True))
    assert period_opens_utc_ms(frame, np.array(times), rule=rule).tolist() == opens
    assert [period_open_utc_ms(frame, opened, rule=rule) for opened in opens] == opens


@given(frame=frames, minute=st.integers(0, 6 * 60), year=st.integers(2008, 2030))
def test_periods_are_right_around_the_change_of_clocks(frame: Timeframe, minute: int, year: int) -> None:
    sunday = next(day for day in range(1, 8) if datetime(year, 11, day, tzinfo=UTC).weekday() == 6)
    time = utc_ms(year, 11, sunday, 3) + minute * 60_000
    opened = period_open_utc_ms(frame, time, rule=NY)
    assert frame.open_time_ms(NY.to_server_ms(opened)) == NY.to_server_ms(opened)
    assert opened <= time
    assert period_opens_utc_ms(frame, np.array([time]), rule=NY).tolist() == [opened]


def build(ticks: list[tuple[int, float, float]], **kwargs: object) -> tuple[list[Bar], BarBuilder]:
    builder = BarBuilder(Timeframe.parse("M1"), point=0.1, **kwargs)  # type: ignore[arg-type]
    return [bar for tick in ticks if (bar := builder.add(*tick)) is not None], builder


def test_bar_completes_when_the_next_period_begins() -> None:
    bars, builder = build([(1_000, 5.0, 5.2), (30_000, 7.0, 7.1), (59_999, 4.0, 4.5), (60_000, 6.0, 6.1)])
    assert bars == [Bar(0, 5.0, 7.0, 4.0, 4.0, 3, 1)]
    assert builder.forming == Bar(60_000, 6.0, 6.0, 6.0, 6.0, 1, 1)


def test_periods_without_ticks_have_no_bar() -> None:
    bars, _ = build([(0, 1.0, 1.1), (600_000, 2.0, 2.1), (660_000, 3.0, 3.1)])
    assert [bar.open_time_ms for bar in bars] == [0, 600_000]


def test_late_ticks_and_ticks_without_a_bid_are_counted() -> None:
    bars, builder = build([(60_000, 1.0, 1.1), (59_999, 9.0, 9.1), (61_000, 0.0, 1.1), (61_000, float("nan"), 1.0)])
    assert bars == []
    assert builder.forming == Bar(60_000, 1.0, 1.0, 1.0, 1.0, 1, 1)
    assert builder.skipped == 3


def test_crossed_quote_has_no_spread() -> None:
    _, builder = build([(0, 2.0, 1.0), (1, 1.0, float("nan"))])
    assert builder.forming is not None
    assert builder.forming.spread_points == 0


@pytest.mark.parametrize("point", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_point_is_refused(point: float) -> None:
    with pytest.raises(ValueError, match="point"):
        BarBuilder(Timeframe.parse("M1"), point=point)


prices = st.one_of(st.integers(1, 50).map(float), st.just(0.0), st.just(float("nan")), st.just(float("inf")))
tick_lists = st.lists(
    st.tuples(st.integers(0, 400_000), prices, prices),
    max_size=60,
).flatmap(lambda ticks: st.sampled_from([ticks, sorted(ticks, key=lambda tick: tick[0])]))


@given(
    ticks=tick_lists,
    cuts=st.lists(st.integers(0, 60), max_size=6),
    frame=st.sampled_from(["S5", "S30", "M1", "H1", "D1"]),
    start=st.sampled_from([0, utc_ms(2025, 11, 2, 5, 58), utc_ms(2025, 3, 9, 6, 58)]),
)
def test_bars_are_the_same_for_any_split_of_the_ticks(
    ticks: list[tuple[int, float, float]], cuts: list[int], frame: str, start: int
) -> None:
    ticks = [(start + time, bid, ask) for time, bid, ask in ticks]
    single = BarBuilder(Timeframe.parse(frame), point=0.5, rule=NY)
    expected = [bar for tick in ticks if (bar := single.add(*tick)) is not None]
    blocks = BarBuilder(Timeframe.parse(frame), point=0.5, rule=NY)
    got: list[Bar] = []
    edges = sorted({0, len(ticks), *(min(cut, len(ticks)) for cut in cuts)})
    for begin, end in pairwise(edges):
        part = ticks[begin:end]
        times = np.array([tick[0] for tick in part], dtype=np.int64)
        bids, asks = (np.array([tick[side] for tick in part], dtype=np.float64) for side in (1, 2))
        got += blocks.add_block(times, bids, asks)
    assert (got, blocks.forming, blocks.skipped) == (expected, single.forming, single.skipped)


@given(ticks=tick_lists)
def test_every_usable_tick_is_in_exactly_one_bar(ticks: list[tuple[int, float, float]]) -> None:
    bars, builder = build(sorted(ticks, key=lambda tick: tick[0]))
    whole = [*bars, *([builder.forming] if builder.forming else [])]
    assert sum(bar.tick_volume for bar in whole) + builder.skipped == len(ticks)
    assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in whole)
    assert [bar.open_time_ms for bar in whole] == sorted({bar.open_time_ms for bar in whole})


def test_bar_travels_as_an_array_and_grows_at_the_end() -> None:
    bar = Bar(60_000, 1.0, 2.0, 0.5, 1.5, 3, 8)
    wire = msgspec.msgpack.encode(bar)
    assert msgspec.msgpack.decode(wire) == [60_000, 1.0, 2.0, 0.5, 1.5, 3, 8, 0]
    assert msgspec.msgpack.decode(wire, type=Bar) == bar
    longer = msgspec.msgpack.encode([60_000, 1.0, 2.0, 0.5, 1.5, 3, 8, 0, "from a later version"])
    assert msgspec.msgpack.decode(longer, type=Bar) == bar
