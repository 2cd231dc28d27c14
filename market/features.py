"""Feature functions: what a strategy sees of its bars, computed the same way in serving and in training.

The features of a bar are a function of the last `FeatureParams.window` bars up to it and of nothing else. So it
does not matter how much history was at hand: a strategy that has just warmed up, one that ran for a week and a
training run over a year get the same numbers, bit for bit. (TA-Lib's smoothed indicators remember their whole
input; the window bounds that memory.) No later bar is ever looked at.

This module needs TA-Lib; nothing else in `market` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import talib
from numpy.typing import NDArray

from market.bars import Bar

Floats = NDArray[np.float64]

FEATURE_NAMES: Final = (
    "ema_gap",
    "adx",
    "rsi",
    "macd_hist",
    "roc",
    "atr",
    "atr_ratio",
    "bollinger_width",
    "bollinger_position",
    "hour_sin",
    "hour_cos",
    "spread_ratio",
)
"""Order of the features in arrays.

| name | meaning | unit |
|---|---|---|
| ema_gap | fast EMA less slow EMA | ATRs |
| adx | strength of the trend, whatever its direction | 0 to 100 |
| rsi | relative strength index; 50 when nothing moved | 0 to 100 |
| macd_hist | MACD less its signal line | ATRs |
| roc | rate of change of the close | percent |
| atr | average true range | price |
| atr_ratio | ATR over close | fraction |
| bollinger_width | width of the bands over the middle one | fraction |
| bollinger_position | 0 at the lower band, 1 at the upper one, may lie outside; 0.5 without width | |
| hour_sin, hour_cos | time of day of the bar's opening, UTC, on a circle | -1 to 1 |
| spread_ratio | lowest spread of the bar | ATRs |

What is measured in ATRs is 0 while the ATR is 0 (a market that stands still).
"""

_DAY_MS = 86_400_000
# Wilder's and exponential smoothing forget by a constant factor a bar: after this many periods what is older
# weighs less than one percent.
_PERIODS_REMEMBERED = 5
# TA-Lib's variance of equal closes is not quite zero; bands narrower than its noise have no width.
_LEAST_RELATIVE_WIDTH = 1e-7


class FeatureParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Periods of the indicators, in bars."""

    ema_fast: int = 12
    ema_slow: int = 26
    macd_signal: int = 9
    adx: int = 14
    rsi: int = 14
    roc: int = 10
    atr: int = 14
    bollinger: int = 20
    bollinger_deviations: float = 2.0

    def __post_init__(self) -> None:
        for name in ("ema_fast", "ema_slow", "macd_signal", "adx", "rsi", "roc", "atr", "bollinger"):
            if not 2 <= getattr(self, name) <= 1000:
                raise ValueError(f"feature parameter {name} must be 2 to 1000 bars, got {getattr(self, name)!r}")
        if self.ema_fast >= self.ema_slow:
            raise ValueError(f"ema_fast ({self.ema_fast}) must be less than ema_slow ({self.ema_slow})")
        if not 0 < self.bollinger_deviations <= 10:
            raise ValueError(f"bollinger_deviations must be above 0, at most 10; got {self.bollinger_deviations!r}")

    @property
    def window(self) -> int:
        """Bars a row of features is computed from: the warm-up. 139 with the defaults."""
        longest = max(self.ema_slow, self.adx, self.rsi, self.roc, self.atr, self.bollinger)
        return _PERIODS_REMEMBERED * longest + self.macd_signal


DEFAULT_PARAMS: Final = FeatureParams()


class BarArrays(msgspec.Struct, frozen=True):
    """Bars as columns of equal length, oldest first."""

    open_time_ms: NDArray[np.int64]
    """UTC."""
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    tick_volume: Floats
    spread: Floats
    """Price units."""

    @staticmethod
    def of(bars: Sequence[Bar], *, point: float) -> BarArrays:
        """Return the bars as columns.

        Args:
            bars: Oldest first.
            point: Price of one point, to turn the spread into a price.
        """
        columns = {
            name: np.array([getattr(bar, name) for bar in bars], dtype=np.float64)
            for name in ("open", "high", "low", "close", "tick_volume")
        }
        return BarArrays(
            open_time_ms=np.array([bar.open_time_ms for bar in bars], dtype=np.int64),
            spread=np.array([bar.spread_points for bar in bars], dtype=np.float64) * point,
            **columns,
        )

    def __len__(self) -> int:
        return len(self.open_time_ms)


def compute_features(bars: BarArrays, params: FeatureParams = DEFAULT_PARAMS) -> dict[str, float]:
    """Return the features of the newest bar by name, in the order of `FEATURE_NAMES`.

    Raises:
        ValueError: fewer bars than `params.window`, columns of unequal length, or a price that is no number.
    """
    _check(bars)
    if len(bars) < params.window:
        raise ValueError(f"features need {params.window} bars to warm up, got {len(bars)}")
    return dict(zip(FEATURE_NAMES, _row(bars, len(bars), params), strict=True))


def feature_rows(bars: BarArrays, params: FeatureParams = DEFAULT_PARAMS) -> Floats:
    """Return the features of every bar, shape (n_rows, n_features), columns as in `FEATURE_NAMES`.

    Each row is what `compute_features` gives when that bar is the newest. Rows before the window is full are NaN. Takes
    about 30 µs a row.

    Raises:
        ValueError: columns of unequal length, or a price that is no number.
    """
    _check(bars)
    rows = np.full((len(bars), len(FEATURE_NAMES)), math.nan)
    for end in range(params.window, len(bars) + 1):
        rows[end - 1] = _row(bars, end, params)
    return rows


def _check(bars: BarArrays) -> None:
    for name in ("open", "high", "low", "close", "tick_volume", "spread"):
        column = getattr(bars, name)
        if len(column) != len(bars):
            raise ValueError(f"bar column {name} has {len(column)} rows, open_time_ms has {len(bars)}")
        if not np.isfinite(column).all():
            raise ValueError(f"bar column {name} holds values that are no numbers")


def _row(bars: BarArrays, end: int, params: FeatureParams) -> tuple[float, ...]:
    """Compute the features of bar `end - 1` from its window."""
    window = slice(end - params.window, end)
    # TA-Lib wants contiguous doubles; this copies only where a column is neither.
    high, low, close = (
        np.ascontiguousarray(column[window], dtype=np.float64) for column in (bars.high, bars.low, bars.close)
    )
    last = float(close[-1])
    atr = float(talib.ATR(high, low, close, params.atr)[-1])
    fast, slow = (float(talib.EMA(close, period)[-1]) for period in (params.ema_fast, params.ema_slow))
    histogram = float(talib.MACD(close, params.ema_fast, params.ema_slow, params.macd_signal)[2][-1])
    deviations = params.bollinger_deviations
    bands = talib.BBANDS(close, params.bollinger, deviations, deviations)
    upper, middle, lower = (float(band[-1]) for band in bands)
    width = upper - lower if upper - lower > _LEAST_RELATIVE_WIDTH * middle else 0.0
    hour_angle = float(bars.open_time_ms[end - 1] % _DAY_MS) / _DAY_MS * math.tau
    return (
        _ratio(fast - slow, atr),
        float(talib.ADX(high, low, close, params.adx)[-1]),
        float(talib.RSI(close, params.rsi)[-1]) if atr > 0 else 50.0,
        _ratio(histogram, atr),
        float(talib.ROC(close, params.roc)[-1]),
        atr,
        _ratio(atr, last),
        _ratio(width, middle),
        _ratio(last - lower, width, otherwise=0.5),
        math.sin(hour_angle),
        math.cos(hour_angle),
        _ratio(float(bars.spread[end - 1]), atr),
    )


def _ratio(value: float, unit: float, *, otherwise: float = 0.0) -> float:
    return value / unit if unit > 0 else otherwise
