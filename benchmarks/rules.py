"""The pure rules: bars from ticks, features from bars, beside bare NumPy, bare Python and bare TA-Lib."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import talib
from numpy.typing import NDArray

from benchmarks.rows import Row, in_turn
from market.bars import Bar, BarBuilder, Timeframe
from market.features import DEFAULT_PARAMS, BarArrays, compute_features
from market.server_time import ServerTimeRule

ROUNDS = 5
_FIRST_MS = 1_700_000_000_000
_PERIOD = Timeframe.parse("M1")
_POINT = 0.00001
_RULE = ServerTimeRule.parse("ny+7")

Ticks = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of the rules. `quick` does a tenth."""
    scale, rounds = (10, 1) if quick else (1, ROUNDS)
    return [
        _block_row(_ticks(1_000_000 // scale), rounds),
        _tick_row(_ticks(200_000 // scale), rounds),
        _feature_row(2_000 // scale, rounds),
    ]


def _ticks(count: int) -> Ticks:
    random = np.random.default_rng(1)
    times = _FIRST_MS + np.cumsum(random.integers(1, 500, count))
    bids = np.round(1.1 + np.cumsum(random.normal(0.0, _POINT, count)), 5)
    return times, bids, bids + 8 * _POINT


def _block_row(ticks: Ticks, rounds: int) -> Row:
    pair = in_turn(
        lambda: _rate(len(ticks[0]), lambda: _bare_bars(*ticks)),
        lambda: _rate(len(ticks[0]), lambda: BarBuilder(_PERIOD, point=_POINT, rule=_RULE).add_block(*ticks)),
        rounds=rounds,
        higher_is_better=True,
    )
    return Row("ticks a second into M1 bars, a block at once", "/s", *pair, "bare NumPy", higher_is_better=True)


def _tick_row(ticks: Ticks, rounds: int) -> Row:
    plain = list(zip(*(column.tolist() for column in ticks), strict=True))

    def ours() -> None:
        builder = BarBuilder(_PERIOD, point=_POINT, rule=_RULE)
        for tick in plain:
            builder.add(*tick)

    pair = in_turn(
        lambda: _rate(len(plain), lambda: _bare_loop(plain)),
        lambda: _rate(len(plain), ours),
        rounds=rounds,
        higher_is_better=True,
    )
    return Row("ticks a second into M1 bars, one by one", "/s", *pair, "bare Python loop", higher_is_better=True)


def _feature_row(count: int, rounds: int) -> Row:
    builder = BarBuilder(_PERIOD, point=_POINT)
    bars = builder.add_block(*_ticks(DEFAULT_PARAMS.window * 300))[: DEFAULT_PARAMS.window]
    arrays = BarArrays.of(bars, point=_POINT)
    pair = in_turn(
        lambda: _median_us(count, lambda: _bare_indicators(arrays)),
        lambda: _median_us(count, lambda: compute_features(BarArrays.of(bars, point=_POINT))),
        rounds=rounds,
    )
    return Row("features of one bar, from a list of bars", "us", *pair, "the same TA-Lib calls, bare")


def _rate(count: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


def _median_us(count: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times) / 1e3


def _bare_bars(times: NDArray[np.int64], bids: NDArray[np.float64], asks: NDArray[np.float64]) -> int:
    """Group by minute as one would in a notebook: no server clock, nothing checked."""
    opens = times - times % _PERIOD.milliseconds
    first = np.flatnonzero(np.concatenate(([True], opens[1:] != opens[:-1])))
    high, low = np.maximum.reduceat(bids, first), np.minimum.reduceat(bids, first)
    spreads = np.minimum.reduceat(np.rint((asks - bids) / _POINT).astype(np.int64), first)
    columns = (opens[first], bids[first], high, low, bids[np.append(first[1:], len(bids)) - 1])
    return len(list(zip(*(column.tolist() for column in columns), spreads.tolist(), strict=True)))


def _bare_loop(ticks: list[tuple[int, float, float]]) -> list[Bar]:
    bars: list[Bar] = []
    end = opened = count = 0
    first = high = low = last = least = 0.0
    for time_ms, bid, ask in ticks:
        if time_ms >= end:
            if count:
                bars.append(Bar(opened, first, high, low, last, count, round(least / _POINT)))
            opened = time_ms - time_ms % _PERIOD.milliseconds
            end = opened + _PERIOD.milliseconds
            first, high, low, count, least = bid, bid, bid, 0, ask - bid
        high, low = max(high, bid), min(low, bid)
        least = min(least, ask - bid)
        last = bid
        count += 1
    return bars


def _bare_indicators(bars: BarArrays) -> None:
    params, (high, low, close) = DEFAULT_PARAMS, (bars.high, bars.low, bars.close)
    talib.ATR(high, low, close, params.atr)
    talib.EMA(close, params.ema_fast)
    talib.EMA(close, params.ema_slow)
    talib.MACD(close, params.ema_fast, params.ema_slow, params.macd_signal)
    talib.BBANDS(close, params.bollinger, params.bollinger_deviations, params.bollinger_deviations)
    talib.ADX(high, low, close, params.adx)
    talib.RSI(close, params.rsi)
    talib.ROC(close, params.roc)
